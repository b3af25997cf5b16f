// SPDX-License-Identifier: Apache-2.0
//! The policy without a disk below it: a page store in numbers only.
//!
//! It admits, grows and evicts as the page store does, so what it says about hits is what a page
//! store of that capacity would have done. The simulator of `bench` and the miss-ratio curve of
//! the worker drive it.

use std::{collections::HashMap, ops::Range};

use super::{Admission, LaneIndex, Policy, Slot};
use crate::{catalogue::SEGMENT_OVERHEAD, page_set::PageSet};

const LANE: LaneIndex = LaneIndex(0);

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: u64,
    pages: PageSet,
    weight: u64,
}

/// A page store of one directory, simulated.
#[derive(Debug)]
pub struct Simulation {
    policy: Policy,
    capacity: u64,
    used: u64,
    slots: HashMap<u64, Slot>,
    entries: Vec<Entry>,
    free: Vec<Slot>,
}

impl Simulation {
    /// An empty store of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            policy: Policy::new(&[capacity]),
            capacity,
            used: 0,
            slots: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Reads these pages (of `page_bytes` each) of the segment `name`, which is a hash; fills
    /// what is missing. Returns how many pages were missing.
    pub fn read(&mut self, name: u64, pages: Range<u32>, page_bytes: u64) -> u32 {
        let wanted: PageSet = pages.collect();
        let known = self.slots.get(&name).copied();
        let here = known.map_or(PageSet::default(), |slot| self.entries[slot.0 as usize].pages);
        if let Some(slot) = known
            && !here.and(&wanted).is_empty()
        {
            self.policy.touch(slot, LANE);
        }
        let missing = wanted.minus(&here).count();
        if missing > 0 {
            self.fill(name, &wanted, u64::from(missing) * page_bytes);
        }
        missing
    }

    /// How many segments it holds.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.slots.len()
    }

    fn fill(&mut self, name: u64, pages: &PageSet, bytes: u64) {
        let cost = bytes + SEGMENT_OVERHEAD;
        while self.used + cost > self.capacity {
            if !self.evict_one() {
                return;
            }
        }
        // Making room may have taken this very segment.
        let slot = match self.slots.get(&name).copied() {
            Some(slot) => slot,
            None => self.admit(name),
        };
        let entry = &mut self.entries[slot.0 as usize];
        entry.pages = entry.pages.union(pages);
        entry.weight += bytes;
        self.used += bytes;
        let weight = entry.weight;
        self.policy.resize(slot, LANE, weight);
    }

    fn admit(&mut self, name: u64) -> Slot {
        let entry = Entry { name, pages: PageSet::default(), weight: SEGMENT_OVERHEAD };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(entry);
            let last = u32::try_from(self.entries.len() - 1);
            Slot(last.expect("fewer than four billion segments fit in memory"))
        });
        self.entries[slot.0 as usize] = entry;
        self.slots.insert(name, slot);
        self.used += SEGMENT_OVERHEAD;
        let admission = Admission { lane: LANE, hash: name, weight: SEGMENT_OVERHEAD };
        self.policy.admit(slot, admission);
        slot
    }

    fn evict_one(&mut self) -> bool {
        let Some(slot) = self.policy.victim(LANE, |_| false) else { return false };
        let entry = self.entries[slot.0 as usize];
        self.policy.evicted(slot, LANE, entry.name);
        self.slots.remove(&entry.name);
        self.used -= entry.weight;
        self.free.push(slot);
        true
    }
}
