// SPDX-License-Identifier: Apache-2.0
//! Where resident bytes lie on this machine: the one thing the page store hands to a reader.

use std::{any::Any, fmt, fs::File, sync::Arc};

use crate::{ByteRange, PAGE_SIZE};

/// A run of resident pages: whole pages of one file version that lie one after the other in one
/// local file, with the checksum of each.
///
/// The reader reads `range.length()` bytes at `offset` of `file`, compares each page with its
/// checksum, and only then uses the part it was asked for. The pages stay what they are for as
/// long as the extent lives, whatever is evicted meanwhile.
#[derive(Clone)]
pub struct Extent {
    /// The local file that holds the pages.
    pub file: Arc<File>,
    /// Where the first page starts in `file`.
    pub offset: u64,
    /// Which bytes of the file version these are: starts on a page, ends on a page or at the end.
    pub range: ByteRange,
    /// CRC-32C of each page, in order.
    pub checksums: Box<[u32]>,
    /// Keeps the pages in place until the last reader drops it.
    pub hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl Extent {
    /// Whether there is one checksum for each page of `range`.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.range.start.is_multiple_of(PAGE_SIZE)
            && self.range.length().div_ceil(PAGE_SIZE) == self.checksums.len() as u64
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent")
            .field("offset", &self.offset)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
