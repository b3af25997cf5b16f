// SPDX-License-Identifier: Apache-2.0
//! The lanes. Nodes are numbered by the caller (the catalogue's slots), linked by index: sixteen
//! bytes per segment and per small file.

use super::{
    contest::{Contest, SEGMENTS_MAX},
    nodes::{Nodes, Slot},
    queues::Queues,
    rule::RULES,
};
use crate::roster::DIRECTORIES_MAX;

/// The number of a lane: that of its directory, or behind all of those that of a class in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneIndex(pub(crate) u16);

impl LaneIndex {
    fn is_of_class(self) -> bool {
        usize::from(self.0) >= DIRECTORIES_MAX
    }
}

/// A segment that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) lane: LaneIndex,
    /// A hash of the segment's name, for the ghost and the contest.
    pub(crate) hash: u64,
    pub(crate) weight: u64,
}

/// Weights are kept in units of a disk sector, so that small files weigh what they take and 16
/// bits hold a segment and its overhead.
const WEIGHT_UNIT: u64 = 512;
/// The bounds of the ghost's table as it is made; it grows when small files need more.
const GHOST_ENTRIES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;
/// A class remembers less, for there may be many of them: half a MiB each.
const CLASS_GHOST_ENTRIES_MAX: u64 = 1 << 16;
/// A class's contest looks at fewer segments than a directory's, which makes 100 KB, …
const CLASS_SEGMENTS_MAX: usize = 256;
/// … begins where a class has so many in a directory, for fewer hardly tell rules apart, …
const CLASS_CONTEST_MIN: usize = 64;
/// … and only so many classes have one at a time: 26 MB.
const CLASS_CONTESTS_MAX: usize = 256;

#[derive(Debug)]
struct Lane {
    queues: Queues,
    capacity: u64,
    /// From a read on: most lanes that there may be are never used.
    contest: Option<Box<Contest>>,
}

impl Lane {
    fn new(capacity: u64, ghost_entries: u64) -> Self {
        let units = capacity / WEIGHT_UNIT;
        Self {
            queues: Queues::new(RULES[0], units, ghost_entries as usize),
            capacity: units,
            contest: None,
        }
    }
}

/// The queues of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    nodes: Nodes,
    lanes: Vec<Lane>,
    /// How many of the first lanes are in use.
    directories: usize,
    /// Lanes of classes that have a contest.
    class_contests: usize,
}

impl Policy {
    /// Lanes of these capacities in bytes, all empty.
    pub(crate) fn new(capacities: &[u64]) -> Self {
        let mut policy = Self::default();
        capacities.iter().for_each(|capacity| policy.add_lane(*capacity));
        policy
    }

    /// One more directory's lane.
    pub(crate) fn add_lane(&mut self, capacity: u64) {
        if self.lanes.len() < DIRECTORIES_MAX {
            // So that a class's lane never stands where a directory's would.
            self.lanes.resize_with(DIRECTORIES_MAX, || Lane::new(0, 0));
        }
        let entries = (capacity >> 20).clamp(*GHOST_ENTRIES.start(), *GHOST_ENTRIES.end());
        self.lanes[self.directories] = Lane::new(capacity, entries);
        self.directories += 1;
    }

    /// A lane for a class of contents in some directory, that may hold up to `capacity`.
    pub(crate) fn add_class_lane(&mut self, capacity: u64) -> LaneIndex {
        let entries = (capacity >> 20).clamp(*GHOST_ENTRIES.start(), CLASS_GHOST_ENTRIES_MAX);
        self.lanes.push(Lane::new(capacity, entries));
        LaneIndex(u16::try_from(self.lanes.len() - 1).expect("directories times classes"))
    }

    /// What lies in a lane, in bytes.
    pub(crate) fn weight(&self, lane: LaneIndex) -> u64 {
        self.lanes[lane.0 as usize].queues.weight() * WEIGHT_UNIT
    }

    /// The lane of a simulation was cut down to `capacity` bytes, and what it holds to what `keep`
    /// says, half of all names. Its clock shows the same as before.
    pub(crate) fn halve(&mut self, lane: LaneIndex, keep: impl Fn(u64) -> bool, capacity: u64) {
        let lane = &mut self.lanes[lane.0 as usize];
        let units = capacity / WEIGHT_UNIT;
        lane.queues.rescale(units);
        lane.capacity = units;
        if let Some(contest) = &mut lane.contest {
            contest.halve(keep, units);
        }
    }

    /// A segment comes in.
    pub(crate) fn admit(&mut self, slot: Slot, admission: Admission) {
        let weight = units(admission.weight);
        let lane = &mut self.lanes[admission.lane.0 as usize];
        lane.queues.admit(&mut self.nodes, slot, (admission.hash, weight));
        self.compete(admission.lane, admission.hash, weight);
    }

    /// A segment that was there before the process started: neither new nor read again.
    pub(crate) fn restore(&mut self, slot: Slot, admission: Admission) {
        let lane = &mut self.lanes[admission.lane.0 as usize];
        lane.queues.restore(&mut self.nodes, slot, units(admission.weight));
    }

    /// The segment, whose name has this hash, was read.
    pub(crate) fn touch(&mut self, slot: Slot, lane: LaneIndex, hash: impl FnOnce() -> u64) {
        let queues = &mut self.lanes[lane.0 as usize].queues;
        if queues.is_untouched(&self.nodes, slot) {
            queues.touch(&mut self.nodes, slot);
            self.compete(lane, hash(), self.nodes[slot.0].weight());
        }
    }

    /// The contest is told of a read, if there is to be one and it samples the name.
    fn compete(&mut self, at: LaneIndex, hash: u64, weight: u16) {
        let lane = &mut self.lanes[at.0 as usize];
        if lane.contest.is_none() {
            let mut segments_max = SEGMENTS_MAX;
            if at.is_of_class() {
                if lane.queues.count() < CLASS_CONTEST_MIN
                    || self.class_contests == CLASS_CONTESTS_MAX
                {
                    return;
                }
                self.class_contests += 1;
                segments_max = CLASS_SEGMENTS_MAX;
            }
            lane.contest = Some(Box::new(Contest::new(lane.capacity, segments_max)));
        }
        if let Some(contest) = &mut lane.contest
            && contest.samples(hash)
        {
            lane.queues.set_rule(contest.read(hash, weight));
        }
    }

    /// Something left a lane; a class that has nothing there any more leaves its contest to others.
    fn left(&mut self, at: LaneIndex) {
        let lane = &mut self.lanes[at.0 as usize];
        if at.is_of_class() && lane.queues.count() == 0 && lane.contest.take().is_some() {
            self.class_contests -= 1;
        }
    }

    /// The segment, whose name has this hash, has grown or shrunk to `weight`.
    pub(crate) fn resize(&mut self, slot: Slot, lane: LaneIndex, (hash, weight): (u64, u64)) {
        let (lane, weight) = (&mut self.lanes[lane.0 as usize], units(weight));
        lane.queues.resize(&mut self.nodes, slot, weight);
        if let Some(contest) = &mut lane.contest
            && contest.samples(hash)
        {
            contest.resize(hash, weight);
        }
    }

    /// The segment is gone, for another reason than eviction.
    pub(crate) fn forget(&mut self, slot: Slot, lane: LaneIndex) {
        self.lanes[lane.0 as usize].queues.forget(&mut self.nodes, slot);
        self.left(lane);
    }

    /// The segment was evicted: the ghost remembers its name.
    pub(crate) fn evicted(&mut self, slot: Slot, lane: LaneIndex, hash: u64) {
        self.lanes[lane.0 as usize].queues.evicted(&mut self.nodes, slot, hash);
        self.left(lane);
    }

    /// Nothing of a slab is in any queue any more.
    pub(crate) fn drop_group(&mut self, group: u32) {
        self.nodes.drop_group(group);
    }

    /// The segment of `lane` that should go next. It stays where it is until
    /// [`Policy::evicted`] or [`Policy::forget`] is called, so asking twice may name it twice.
    /// `growing` is the segment that room is made for, if it is here already: it goes last.
    pub(crate) fn victim(
        &mut self,
        lane: LaneIndex,
        is_pinned: impl Fn(Slot) -> bool,
        growing: Option<Slot>,
    ) -> Option<Slot> {
        let lane = &mut self.lanes[lane.0 as usize];
        if let Some(contest) = &mut lane.contest {
            contest.follow(lane.queues.weight(), lane.queues.count());
        }
        lane.queues.victim(&mut self.nodes, is_pinned, growing)
    }
}

fn units(weight: u64) -> u16 {
    u16::try_from(weight.div_ceil(WEIGHT_UNIT)).expect("a segment weighs less than 32 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_contest(policy: &Policy, lane: LaneIndex) -> bool {
        policy.lanes[usize::from(lane.0)].contest.is_some()
    }

    #[test]
    fn classes_have_a_contest_where_they_have_much_and_only_so_many() {
        let mut policy = Policy::new(&[1 << 40]);
        let classes: Vec<LaneIndex> =
            (0..=CLASS_CONTESTS_MAX).map(|_| policy.add_class_lane(1 << 30)).collect();
        let count = CLASS_CONTEST_MIN as u32;
        let slot = |nth: usize, at: u32| Slot(nth as u32 * count + at);
        let admit = |policy: &mut Policy, slot: Slot, lane: LaneIndex| {
            policy.admit(slot, Admission { lane, hash: u64::from(slot.0) << 32, weight: 4096 });
        };
        for (nth, lane) in classes.iter().enumerate() {
            for at in 0..count {
                assert!(!has_contest(&policy, *lane), "{at} are too few");
                admit(&mut policy, slot(nth, at), *lane);
            }
            assert_eq!(has_contest(&policy, *lane), nth < CLASS_CONTESTS_MAX);
        }
        let last = classes[CLASS_CONTESTS_MAX];
        for at in 0..count {
            assert!(has_contest(&policy, classes[0]));
            match at {
                0 => policy.evicted(slot(0, at), classes[0], 0),
                _ => policy.forget(slot(0, at), classes[0]),
            }
        }
        assert!(!has_contest(&policy, classes[0]) && !has_contest(&policy, last));
        let free = slot(classes.len(), 0);
        admit(&mut policy, free, last);
        assert!(has_contest(&policy, last), "it has the place now");
        let own = LaneIndex(0);
        admit(&mut policy, slot(0, 0), own);
        assert!(has_contest(&policy, own), "a directory always has one");
    }
}
