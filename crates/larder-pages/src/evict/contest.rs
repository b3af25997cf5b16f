// SPDX-License-Identifier: Apache-2.0
//! Which rule is in force: the one that misses least in a miniature of the lane.
//!
//! A sample of the segments, by a hash of the name (SHARDS, Waldspurger et al., FAST 2015), goes
//! through the queues under each rule, in a cache that is smaller in the same proportion. Misses
//! fade as reads go on. Another rule takes over when it misses clearly less than the one in force,
//! and what is resident follows by and by. The sample is bounded, and with it memory and time;
//! where it has become a small part of that bound, it is begun anew.

use std::collections::HashMap;

use super::{
    NameHasher,
    nodes::{Nodes, Slot},
    queues::Queues,
    rule::{RULES, Rule},
};

/// Segments in a miniature at most: about 70 bytes each, for each rule.
pub(super) const SEGMENTS_MAX: usize = 1024;
/// Misses fade within the time of so many reads for each segment of a miniature.
const MEMORY: f64 = 6.0;
/// Who takes over must miss less than this share of what the rule in force misses,
const CLEARLY: f64 = 0.99;
/// and by so many misses, which is noise in a tiny cache.
const MISSES_MIN: f64 = 3.0;
/// A capacity within one in so many is the same.
const NEAR: u64 = 128;
/// Miniatures that all hold less than one in so many of the bound are too small, …
const FEW: usize = 4;
/// … and so is the sample where the queues hold less than one in so many of it: nothing of that
/// may ever be read in the miniatures.
const HARDLY_ANY: usize = 16;

/// The miniatures and what they missed.
#[derive(Debug)]
pub(super) struct Contest {
    miniatures: [Miniature; RULES.len()],
    missed: [f64; RULES.len()],
    leader: usize,
    capacity: u64,
    /// Segments in a miniature at most.
    segments_max: usize,
    /// The sample is one in two to the power of this.
    halvings: u32,
}

impl Contest {
    /// For queues that may hold `capacity`, with so many segments in a miniature at most.
    pub(super) fn new(capacity: u64, segments_max: usize) -> Self {
        Self {
            miniatures: RULES.map(|rule| Miniature::new(rule, capacity, segments_max)),
            missed: [0.0; RULES.len()],
            leader: 0,
            capacity,
            segments_max,
            halvings: 0,
        }
    }

    /// Whether reads of this name are to be told.
    pub(super) fn samples(&self, hash: u64) -> bool {
        spread(hash) <= u64::MAX >> self.halvings
    }

    /// The queues hold so much in so many segments when something has to go; it is followed where
    /// it differs.
    pub(super) fn follow(&mut self, capacity: u64, segments: usize) {
        if self.samples_too_little(segments) {
            return self.begin_anew(capacity);
        }
        if capacity.abs_diff(self.capacity) <= self.capacity / NEAR {
            return;
        }
        self.capacity = capacity;
        for miniature in &mut self.miniatures {
            miniature.queues.rescale(capacity >> self.halvings);
        }
    }

    /// A sampled segment was read that weighs so much; the rule that is in force from now on.
    pub(super) fn read(&mut self, hash: u64, weight: u16) -> Rule {
        let capacity = self.capacity >> self.halvings;
        if u64::from(weight) > capacity {
            // It says nothing of the rules, and must not take the place of all others.
            self.miniatures.iter_mut().for_each(|miniature| miniature.forget(hash));
            return RULES[self.leader];
        }
        let hits =
            self.miniatures.each_mut().map(|miniature| miniature.read(hash, weight, capacity));
        if self.miniatures.iter().all(|miniature| !miniature.queues.is_filling()) {
            self.score(hits);
        }
        if self.miniatures.iter().any(|miniature| miniature.slots.len() > self.segments_max) {
            self.halvings += 1;
            self.thin(|hash, halvings| spread(hash) <= u64::MAX >> halvings);
        }
        RULES[self.leader]
    }

    /// A sampled segment weighs so much from now on.
    pub(super) fn resize(&mut self, hash: u64, weight: u16) {
        for Miniature { queues, nodes, slots, .. } in &mut self.miniatures {
            if let Some(slot) = slots.get(&hash) {
                queues.resize(nodes, *slot, weight);
            }
        }
    }

    fn score(&mut self, hits: [bool; RULES.len()]) {
        let segments = self.miniatures[self.leader].slots.len().max(1) as f64;
        let faded = 1.0 - 1.0 / (MEMORY * segments).max(2.0);
        for (missed, hit) in self.missed.iter_mut().zip(hits) {
            *missed = *missed * faded + f64::from(u8::from(!hit));
        }
        let least = self.missed.iter().copied().fold(f64::INFINITY, f64::min);
        if least < self.missed[self.leader] * CLEARLY - MISSES_MIN {
            self.leader = self.missed.iter().position(|missed| *missed == least).unwrap_or(0);
        }
    }

    /// Only the names that `keep` says are read from now on, half of all, into queues that may
    /// hold `capacity`.
    pub(super) fn halve(&mut self, keep: impl Fn(u64) -> bool, capacity: u64) {
        if self.halvings > 0 {
            // The sample may be a larger share of what there is from now on.
            self.begin_anew(capacity);
        } else {
            self.capacity = capacity;
            self.thin(|hash, _| keep(hash));
        }
    }

    /// Whether a larger share of `segments`, which the queues hold, could be looked at. Not while
    /// a miniature fills: it will hold more.
    fn samples_too_little(&self, segments: usize) -> bool {
        let few = |held: usize, part: usize| held < self.segments_max / part;
        self.halvings > 0
            && self.miniatures.iter().all(|miniature| !miniature.queues.is_filling())
            && (few(segments >> self.halvings, HARDLY_ANY)
                || self.miniatures.iter().all(|miniature| few(miniature.slots.len(), FEW)))
    }

    /// Everything is looked at, until that is too much; the rule in force stays.
    fn begin_anew(&mut self, capacity: u64) {
        *self = Self { leader: self.leader, ..Self::new(capacity, self.segments_max) };
    }

    fn thin(&mut self, keep: impl Fn(u64, u32) -> bool) {
        let (capacity, halvings) = (self.capacity >> self.halvings, self.halvings);
        for miniature in &mut self.miniatures {
            miniature.thin(|hash| keep(hash, halvings), capacity);
        }
    }
}

/// A cache in numbers only, under one rule.
#[derive(Debug)]
struct Miniature {
    queues: Queues,
    nodes: Nodes,
    slots: HashMap<u64, Slot, NameHasher>,
    names: Vec<u64>,
    free: Vec<Slot>,
}

impl Miniature {
    fn new(rule: Rule, capacity: u64, ghost_entries: usize) -> Self {
        Self {
            queues: Queues::new(rule, capacity, ghost_entries),
            nodes: Nodes::default(),
            slots: HashMap::default(),
            names: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Reads a segment of at most the capacity and keeps it; whether it was there.
    fn read(&mut self, hash: u64, weight: u16, capacity: u64) -> bool {
        let Self { queues, nodes, .. } = self;
        let known = self.slots.get(&hash).copied();
        if let Some(slot) = known
            && queues.is_untouched(nodes, slot)
        {
            queues.touch(nodes, slot);
        }
        let more = if known.is_some() { 0 } else { u64::from(weight) };
        while self.queues.weight() + more > capacity {
            if !self.evict_one(known) {
                break;
            }
        }
        if known.is_none() {
            self.admit(hash, weight);
        }
        known.is_some()
    }

    fn admit(&mut self, hash: u64, weight: u16) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.names.push(hash);
            Slot(u32::try_from(self.names.len() - 1).expect("a miniature is small"))
        });
        self.names[slot.0 as usize] = hash;
        self.slots.insert(hash, slot);
        self.queues.admit(&mut self.nodes, slot, (hash, weight));
    }

    fn evict_one(&mut self, growing: Option<Slot>) -> bool {
        let Self { queues, nodes, .. } = self;
        let Some(slot) = queues.victim(nodes, |_| false, growing) else { return false };
        let hash = self.names[slot.0 as usize];
        queues.evicted(nodes, slot, hash);
        self.slots.remove(&hash);
        self.free.push(slot);
        true
    }

    fn forget(&mut self, hash: u64) {
        if let Some(slot) = self.slots.remove(&hash) {
            self.queues.forget(&mut self.nodes, slot);
            self.free.push(slot);
        }
    }

    fn thin(&mut self, keep: impl Fn(u64) -> bool, capacity: u64) {
        let Self { queues, nodes, free, .. } = self;
        self.slots.retain(|hash, slot| {
            let kept = keep(*hash);
            if !kept {
                queues.forget(nodes, *slot);
                free.push(*slot);
            }
            kept
        });
        self.queues.rescale(capacity);
        while self.queues.weight() > capacity {
            if !self.evict_one(None) {
                return;
            }
        }
    }
}

/// Where in the space of samples a name falls: another place than in that of the curve.
fn spread(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use larder_core::Random;

    use super::*;
    use crate::evict::rule::Entrance;

    /// What the contest says after these reads of segments of one unit.
    fn winner(contest: &mut Contest, names: impl Iterator<Item = u64>) -> Rule {
        let mut rule = RULES[0];
        for hash in names.map(|name| Random::seeded(name).next()) {
            if contest.samples(hash) {
                rule = contest.read(hash, 1);
            }
            let bound = |miniature: &Miniature| miniature.slots.len() <= SEGMENTS_MAX;
            assert!(contest.miniatures.iter().all(bound));
        }
        rule
    }

    #[test]
    fn each_kind_of_reading_has_its_rule() {
        let drift = |from: u64| (from..from + 200_000).map(|at| at / 10 + at % 3_000);
        let mut contest = Contest::new(10_000, SEGMENTS_MAX);
        let looped = (0..5).flat_map(|_| 1_000_000..1_015_000);
        let rule = winner(&mut contest, looped.clone());
        assert_ne!(rule.entrance, Entrance::Closed, "a loop that does not fit");
        let rule = winner(&mut contest, drift(0).chain(drift(200_000)));
        assert!(contest.halvings > 0, "it is a sample");
        let [kept, lru] = [0, 2].map(|at| contest.missed[at]);
        assert!(lru <= kept && rule != RULES[3], "what was read lately: {:?}", contest.missed);
        let rule = winner(&mut contest, looped.clone().chain(looped));
        assert_ne!(rule.entrance, Entrance::Closed, "the loop again");
    }

    /// How many segments each miniature holds.
    fn held(contest: &Contest) -> [usize; RULES.len()] {
        contest.miniatures.each_ref().map(|miniature| miniature.slots.len())
    }

    /// Reads each of these names, of so many units.
    fn read_all(contest: &mut Contest, names: std::ops::Range<u64>, weight: u16) {
        for hash in names.map(|name| Random::seeded(name).next()) {
            if contest.samples(hash) {
                contest.read(hash, weight);
            }
        }
    }

    #[test]
    fn where_segments_have_become_fewer_more_of_them_are_looked_at() {
        let mut contest = Contest::new(100_000, SEGMENTS_MAX);
        contest.leader = 3;
        read_all(&mut contest, 0..3_000, 1);
        let filling = contest.halvings;
        contest.follow(100_000, 3);
        assert!(filling > 0 && contest.halvings == filling, "not while they fill");
        read_all(&mut contest, 0..200_000, 1);
        let small = contest.halvings;
        contest.follow(100_000, 100_000);
        assert_eq!((small, contest.halvings), (7, 7), "as many as there were");
        // Each grows to eight units, so an eighth as many fit.
        for hash in (0..200_000).map(|name| Random::seeded(name).next()) {
            contest.resize(hash, 8);
        }
        contest.follow(100_000, 12_500);
        assert_eq!(contest.halvings, 7, "as many are here yet: {:?}", held(&contest));
        read_all(&mut contest, 200_000..201_000, 8);
        contest.leader = 3;
        contest.follow(100_000, 12_500);
        assert_eq!((contest.halvings, contest.leader), (0, 3), "{:?}", held(&contest));
        assert_eq!(held(&contest), [0; RULES.len()]);
        read_all(&mut contest, 200_000..300_000, 8);
        assert!((1..7).contains(&contest.halvings), "{}", contest.halvings);
    }

    #[test]
    fn where_nothing_of_the_sample_is_left_it_is_begun_anew() {
        let mut contest = Contest::new(100_000, SEGMENTS_MAX);
        read_all(&mut contest, 0..200_000, 1);
        let before = held(&contest);
        // What does not fit into a miniature leaves it alone.
        read_all(&mut contest, 200_000..220_000, 2_000);
        assert_eq!(held(&contest), before);
        contest.follow(100_000, 50);
        assert_eq!((contest.halvings, held(&contest)), (0, [0; RULES.len()]));
        read_all(&mut contest, 200_000..220_000, 2_000);
        assert_eq!((contest.halvings, held(&contest)), (0, [50; RULES.len()]));
    }

    #[test]
    fn what_has_grown_above_all_there_is_leaves_the_others_alone() {
        let mut contest = Contest::new(100, SEGMENTS_MAX);
        read_all(&mut contest, 0..100, 1);
        let hash = Random::seeded(7).next();
        assert_eq!(held(&contest), [100; RULES.len()]);
        contest.resize(hash, 200);
        contest.read(hash, 200);
        assert_eq!(held(&contest), [99; RULES.len()]);
        assert!(contest.miniatures.iter().all(|miniature| miniature.queues.weight() == 99));
    }

    #[test]
    fn half_of_a_sample_is_begun_anew_where_more_can_be_looked_at() {
        let mut contest = Contest::new(10_000, SEGMENTS_MAX);
        winner(&mut contest, (0..50_000).map(|at| at % 20_000));
        let (before, leader) = (contest.halvings, contest.leader);
        assert!(before > 0);
        contest.halve(|hash| hash.is_multiple_of(2), 5_000);
        assert_eq!((contest.halvings, contest.leader), (0, leader));
        let mut small = Contest::new(100, SEGMENTS_MAX);
        winner(&mut small, 0..1_000);
        small.halve(|hash| hash.is_multiple_of(2), 50);
        let held = small.miniatures.each_ref().map(|miniature| miniature.slots.len());
        assert!(held.iter().all(|held| (20..=50).contains(held)), "{held:?}");
    }
}
