// SPDX-License-Identifier: Apache-2.0
//! The policy against small traces: what it keeps, what it lets go, and that it always ends.

use std::collections::HashMap;

use larder_core::Random;

use super::{Admission, LaneIndex, Policy, Simulation, Slot};

const LANE: LaneIndex = LaneIndex(0);
const WEIGHT: u64 = 1 << 20;

/// A cache of names with the policy under it, as the page store drives it.
struct Cache {
    policy: Policy,
    capacity: u64,
    slots: HashMap<u64, Slot>,
    names: Vec<u64>,
    free: Vec<Slot>,
}

impl Cache {
    fn new(segments: u64) -> Self {
        let capacity = segments * WEIGHT;
        Self {
            policy: Policy::new(&[capacity]),
            capacity,
            slots: HashMap::new(),
            names: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Reads `name`; returns whether it was there.
    fn read(&mut self, name: u64) -> bool {
        if let Some(slot) = self.slots.get(&name) {
            self.policy.touch(*slot, LANE, || hash(name));
            return true;
        }
        if (self.slots.len() as u64 + 1) * WEIGHT > self.capacity {
            let victim = self.policy.victim(LANE, |_| false).expect("something can go");
            let old = self.names[victim.0 as usize];
            self.policy.evicted(victim, LANE, hash(old));
            self.slots.remove(&old);
            self.free.push(victim);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.names.push(0);
            Slot(self.names.len() as u32 - 1)
        });
        self.names[slot.0 as usize] = name;
        self.slots.insert(name, slot);
        self.policy.admit(slot, Admission { lane: LANE, hash: hash(name), weight: WEIGHT });
        false
    }
}

fn hash(name: u64) -> u64 {
    Random::seeded(name).next()
}

#[test]
fn a_scan_does_not_push_out_what_is_read_again() {
    let mut cache = Cache::new(256);
    let mut scan = 1_000_000;
    for round in 0..40 {
        for hot in 0..64 {
            cache.read(hot);
        }
        for _ in 0..64 {
            scan += 1;
            for _page in 0..16 {
                cache.read(scan);
            }
        }
        if round > 4 {
            let kept = (0..64).filter(|hot| cache.slots.contains_key(hot)).count();
            assert_eq!(kept, 64, "round {round}");
        }
    }
}

#[test]
fn what_comes_back_soon_is_remembered() {
    let mut cache = Cache::new(100);
    for name in 0..110 {
        cache.read(name);
    }
    assert!(!cache.slots.contains_key(&0), "it left the small queue");
    cache.read(0);
    for name in 1000..1080 {
        cache.read(name);
    }
    assert!(cache.slots.contains_key(&0), "it came back into the main queue");
}

#[test]
fn a_skewed_trace_is_served_better_than_chance() {
    let random = Random::seeded(1);
    let mut cache = Cache::new(100);
    let mut hits = 0;
    for _ in 0..20_000 {
        // The product of two uniform draws favours small names.
        let name = random.below(1000) * random.below(1000) / 1000;
        hits += u32::from(cache.read(name));
    }
    assert!(hits > 20_000 / 5, "a tenth of the names gets far more than a tenth: {hits}");
}

#[test]
fn pinned_segments_stay_and_all_pinned_ends() {
    let mut cache = Cache::new(8);
    for name in 0..8 {
        cache.read(name);
    }
    let only = cache.slots[&5];
    assert_eq!(cache.policy.victim(LANE, |slot| slot != only), Some(only));
    assert_eq!(cache.policy.victim(LANE, |_| true), None);
}

#[test]
fn a_simulation_cut_in_half_goes_on_as_one_that_was_small_from_the_start() {
    let kept = |name: u64| name.is_multiple_of(2);
    let (random, capacity) = (Random::seeded(8), 400 * WEIGHT);
    let mut reads = move || hash(random.below(2_000) * random.below(2_000) / 2_000);
    let (mut cut, mut small) = (Simulation::new(capacity), Simulation::new(capacity / 2));
    for name in std::iter::repeat_with(&mut reads).take(40_000) {
        cut.read(name, 0..1, WEIGHT);
        if kept(name) {
            small.read(name, 0..1, WEIGHT);
        }
    }
    cut.halve(kept, capacity / 2);
    assert!(cut.segments() <= 200 && cut.segments() > 150, "{}", cut.segments());
    let (mut missed, mut of) = ([0, 0], 0);
    for name in std::iter::repeat_with(&mut reads).take(6_000).filter(|name| kept(*name)) {
        of += 1;
        missed[0] += cut.read(name, 0..1, WEIGHT);
        missed[1] += small.read(name, 0..1, WEIGHT);
    }
    assert!(missed[0].abs_diff(missed[1]) * 50 < of, "{missed:?} of {of}");
}

#[test]
fn a_loop_that_does_not_fit_finds_part_of_itself() {
    let mut cache = Cache::new(100);
    let mut hits = 0;
    for _round in 0..20 {
        for name in 0..200 {
            hits += u32::from(cache.read(name));
        }
    }
    assert!(hits > 20 * 200 / 3, "half would fit: {hits}");
}
