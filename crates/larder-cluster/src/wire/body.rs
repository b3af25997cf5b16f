// SPDX-License-Identifier: Apache-2.0
//! The body of a read reply.

use bytes::Bytes;
use futures::stream::BoxStream;
use larder_core::{ByteRange, Extent, Lease, Result};

/// A piece of a body. Pieces come in file order without a gap or an overlap.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes on their way from the under storage.
    Bytes(StreamedBytes),
    /// Resident pages: read them from the descriptor, compare the checksums, then use `part`.
    Resident {
        /// Where the pages lie; covers `part`, widened to whole pages.
        extent: Extent,
        /// The bytes the reader asked for.
        part: ByteRange,
    },
}

/// Bytes in memory that count against a budget until they are dropped.
#[derive(Debug)]
pub struct StreamedBytes {
    /// The bytes.
    pub bytes: Bytes,
    /// Their share of the memory budget, where the sender holds one.
    pub lease: Option<std::sync::Arc<Lease>>,
}

impl Chunk {
    /// How many bytes of the answer the chunk stands for.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(streamed) => streamed.bytes.len() as u64,
            Self::Resident { part, .. } => part.length(),
        }
    }
}

/// Chunks in order. An error ends the body; a body that ends early ends with an error.
pub type Body = BoxStream<'static, Result<Chunk>>;
