// SPDX-License-Identifier: Apache-2.0
//! The bytes of a page that is to be kept, in the pieces in which they came.
//!
//! A page is cut out of whatever chunks the store sent, and those are shared with the readers. To
//! join them would cost a copy; one gathered write takes them as they are.

use bytes::Bytes;
use larder_core::{checksum::crc32c_of_parts, crc32c};

/// Pieces of memory that follow each other.
#[derive(Debug, Clone, Default)]
pub struct PageBytes(Vec<Bytes>);

impl PageBytes {
    /// Adds the bytes that follow.
    pub fn push(&mut self, part: Bytes) {
        self.0.push(part);
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// The pieces in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|part| &part[..])
    }

    /// CRC-32C of all of them.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        match &self.0[..] {
            [whole] => crc32c(whole),
            _ => crc32c_of_parts(self.parts()),
        }
    }
}

impl From<Bytes> for PageBytes {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}
