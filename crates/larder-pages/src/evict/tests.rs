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
            let victim = self.policy.victim(LANE, |_| false, None).expect("something can go");
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
    assert_eq!(cache.policy.victim(LANE, |slot| slot != only, None), Some(only));
    assert_eq!(cache.policy.victim(LANE, |_| true, None), None);
}

#[test]
fn what_grows_goes_only_where_nothing_else_can() {
    let mut cache = Cache::new(64);
    (0..64).for_each(|name| assert!(!cache.read(name)));
    let slots: Vec<Slot> = cache.slots.values().copied().collect();
    for growing in &slots {
        let others = |slot: Slot| slot != *growing;
        for _ in 0..3 {
            let victim = cache.policy.victim(LANE, |_| false, Some(*growing));
            assert!(victim.is_some_and(others), "{victim:?}");
        }
        assert_eq!(cache.policy.victim(LANE, others, Some(*growing)), Some(*growing));
        assert_eq!(cache.policy.victim(LANE, |_| true, Some(*growing)), None);
    }
    let elsewhere = Slot(1000);
    assert_eq!(cache.policy.victim(LANE, |_| true, Some(elsewhere)), None);
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

/// A cache in which the one that was not read for longest goes.
struct Lru(u64, Vec<u64>);

impl Lru {
    fn read(&mut self, name: u64) -> bool {
        let known = self.1.iter().position(|known| *known == name);
        if let Some(at) = known {
            self.1.remove(at);
        } else if self.1.len() as u64 == self.0 {
            self.1.remove(0);
        }
        self.1.push(name);
        known.is_some()
    }
}

/// Misses of the policy and of LRU.
fn misses(segments: u64, trace: impl Iterator<Item = u64>) -> (u64, u64) {
    let (mut cache, mut lru) = (Cache::new(segments), Lru(segments, Vec::new()));
    trace.fold((0, 0), |(ours, lrus), name| {
        (ours + u64::from(!cache.read(name)), lrus + u64::from(!lru.read(name)))
    })
}

#[test]
fn where_popularity_moves_on_it_is_as_good_as_lru() {
    let random = Random::seeded(3);
    let today = |at: u64| at / 20 + random.below(300) * random.below(300) / 300;
    let (ours, lrus) = misses(150, (0..60_000).map(today));
    assert!(ours * 100 < lrus * 106, "{ours} against {lrus}");
}

#[test]
fn one_job_after_another_is_served_as_if_it_were_alone() {
    // A loop that does not fit, of which LRU finds nothing, then what moves on.
    let random = Random::seeded(4);
    let looped = (0..20).flat_map(|_| 100_000..100_300);
    let moving = (0..40_000).map(|at| at / 20 + random.below(300) * random.below(300) / 300);
    let mut cache = Cache::new(150);
    let hits = looped.filter(|name| cache.read(*name)).count();
    assert!(hits > 20 * 300 * 2 / 5, "half of it fits: {hits}");
    let mut lru = Lru(150, Vec::new());
    let (mut ours, mut lrus) = (0, 0);
    for name in moving {
        ours += u64::from(!cache.read(name));
        lrus += u64::from(!lru.read(name));
    }
    assert!(ours * 10 < lrus * 12, "{ours} against {lrus}");
}

/// Random steps against a model that knows only what lies there and what it weighs.
#[test]
fn whatever_happens_weights_are_right_and_a_victim_is_one_that_may_go() {
    let random = Random::seeded(5);
    let mut policy = Policy::new(&[200 * WEIGHT, 100 * WEIGHT]);
    let class = policy.add_class_lane(50 * WEIGHT);
    let lanes = [LaneIndex(0), LaneIndex(1), class];
    // By slot: its name, its lane and its weight.
    let mut model: HashMap<u32, (u64, LaneIndex, u64)> = HashMap::new();
    let slots: Vec<Slot> = (0..200).map(Slot).chain((0..200).map(Slot::small)).collect();
    for step in 0..200_000_u64 {
        let slot = slots[random.below(400) as usize];
        let lane = lanes[random.below(3) as usize];
        let weight = 512 * (1 + random.below(4_000));
        match (model.get(&slot.0).copied(), random.below(10)) {
            (None, draw) => {
                let name = random.below(2_000);
                let admission = Admission { lane, hash: hash(name), weight };
                match draw {
                    0 => policy.restore(slot, admission),
                    _ => policy.admit(slot, admission),
                }
                model.insert(slot.0, (name, lane, weight));
            }
            (Some((name, lane, _)), 0) => {
                policy.resize(slot, lane, (hash(name), weight));
                model.insert(slot.0, (name, lane, weight));
            }
            (Some((_, lane, _)), 1) => {
                policy.forget(slot, lane);
                model.remove(&slot.0);
            }
            (Some((name, lane, _)), 2..8) => policy.touch(slot, lane, || hash(name)),
            (Some(_), _) => {
                let pinned = |slot: Slot| (u64::from(slot.0) ^ step).is_multiple_of(3);
                let may_go =
                    |(at, of): (&u32, &(u64, LaneIndex, u64))| of.1 == lane && !pinned(Slot(*at));
                let growing = slots[random.below(400) as usize];
                let may_go = model.iter().filter(|each| may_go(*each)).count();
                match policy.victim(lane, pinned, Some(growing)) {
                    None => assert_eq!(may_go, 0),
                    Some(victim) => {
                        assert!(victim != growing || may_go == 1, "it goes last");
                        let (name, of, _) = model.remove(&victim.0).expect("it lies there");
                        assert!(of == lane && !pinned(victim));
                        policy.evicted(victim, lane, hash(name));
                    }
                }
            }
        }
        if step % 1_000 == 0 {
            for lane in lanes {
                let weight = model.values().filter(|of| of.1 == lane).map(|of| of.2).sum::<u64>();
                assert_eq!(policy.weight(lane), weight, "step {step}");
            }
        }
    }
    for lane in lanes {
        while let Some(victim) = policy.victim(lane, |_| false, None) {
            let (name, ..) = model.remove(&victim.0).expect("it lies there");
            policy.evicted(victim, lane, hash(name));
        }
    }
    assert!(model.is_empty(), "each of them could go");
}
