// SPDX-License-Identifier: Apache-2.0
//! The policy without a disk below it: a page store in numbers only.
//!
//! It admits, grows and evicts as the page store does, so what it says about hits is what a page
//! store of that capacity would have done. The simulator of `bench` and the miss-ratio curve
//! (`crate::curve`) drive it, the latter in miniature: a sample of the segments in a cache that is
//! smaller in the same proportion.

use std::{collections::HashMap, ops::Range};

use super::{Admission, LaneIndex, NameHasher, Policy, Slot};
use crate::{catalogue::SEGMENT_OVERHEAD, page_set::PageSet};

const LANE: LaneIndex = LaneIndex(0);

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: u64,
    pages: PageSet,
    weight: u64,
}

/// What is read of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pages: PageSet,
    /// The same pages and those behind them that a fetch would bring too.
    ahead: PageSet,
    page_bytes: u64,
    /// What the segment takes beside its pages.
    overhead: u64,
}

impl Wanted {
    /// These pages, of so many bytes each, with which a fetch would run on to the page `ahead`; of
    /// a segment that takes `overhead` beside them.
    pub(crate) fn new((pages, ahead): (Range<u32>, u32), page_bytes: u64, overhead: u64) -> Self {
        let only = PageSet::of(pages.clone());
        let ahead = if ahead > pages.end { PageSet::of(pages.start..ahead) } else { only };
        Self { pages: only, ahead, page_bytes, overhead }
    }
}

/// A page store of one directory, simulated.
#[derive(Debug)]
pub struct Simulation {
    policy: Policy,
    capacity: u64,
    used: u64,
    slots: HashMap<u64, Slot, NameHasher>,
    entries: Vec<Entry>,
    free: Vec<Slot>,
    evicted: bool,
}

impl Simulation {
    /// An empty store of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            policy: Policy::new(&[capacity]),
            capacity,
            used: 0,
            slots: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            evicted: false,
        }
    }

    /// Reads these pages (of `page_bytes` each) of the segment `name`, which is a hash; fills
    /// what is missing. Returns how many pages were missing.
    pub fn read(&mut self, name: u64, pages: Range<u32>, page_bytes: u64) -> u32 {
        let ahead = pages.end;
        self.fetch(name, &Wanted::new((pages, ahead), page_bytes, SEGMENT_OVERHEAD))
    }

    /// The same for pages that may be followed by others: where something is missing, all that is
    /// missing up to the end of those is filled and counted.
    pub(crate) fn fetch(&mut self, name: u64, wanted: &Wanted) -> u32 {
        let known = self.slots.get(&name).copied();
        let here = known.map_or(PageSet::default(), |slot| self.entries[slot.0 as usize].pages);
        if let Some(slot) = known
            && !here.and(&wanted.pages).is_empty()
        {
            self.policy.touch(slot, LANE, || name);
        }
        if wanted.pages.minus(&here).is_empty() {
            return 0;
        }
        let missing = wanted.ahead.minus(&here).count();
        self.fill(name, wanted, u64::from(missing) * wanted.page_bytes);
        missing
    }

    /// Forgets the segments whose names are not to be kept, which are half of all, and has
    /// `capacity` from now on: what is left of a miniature is in the state of one that had this
    /// capacity from the start.
    pub(crate) fn halve(&mut self, keep: impl Fn(u64) -> bool, capacity: u64) {
        let Self { policy, entries, free, used, .. } = self;
        self.slots.retain(|name, slot| {
            let kept = keep(*name);
            if !kept {
                policy.forget(*slot, LANE);
                *used -= entries[slot.0 as usize].weight;
                free.push(*slot);
            }
            kept
        });
        self.policy.halve(LANE, keep, capacity);
        self.capacity = capacity;
        while self.used > self.capacity {
            if !self.evict_one(None) {
                return;
            }
        }
    }

    /// How many segments it holds.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.slots.len()
    }

    /// Whether something ever had to go to make room.
    pub(crate) fn was_full(&self) -> bool {
        self.evicted
    }

    fn fill(&mut self, name: u64, wanted: &Wanted, bytes: u64) {
        let cost = bytes + wanted.overhead;
        while self.used + cost > self.capacity {
            let growing = self.slots.get(&name).copied();
            if !self.evict_one(growing) {
                return;
            }
        }
        // Where there was nothing else, making room has taken this very segment.
        let slot = match self.slots.get(&name).copied() {
            Some(slot) => slot,
            None => self.admit(name, wanted.overhead),
        };
        let entry = &mut self.entries[slot.0 as usize];
        entry.pages = entry.pages.union(&wanted.ahead);
        entry.weight += bytes;
        self.used += bytes;
        let weight = entry.weight;
        self.policy.resize(slot, LANE, (name, weight));
    }

    fn admit(&mut self, name: u64, overhead: u64) -> Slot {
        let entry = Entry { name, pages: PageSet::default(), weight: overhead };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(entry);
            let last = u32::try_from(self.entries.len() - 1);
            Slot(last.expect("fewer than four billion segments fit in memory"))
        });
        self.entries[slot.0 as usize] = entry;
        self.slots.insert(name, slot);
        self.used += overhead;
        let admission = Admission { lane: LANE, hash: name, weight: overhead };
        self.policy.admit(slot, admission);
        slot
    }

    fn evict_one(&mut self, growing: Option<Slot>) -> bool {
        let Some(slot) = self.policy.victim(LANE, |_| false, growing) else { return false };
        let entry = self.entries[slot.0 as usize];
        self.policy.evicted(slot, LANE, entry.name);
        self.slots.remove(&entry.name);
        self.used -= entry.weight;
        self.free.push(slot);
        self.evicted = true;
        true
    }
}
