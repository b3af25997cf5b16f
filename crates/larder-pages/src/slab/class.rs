// SPDX-License-Identifier: Apache-2.0
//! Size classes, and where things lie in a slab of each.
//!
//! ```text
//! header 32 · an entry of 32 bytes per slot · padding to a block · slots, one after the other
//! ```
//!
//! Up to 4 KiB slots grow by 512 bytes, above by an eighth of the power of two below, so a slot
//! is never more than an eighth (or 511 bytes) longer than what lies in it. Slots need not start
//! on a block: one that does not shares its first and its last block with its neighbours.

use std::ops::Range;

use larder_core::PAGE_SIZE;

use crate::page_set::BLOCK;

/// No slab file is longer; blocks are allocated as slots are used.
const SLAB_BYTES_MAX: u64 = 64 << 20;
/// No slab has more slots: what is kept in memory for each slot is made with the slab.
pub(crate) const SLOTS_MAX: u32 = crate::evict::GROUP;
/// The bytes that say what a slab is.
pub(crate) const HEADER_BYTES: u64 = 32;
/// The bytes that say what lies in a slot.
pub(crate) const ENTRY_BYTES: u64 = 32;
/// How many size classes there are.
pub(super) const CLASSES: usize = FINE + 4 * STEPS;

/// Classes up to [`FINE_MAX`], each [`FINE_STEP`] larger than the one before.
const FINE: usize = (FINE_MAX / FINE_STEP) as usize;
const FINE_MAX: u64 = 4096;
const FINE_STEP: u64 = 512;
/// Classes of each doubling above.
const STEPS: usize = 8;

/// A size of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// The smallest class for a content of `length` bytes; `None` when it is none for slabs.
    pub(crate) fn of(length: u64) -> Option<Self> {
        if length == 0 || length > PAGE_SIZE {
            return None;
        }
        let at = if length <= FINE_MAX {
            (length - 1) / FINE_STEP
        } else {
            let doubling = (length - 1).ilog2() - FINE_MAX.ilog2();
            let step = (FINE_MAX << doubling) / STEPS as u64;
            let within = (length - 1 - (FINE_MAX << doubling)) / step;
            FINE as u64 + u64::from(doubling) * STEPS as u64 + within
        };
        u8::try_from(at).ok().map(Self)
    }

    /// The class with this number.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        (usize::from(number) < CLASSES).then_some(Self(number))
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// The bytes of one slot.
    pub(crate) fn slot_bytes(self) -> u64 {
        let at = usize::from(self.0);
        if at < FINE {
            return (at as u64 + 1) * FINE_STEP;
        }
        let (doubling, within) = ((at - FINE) / STEPS, (at - FINE) % STEPS);
        let below = FINE_MAX << doubling;
        below + (within as u64 + 1) * below / STEPS as u64
    }

    /// How many slots a slab of this class has.
    pub(crate) fn slots(self) -> u32 {
        let slots = (SLAB_BYTES_MAX - HEADER_BYTES - BLOCK) / (self.slot_bytes() + ENTRY_BYTES);
        u32::try_from(slots).map_or(SLOTS_MAX, |slots| slots.min(SLOTS_MAX))
    }

    /// The length of a slab file of this class.
    pub(crate) fn file_bytes(self) -> u64 {
        self.slot_offset(self.slots()).next_multiple_of(BLOCK)
    }

    /// How many blocks such a file has at most.
    pub(crate) fn blocks(self) -> u32 {
        block(self.file_bytes())
    }

    /// Where the first slot starts.
    fn data_start(self) -> u64 {
        (HEADER_BYTES + u64::from(self.slots()) * ENTRY_BYTES).next_multiple_of(BLOCK)
    }

    /// Where a slot starts in the file.
    pub(crate) fn slot_offset(self, slot: u32) -> u64 {
        self.data_start() + u64::from(slot) * self.slot_bytes()
    }

    /// Where the entry of a slot starts in the file.
    pub(crate) fn entry_offset(slot: u32) -> u64 {
        HEADER_BYTES + u64::from(slot) * ENTRY_BYTES
    }

    /// The block that holds the entry of a slot.
    pub(crate) fn entry_block(slot: u32) -> u32 {
        block(Self::entry_offset(slot))
    }

    /// The first block behind header and entries.
    pub(crate) fn data_block(self) -> u32 {
        block(self.data_start())
    }

    /// The blocks that a slot lies in.
    pub(crate) fn blocks_of(self, slot: u32) -> Range<u32> {
        let start = self.slot_offset(slot);
        block(start)..block(start + self.slot_bytes() - 1) + 1
    }

    /// The slots that lie in any of these blocks, or have their entries there.
    pub(crate) fn slots_in(self, blocks: &Range<u32>) -> Range<u32> {
        let start = u64::from(blocks.start) * BLOCK;
        let end = u64::from(blocks.end) * BLOCK;
        let (base, each) = if blocks.start < self.data_block() {
            (HEADER_BYTES, ENTRY_BYTES)
        } else {
            (self.data_start(), self.slot_bytes())
        };
        let first = start.saturating_sub(base) / each;
        let last = end.saturating_sub(base).div_ceil(each).min(u64::from(self.slots()));
        let last = u32::try_from(last).expect("cut at the number of slots");
        u32::try_from(first).map_or(last, |first| first.min(last))..last
    }
}

impl Class {
    /// The slots, `slot` among them, that have to be free for some block of it to be: the fewest.
    pub(crate) fn least_shared(self, slot: u32) -> Range<u32> {
        let sharing = self.blocks_of(slot).map(|block| self.slots_in(&(block..block + 1)));
        sharing.min_by_key(Range::len).unwrap_or(slot..slot + 1)
    }
}

fn block(offset: u64) -> u32 {
    u32::try_from(offset / BLOCK).expect("a slab has fewer blocks than 32 bits count")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Class> {
        (0..CLASSES as u8).map(|number| Class::numbered(number).expect("it is a class"))
    }

    #[test]
    fn every_length_has_the_smallest_class_that_holds_it() {
        let mut sizes: Vec<u64> = all().map(Class::slot_bytes).collect();
        assert!(sizes.is_sorted());
        sizes.dedup();
        assert_eq!(
            (sizes.len(), sizes.first(), sizes.last()),
            (CLASSES, Some(&512), Some(&PAGE_SIZE))
        );
        for length in 1..=PAGE_SIZE {
            let class = Class::of(length).expect("it fits");
            assert!(class.slot_bytes() >= length);
            let below = class.number().checked_sub(1).and_then(Class::numbered);
            assert!(below.is_none_or(|below| below.slot_bytes() < length), "{length}");
            let waste = class.slot_bytes() - length;
            assert!(waste < 512 || waste * 8 < length, "{length} wastes {waste}");
        }
        assert!(Class::of(0).is_none() && Class::of(PAGE_SIZE + 1).is_none());
        assert!(Class::numbered(CLASSES as u8).is_none());
    }

    #[test]
    fn slots_lie_one_after_the_other_within_the_file() {
        for class in all() {
            let slots = class.slots();
            assert!(class.data_start() >= Class::entry_offset(slots));
            assert!(class.file_bytes() <= SLAB_BYTES_MAX, "{class:?}");
            let fills = SLAB_BYTES_MAX - class.file_bytes() < 3 * BLOCK + class.slot_bytes();
            assert!(fills || slots == SLOTS_MAX, "{class:?}");
            assert!(class.entry_block_of_last() < class.data_block());
        }
    }

    impl Class {
        fn entry_block_of_last(self) -> u32 {
            Self::entry_block(self.slots() - 1)
        }
    }

    #[test]
    fn a_slot_shares_as_few_as_it_can() {
        let class = |length| Class::of(length).unwrap();
        assert_eq!(class(512).least_shared(11), 8..16);
        assert_eq!(class(4096).least_shared(3), 3..4);
        assert_eq!(class(PAGE_SIZE).least_shared(9), 9..10);
        for class in all() {
            for slot in 0..class.slots().min(300) {
                let shared = class.least_shared(slot);
                assert!(shared.contains(&slot) && shared.len() <= 8, "{class:?} {shared:?}");
            }
        }
    }

    #[test]
    fn blocks_and_slots_find_each_other() {
        for class in all() {
            for slot in (0..class.slots()).step_by(997).chain([class.slots() - 1]) {
                let blocks = class.blocks_of(slot);
                for block in blocks.clone() {
                    assert!(class.slots_in(&(block..block + 1)).contains(&slot));
                }
                let before = class.slots_in(&(blocks.start - 1..blocks.start));
                assert!(!before.contains(&slot) || blocks.start == class.data_block());
                let entry = Class::entry_block(slot);
                assert!(class.slots_in(&(entry..entry + 1)).contains(&slot));
            }
            let behind = class.blocks();
            assert!(class.slots_in(&(behind..behind + 1)).is_empty());
        }
    }
}
