// SPDX-License-Identifier: Apache-2.0
//! Which rule is in force: the one that misses least in a miniature of the lane.
//!
//! A sample of the segments, by a hash of the name (SHARDS, Waldspurger et al., FAST 2015), goes
//! through the queues under each rule, in a cache that is smaller in the same proportion. Misses
//! fade as reads go on. Another rule takes over when it misses clearly less than the one in force,
//! and what is resident follows by and by. The sample is bounded, and with it memory and time.

use std::collections::HashMap;

use super::{
    NameHasher,
    nodes::{Nodes, Slot},
    queues::Queues,
    rule::{RULES, Rule},
};

/// Segments in a miniature at most: about 70 bytes each, for each rule.
const SEGMENTS_MAX: usize = 1024;
/// Misses fade within the time of so many reads for each segment of a miniature.
const MEMORY: f64 = 6.0;
/// Who takes over must miss less than this share of what the rule in force misses,
const CLEARLY: f64 = 0.99;
/// and by so many misses, which is noise in a tiny cache.
const MISSES_MIN: f64 = 3.0;
/// A capacity within one in so many is the same.
const NEAR: u64 = 128;
const GHOST_ENTRIES: usize = 1024;

/// The miniatures and what they missed.
#[derive(Debug)]
pub(super) struct Contest {
    miniatures: [Miniature; RULES.len()],
    missed: [f64; RULES.len()],
    leader: usize,
    capacity: u64,
    /// The sample is one in two to the power of this.
    halvings: u32,
}

impl Contest {
    /// For queues that may hold `capacity`.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            miniatures: RULES.map(|rule| Miniature::new(rule, capacity)),
            missed: [0.0; RULES.len()],
            leader: 0,
            capacity,
            halvings: 0,
        }
    }

    /// Whether reads of this name are to be told.
    pub(super) fn samples(&self, hash: u64) -> bool {
        spread(hash) <= u64::MAX >> self.halvings
    }

    /// The queues hold so much when something has to go; it is followed where it differs.
    pub(super) fn set_capacity(&mut self, capacity: u64) {
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
        let hits =
            self.miniatures.each_mut().map(|miniature| miniature.read(hash, weight, capacity));
        if self.miniatures.iter().all(|miniature| !miniature.queues.is_filling()) {
            self.score(hits);
        }
        if self.miniatures.iter().any(|miniature| miniature.slots.len() > SEGMENTS_MAX) {
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
            // The sample may be a larger share of what there is from now on, which is begun anew.
            *self = Self { leader: self.leader, ..Self::new(capacity) };
        } else {
            self.capacity = capacity;
            self.thin(|hash, _| keep(hash));
        }
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
    fn new(rule: Rule, capacity: u64) -> Self {
        Self {
            queues: Queues::new(rule, capacity, GHOST_ENTRIES),
            nodes: Nodes::default(),
            slots: HashMap::default(),
            names: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Reads a segment and keeps it; whether it was there.
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
        if known.is_none() && u64::from(weight) <= capacity {
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
        let mut contest = Contest::new(10_000);
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

    #[test]
    fn half_of_a_sample_is_begun_anew_where_more_can_be_looked_at() {
        let mut contest = Contest::new(10_000);
        winner(&mut contest, (0..50_000).map(|at| at % 20_000));
        let (before, leader) = (contest.halvings, contest.leader);
        assert!(before > 0);
        contest.halve(|hash| hash.is_multiple_of(2), 5_000);
        assert_eq!((contest.halvings, contest.leader), (0, leader));
        let mut small = Contest::new(100);
        winner(&mut small, 0..1_000);
        small.halve(|hash| hash.is_multiple_of(2), 50);
        let held = small.miniatures.each_ref().map(|miniature| miniature.slots.len());
        assert!(held.iter().all(|held| (20..=50).contains(held)), "{held:?}");
    }
}
