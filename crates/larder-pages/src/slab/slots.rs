// SPDX-License-Identifier: Apache-2.0
//! One slab in memory: which slots are given out, and which blocks take room on disk.
//!
//! Pure bookkeeping, a bit each. A block is *charged* from the moment a slot that needs it is
//! given out until it was punched. A slot that is being freed stays given out until its entry is
//! cleared, and while blocks are punched all slots in them are withheld, so nobody writes where
//! something is about to go.

use std::ops::Range;

use super::{bits::Bits, class::Class};

/// The slots and blocks of one slab.
#[derive(Debug)]
pub(super) struct Slots {
    class: Class,
    /// Slots given out or withheld.
    used: Bits,
    /// Blocks that take room on disk, or may.
    charged: Bits,
    free: u32,
    charged_blocks: u32,
    /// No free slot lies below.
    lowest_free: u32,
}

impl Slots {
    /// A slab in which nothing lies. Its header is charged.
    pub(super) fn new(class: Class) -> Self {
        let mut charged = Bits::new(class.blocks());
        charged.insert(0);
        Self {
            class,
            used: Bits::new(class.slots()),
            charged,
            free: class.slots(),
            charged_blocks: 1,
            lowest_free: 0,
        }
    }

    pub(super) fn charged_blocks(&self) -> u32 {
        self.charged_blocks
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free == self.class.slots()
    }

    pub(super) fn is_free(&self, slot: u32) -> bool {
        !self.used.contains(slot)
    }

    /// The first free slot.
    pub(super) fn first_free(&mut self) -> Option<u32> {
        let found = self.used.first_clear(self.lowest_free);
        self.lowest_free = found.unwrap_or_else(|| self.class.slots());
        found
    }

    /// How many blocks giving out `slot` would charge.
    pub(super) fn cost(&self, slot: u32) -> u32 {
        let fresh = self.needs(slot).filter(|block| !self.charged.contains(*block));
        u32::try_from(fresh.count()).expect("a slot has few blocks")
    }

    /// Gives out a free slot and charges what it needs.
    pub(super) fn take(&mut self, slot: u32) {
        self.withhold(slot..slot + 1);
        for block in self.needs(slot) {
            self.charged_blocks += u32::from(self.charged.insert(block));
        }
    }

    /// Gives the free ones of these slots to nobody.
    pub(super) fn withhold(&mut self, slots: Range<u32>) {
        for slot in slots {
            self.free -= u32::from(self.used.insert(slot));
        }
    }

    /// Takes slots back. Their blocks stay charged.
    pub(super) fn vacate(&mut self, slots: Range<u32>) {
        self.lowest_free = self.lowest_free.min(slots.start);
        for slot in slots {
            self.free += u32::from(self.used.remove(slot));
        }
    }

    /// The data blocks of these free slots that no other slot needs, when any takes room.
    pub(super) fn idle_blocks(&self, slots: &Range<u32>) -> Option<Range<u32>> {
        let last = slots.end.checked_sub(1)?;
        let mut blocks = self.class.blocks_of(slots.start).start..self.class.blocks_of(last).end;
        while !blocks.is_empty() && self.is_needed(blocks.start) {
            blocks.start += 1;
        }
        while !blocks.is_empty() && self.is_needed(blocks.end - 1) {
            blocks.end -= 1;
        }
        blocks.clone().any(|block| self.charged.contains(block)).then_some(blocks)
    }

    /// These blocks take no room any more; returns how many of them did.
    pub(super) fn uncharge(&mut self, blocks: Range<u32>) -> u32 {
        let before = self.charged_blocks;
        for block in blocks {
            self.charged_blocks -= u32::from(self.charged.remove(block));
        }
        before - self.charged_blocks
    }

    /// Blocks that should take no room on disk, in a row, from `from` on.
    pub(super) fn uncharged(&self, from: u32) -> Option<Range<u32>> {
        let start = self.charged.first_clear(from)?;
        Some(start..self.charged.first_set(start).unwrap_or_else(|| self.class.blocks()))
    }

    fn is_needed(&self, block: u32) -> bool {
        self.class.slots_in(&(block..block + 1)).any(|slot| !self.is_free(slot))
    }

    /// The blocks of a slot and of its entry.
    fn needs(&self, slot: u32) -> impl Iterator<Item = u32> + use<> {
        self.class.blocks_of(slot).chain([Class::entry_block(slot)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{
        collection::vec,
        prelude::{any, prop_assert, prop_assert_eq, proptest},
    };

    use super::*;

    fn blocks_of(class: Class, slots: &BTreeSet<u32>) -> BTreeSet<u32> {
        slots.iter().flat_map(|slot| class.blocks_of(*slot)).collect()
    }

    proptest! {
        #[test]
        fn blocks_are_charged_while_a_slot_needs_them(
            number in 0..super::super::class::CLASSES as u8,
            steps in vec((any::<u32>(), 0..3_u8), 1..120),
        ) {
            let class = Class::numbered(number).unwrap();
            let mut slots = Slots::new(class);
            let (mut used, mut charged) = (BTreeSet::new(), BTreeSet::from([0]));
            for (pick, what) in steps {
                if what < 2 {
                    let some = pick % class.slots().min(200);
                    let slot = if what == 0 { slots.first_free().unwrap() } else { some };
                    if used.insert(slot) {
                        let before = charged.len();
                        let cost = slots.cost(slot);
                        slots.take(slot);
                        charged.extend(slots.needs(slot));
                        prop_assert_eq!(charged.len() - before, cost as usize);
                    }
                } else if let Some(slot) = used.iter().nth(pick as usize % used.len().max(1)) {
                    let slot = *slot;
                    used.remove(&slot);
                    slots.vacate(slot..slot + 1);
                    if let Some(idle) = slots.idle_blocks(&(slot..slot + 1)) {
                        let busy = blocks_of(class, &used);
                        prop_assert!(idle.clone().all(|block| !busy.contains(&block)));
                        charged.retain(|block| !idle.contains(block));
                        slots.uncharge(idle);
                    }
                }
                let data = class.data_block();
                let held: BTreeSet<u32> =
                    charged.iter().copied().filter(|block| *block >= data).collect();
                prop_assert_eq!(&held, &blocks_of(class, &used), "exactly what is needed");
                prop_assert_eq!(slots.charged_blocks() as usize, charged.len());
                prop_assert_eq!(slots.is_empty(), used.is_empty());
            }
            let mut at = 0;
            while let Some(stray) = slots.uncharged(at) {
                prop_assert!(stray.clone().all(|block| !charged.contains(&block)));
                at = stray.end;
            }
        }
    }

    #[test]
    fn a_block_goes_when_the_last_slot_in_it_does() {
        let mut slots = Slots::new(Class::of(1024).unwrap());
        (0..8).for_each(|slot| slots.take(slot));
        slots.vacate(0..3);
        assert_eq!(slots.idle_blocks(&(0..3)), None, "the fourth still lies there");
        slots.vacate(3..4);
        let first = slots.class.data_block();
        assert_eq!(slots.idle_blocks(&(3..4)), Some(first..first + 1));
        slots.withhold(0..4);
        assert_eq!(slots.first_free(), Some(8));
        slots.vacate(0..4);
        assert_eq!((slots.first_free(), slots.uncharge(first..first + 1)), (Some(0), 1));
        assert_eq!(slots.idle_blocks(&(3..4)), None, "it takes no room any more");
    }
}
