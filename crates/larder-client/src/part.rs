// SPDX-License-Identifier: Apache-2.0
//! Reading any bytes of a run of pages, each compared with a checksum before it is used.
//!
//! Whole pages go straight into place and are compared by their own checksum. Of a page that is
//! cut only the blocks that are touched are read, as soon as their checksums are known: those are
//! derived when the page is first compared, whole, from the very bytes that were compared, and
//! prove what they were derived from. So a small read costs a small read from then on.

use std::{
    fs::File,
    io::IoSliceMut,
    sync::{Arc, OnceLock},
};

use larder_core::{
    ByteRange, Extent, Lease, MemoryBudget, PAGE_SIZE, PageIndex,
    checksum::{BLOCK_SIZE, BlockSums, crc32c_of_parts},
    crc32c,
    page::{self, EXTENT_PAGES},
};
use rustix::io::preadv;

use crate::extent::{Verified, read_to_end};

/// Whole pages are read and compared so many bytes at a time, while they are in the CPU's cache.
const STEP: u64 = 4 * PAGE_SIZE;
/// What else a table of block checksums, and whoever keeps it, takes in memory.
const OVERHEAD: usize = 512;

/// The checksums of blocks that were derived, for the pages of one extent at most. Bounded by the
/// lease it holds.
#[derive(Debug)]
pub(crate) struct Blocks {
    pages: Box<[OnceLock<BlockSums>]>,
    _lease: Lease,
}

impl Blocks {
    /// Bytes of memory that a table for so many pages takes.
    pub(crate) fn size(pages: usize) -> u64 {
        (pages * size_of::<OnceLock<BlockSums>>() + OVERHEAD) as u64
    }

    /// A table for so many pages that knows nothing yet; `None` while memory is short.
    pub(crate) fn new(pages: usize, budget: &MemoryBudget) -> Option<Arc<Self>> {
        if budget.used() > budget.total() / 2 {
            return None;
        }
        let lease = budget.try_acquire(Self::size(pages))?;
        let pages = (0..pages).map(|_| OnceLock::new()).collect();
        Some(Arc::new(Self { pages, _lease: lease }))
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Whether what is known of `page`, if anything, is of bytes with this checksum.
    pub(crate) fn fits(&self, page: PageIndex, checksum: u32) -> bool {
        let known = self.place(page).and_then(OnceLock::get);
        known.is_none_or(|sums| sums.page() == checksum)
    }

    /// What is known of a page whose bytes have this checksum.
    fn known(&self, page: PageIndex, checksum: u32) -> Option<&BlockSums> {
        self.place(page)?.get().filter(|sums| sums.page() == checksum)
    }

    fn keep(&self, page: PageIndex, sums: BlockSums) {
        if let Some(place) = self.place(page) {
            // Another thread may have been quicker, with the same.
            let _ = place.set(sums);
        }
    }

    fn place(&self, page: PageIndex) -> Option<&OnceLock<BlockSums>> {
        self.pages.get((page.0 % EXTENT_PAGES) as usize)
    }
}

/// Pages that lie one after the other in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) file: &'a File,
    /// Where the first of them starts in the file.
    pub(crate) offset: u64,
    /// Which bytes of the content they are.
    pub(crate) range: ByteRange,
    pub(crate) checksums: &'a [u32],
    pub(crate) blocks: Option<&'a Blocks>,
}

impl<'a> Run<'a> {
    pub(crate) fn of(extent: &'a Extent, blocks: Option<&'a Blocks>) -> Self {
        let Extent { file, offset, range, checksums, .. } = extent;
        Self { file, offset: *offset, range: *range, checksums, blocks }
    }

    fn offset_of(&self, position: u64) -> u64 {
        self.offset + (position - self.range.start)
    }

    fn checksum(&self, page: PageIndex) -> Option<u32> {
        let at = page.0.checked_sub(PageIndex::at(self.range.start).0)?;
        self.checksums.get(at as usize).copied()
    }

    /// Reads `part` of the run, which is as long as `into`.
    pub(crate) fn read(&self, part: ByteRange, into: &mut [u8]) -> Verified {
        let mut at = part.start;
        while at < part.end {
            let page = PageIndex::at(at).range(self.range.end);
            let whole_end =
                if part.end == self.range.end { part.end } else { part.end - part.end % PAGE_SIZE };
            let is_cut = at > page.start || part.end < page.end;
            let end = if is_cut { part.end.min(page.end) } else { whole_end.min(at + STEP) };
            let piece = ByteRange::new(at, end);
            let target = &mut into[length(ByteRange::new(part.start, at))..][..length(piece)];
            let verdict =
                if is_cut { self.read_cut(piece, target) } else { self.read_pages(piece, target) };
            if let bad @ Verified::Bad(_) = verdict {
                return bad;
            }
            at = end;
        }
        Verified::Good
    }

    fn read_pages(&self, pages: ByteRange, into: &mut [u8]) -> Verified {
        let filled = read_to_end(self.file, into, 0, self.offset_of(pages.start));
        self.verify(pages, &into[..filled])
    }

    /// Compares each page of `pages` with its checksum; bytes that are missing are wrong.
    pub(crate) fn verify(&self, pages: ByteRange, bytes: &[u8]) -> Verified {
        let mut bad = Vec::new();
        let mut start = pages.start;
        while start < pages.end {
            let page = PageIndex::at(start);
            let end = (start + PAGE_SIZE).min(pages.end);
            let from = length(ByteRange::new(pages.start, start));
            let actual = bytes.get(from..from + length(ByteRange::new(start, end))).map(crc32c);
            if actual.is_none() || actual != self.checksum(page) {
                bad.push(page);
            }
            start = end;
        }
        if bad.is_empty() { Verified::Good } else { Verified::Bad(bad) }
    }

    /// Reads a part of one page.
    fn read_cut(&self, part: ByteRange, into: &mut [u8]) -> Verified {
        let page = PageIndex::at(part.start);
        let Some(checksum) = self.checksum(page) else { return Verified::Bad(vec![page]) };
        let known = self.blocks.and_then(|blocks| blocks.known(page, checksum));
        if known.is_some_and(|sums| self.read_blocks(sums, part, into)) {
            return Verified::Good;
        }
        let whole = page::align(part, self.range.end);
        let mut buffer = vec![0; length(whole)];
        let filled = read_to_end(self.file, &mut buffer, 0, self.offset_of(whole.start));
        let is_good = filled == buffer.len()
            && match self.blocks {
                Some(blocks) => {
                    let sums = BlockSums::of(&buffer);
                    let is_good = sums.page() == checksum;
                    if is_good {
                        blocks.keep(page, sums);
                    }
                    is_good
                }
                None => crc32c(&buffer) == checksum,
            };
        if !is_good {
            return Verified::Bad(vec![page]);
        }
        let from = length(ByteRange::new(whole.start, part.start));
        into.copy_from_slice(&buffer[from..from + into.len()]);
        Verified::Good
    }

    /// Reads the blocks that `part` of a page touches; `false` unless each is what it should be.
    fn read_blocks(&self, sums: &BlockSums, part: ByteRange, into: &mut [u8]) -> bool {
        let page = PageIndex::at(part.start).range(self.range.end);
        let start = part.start - part.start % BLOCK_SIZE;
        let end = part.end.next_multiple_of(BLOCK_SIZE).min(page.end);
        let first = length(ByteRange::new(page.start, start)) / BLOCK_SIZE as usize;
        let (before, behind) = (ByteRange::new(start, part.start), ByteRange::new(part.end, end));
        if before.is_empty() && behind.is_empty() {
            return read_to_end(self.file, into, 0, self.offset_of(start)) == into.len()
                && are_good(sums, first, [&[], into, &[]]);
        }
        let (mut front, mut back) = ([0; BLOCK_SIZE as usize], [0; BLOCK_SIZE as usize]);
        let (front, back) = (&mut front[..length(before)], &mut back[..length(behind)]);
        let mut parts = [IoSliceMut::new(front), IoSliceMut::new(into), IoSliceMut::new(back)];
        let wanted = length(ByteRange::new(start, end));
        preadv(self.file, &mut parts, self.offset_of(start)) == Ok(wanted)
            && are_good(sums, first, [front, into, back])
    }
}

/// Compares blocks of a page, from number `first` on, with their checksums. The first begins with
/// `front`, the last ends with `back`.
fn are_good(sums: &BlockSums, first: usize, [front, middle, back]: [&[u8]; 3]) -> bool {
    let (mut front, mut rest) = (front, middle);
    let mut at = first;
    while !(front.is_empty() && rest.is_empty()) {
        let (mine, after) = rest.split_at((BLOCK_SIZE as usize - front.len()).min(rest.len()));
        let end: &[u8] = if after.is_empty() { back } else { &[] };
        let sum = if front.is_empty() && end.is_empty() {
            crc32c(mine)
        } else {
            crc32c_of_parts([front, mine, end])
        };
        if sums.block(at) != Some(sum) {
            return false;
        }
        (front, rest, at) = (&[], after, at + 1);
    }
    true
}

fn length(range: ByteRange) -> usize {
    usize::try_from(range.length()).expect("no longer than a slice in memory")
}
