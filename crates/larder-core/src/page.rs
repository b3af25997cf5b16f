// SPDX-License-Identifier: Apache-2.0
//! Page and segment arithmetic. A page is the unit of presence and checksum, a segment the unit
//! of placement and eviction.

use serde::{Deserialize, Serialize};

use crate::ByteRange;

/// Bytes of a page: 64 KiB. Measured against DuckDB's request log (DESIGN §13): 3% more bytes
/// and 20% fewer requests than going direct.
pub const PAGE_SIZE: u64 = 64 << 10;
/// Bytes of a segment: 16 MiB.
pub const SEGMENT_SIZE: u64 = 16 << 20;
/// Pages of a segment.
pub const SEGMENT_PAGES: u32 = (SEGMENT_SIZE / PAGE_SIZE) as u32;

/// Extents end where a run of so many pages, counted from the start of the file, does: 4 MiB.
pub const EXTENT_PAGES: u32 = 64;
/// The longest file Larder addresses: page indexes have 32 bits.
pub const FILE_LENGTH_MAX: u64 = PAGE_SIZE * u32::MAX as u64;

/// The number of a page within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PageIndex(pub u32);

/// The number of a segment within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentIndex(pub u32);

impl PageIndex {
    /// The page that holds the byte at `offset` (below [`FILE_LENGTH_MAX`]).
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self(u32::try_from(offset / PAGE_SIZE).expect("offsets are below FILE_LENGTH_MAX"))
    }

    /// Where the page starts in its file.
    #[must_use]
    pub fn start(self) -> u64 {
        u64::from(self.0) * PAGE_SIZE
    }

    /// The bytes of this page in a file of `length` bytes; empty when it lies behind the end.
    #[must_use]
    pub fn range(self, length: u64) -> ByteRange {
        let start = self.start().min(length);
        ByteRange { start, end: (self.start() + PAGE_SIZE).min(length) }
    }

    /// The segment this page belongs to.
    #[must_use]
    pub fn segment(self) -> SegmentIndex {
        SegmentIndex(self.0 / SEGMENT_PAGES)
    }

    /// The number of this page within its segment.
    #[must_use]
    pub fn in_segment(self) -> u32 {
        self.0 % SEGMENT_PAGES
    }

    /// The page after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl SegmentIndex {
    /// The first page of the segment.
    #[must_use]
    pub fn first_page(self) -> PageIndex {
        PageIndex(self.0 * SEGMENT_PAGES)
    }
}

/// The pages that `range` touches, first to one behind last. Empty for an empty range.
#[must_use]
pub fn pages_of(range: ByteRange) -> std::ops::Range<u32> {
    if range.is_empty() {
        return 0..0;
    }
    PageIndex::at(range.start).0..PageIndex::at(range.end - 1).0 + 1
}

/// `range` widened to whole pages of a file of `length` bytes.
#[must_use]
pub fn align(range: ByteRange, length: u64) -> ByteRange {
    let pages = pages_of(range);
    if pages.is_empty() {
        return ByteRange { start: range.start, end: range.start };
    }
    let end = (u64::from(pages.end) * PAGE_SIZE).min(length);
    ByteRange { start: u64::from(pages.start) * PAGE_SIZE, end: end.max(range.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_their_range() {
        let range = |start, end| ByteRange { start, end };
        assert_eq!(pages_of(range(0, 0)), 0..0);
        assert_eq!(pages_of(range(0, 1)), 0..1);
        assert_eq!(pages_of(range(PAGE_SIZE - 1, PAGE_SIZE + 1)), 0..2);
        assert_eq!(align(range(1, 2), 10), range(0, 10));
        assert_eq!(
            align(range(PAGE_SIZE, PAGE_SIZE + 1), 1 << 20),
            range(PAGE_SIZE, 2 * PAGE_SIZE)
        );
        assert_eq!(PageIndex(256).segment(), SegmentIndex(1));
        assert_eq!(PageIndex(257).in_segment(), 1);
        assert_eq!(PageIndex(1).range(PAGE_SIZE + 5).length(), 5);
        assert!(PageIndex(2).range(PAGE_SIZE + 5).is_empty());
    }
}
