// SPDX-License-Identifier: Apache-2.0
//! A set of the pages of one segment: one bit each, and what they cost on disk.

use std::ops::Range;

use larder_core::{PAGE_SIZE, PageIndex, SEGMENT_PAGES, SegmentIndex};

/// Local file systems allocate in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 4096;

const WORDS: usize = SEGMENT_PAGES as usize / 64;

/// Which pages of a segment; numbers are those of [`PageIndex::in_segment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PageSet([u64; WORDS]);

impl PageSet {
    /// How many bytes the set takes when written down.
    pub(crate) const ENCODED: usize = WORDS * 8;

    /// Every page of a segment.
    pub(crate) fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// These pages.
    pub(crate) fn of(pages: Range<u32>) -> Self {
        Self(std::array::from_fn(|word| {
            let first = word as u32 * 64;
            let bit = |page: u32| page.clamp(first, first + 64) - first;
            below(bit(pages.end)) & !below(bit(pages.start))
        }))
    }

    pub(crate) fn contains(&self, page: u32) -> bool {
        self.0[page as usize / 64] & (1 << (page % 64)) != 0
    }

    pub(crate) fn insert(&mut self, page: u32) {
        self.0[page as usize / 64] |= 1 << (page % 64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// How many pages below `page` are in the set.
    pub(crate) fn rank(&self, page: u32) -> usize {
        let word = page as usize / 64;
        let below: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        let mask = (1_u64 << (page % 64)) - 1;
        (below + (self.0[word] & mask).count_ones()) as usize
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The members within `window`.
    pub(crate) fn within(&self, window: Range<u32>) -> Self {
        self.and(&Self::of(window))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs(SEGMENT_PAGES).flatten()
    }

    /// The members as runs of consecutive pages, in order. None crosses a multiple of `longest`.
    pub(crate) fn runs(&self, longest: u32) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            let border = (start / longest + 1) * longest;
            let end = self.next(start, false).unwrap_or(SEGMENT_PAGES).min(border);
            at = end;
            Some(start..end)
        })
    }

    /// The first page from `from` on that is a member, or is not.
    fn next(&self, from: u32, is_member: bool) -> Option<u32> {
        let mut mask = !below(from % 64);
        for word in from as usize / 64..WORDS {
            let bits = if is_member { self.0[word] } else { !self.0[word] } & mask;
            if bits != 0 {
                return Some(word as u32 * 64 + bits.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// What the pages take on disk, in a content of `length` bytes.
    pub(crate) fn cost(&self, segment: SegmentIndex, length: u64) -> u64 {
        let mut cost = u64::from(self.count()) * PAGE_SIZE;
        if let Some(last) = length.checked_sub(1).map(PageIndex::at)
            && last.segment() == segment
            && self.contains(last.in_segment())
        {
            cost = cost - PAGE_SIZE + last.range(length).length().div_ceil(BLOCK) * BLOCK;
        }
        cost
    }

    /// The pages that a segment of a content of `length` bytes can have at all.
    pub(crate) fn possible(segment: SegmentIndex, length: u64) -> Range<u32> {
        let pages = length.div_ceil(PAGE_SIZE);
        let before = u64::from(segment.0) * u64::from(SEGMENT_PAGES);
        let count = pages.saturating_sub(before).min(u64::from(SEGMENT_PAGES));
        0..u32::try_from(count).expect("at most the pages of a segment")
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::ENCODED]) -> Self {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes"));
        }
        Self(words)
    }
}

/// The lowest `bits` of a word.
fn below(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1)
}

impl FromIterator<u32> for PageSet {
    fn from_iter<I: IntoIterator<Item = u32>>(pages: I) -> Self {
        let mut set = Self::default();
        for page in pages {
            set.insert(page);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_ranks() {
        let set: PageSet = [0, 1, 2, 3, 63, 64, 255].into_iter().collect();
        let runs = |longest| set.runs(longest).collect::<Vec<_>>();
        assert_eq!(runs(3), [0..3, 3..4, 63..65, 255..256]);
        assert_eq!(runs(64), [0..4, 63..64, 64..65, 255..256]);
        assert_eq!(runs(SEGMENT_PAGES), [0..4, 63..65, 255..256]);
        assert!(PageSet::all().runs(SEGMENT_PAGES).eq(std::iter::once(0..SEGMENT_PAGES)));
        assert_eq!(PageSet::default().runs(1).next(), None);
        assert_eq!(set.rank(0), 0);
        assert_eq!(set.rank(64), 5);
        assert_eq!(set.rank(255), 6);
        assert_eq!(PageSet::from_bytes(&set.to_bytes()), set);
        for pages in [0..0, 0..1, 63..64, 3..65, 64..128, 0..256, 255..256, 7..7] {
            assert_eq!(PageSet::of(pages.clone()), pages.collect());
        }
        assert_eq!(set.within(2..64).iter().collect::<Vec<_>>(), [2, 3, 63]);
    }

    #[test]
    fn the_last_page_costs_whole_blocks() {
        let set: PageSet = [0, 1].into_iter().collect();
        let segment = SegmentIndex(0);
        assert_eq!(set.cost(segment, PAGE_SIZE + 1), PAGE_SIZE + BLOCK);
        assert_eq!(set.cost(segment, 2 * PAGE_SIZE), 2 * PAGE_SIZE);
        assert_eq!(set.cost(segment, 1 << 40), 2 * PAGE_SIZE);
        assert_eq!(PageSet::possible(SegmentIndex(1), (16 << 20) + 1), 0..1);
        assert_eq!(PageSet::possible(SegmentIndex(2), (16 << 20) + 1), 0..0);
    }
}
