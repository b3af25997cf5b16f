// SPDX-License-Identifier: Apache-2.0
//! The queues. Nodes are numbered by the caller (the catalogue's slots), linked by index: twelve
//! bytes per segment and per small file.

use super::{
    ghost::Ghost,
    nodes::{Nodes, Slot},
};
use crate::roster::DIRECTORIES_MAX;

/// The number of a lane: that of its directory, or behind all of those that of a class in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneIndex(pub(crate) u16);

/// A segment that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) lane: LaneIndex,
    /// A hash of the segment's name, for the ghost.
    pub(crate) hash: u64,
    pub(crate) weight: u64,
}

const NONE: u32 = u32::MAX;
/// Weights are kept in units of a disk sector, so that small files weigh what they take and 16
/// bits hold a segment and its overhead.
const WEIGHT_UNIT: u64 = 512;
/// The share of a lane's bytes for newcomers: one in so many.
const SMALL_SHARE: u64 = 10;
/// A tick is one in so many of a lane's bytes.
const TICKS: u64 = 128;
const FREQUENCY_MAX: u8 = 3;
/// A newcomer moves to the main queue after so many ticks with a touch.
const PROMOTE_AT: u8 = 2;
/// So many steps before a victim is taken without regard to its frequency: a bound on the time
/// under the catalogue's lock.
const STEPS_FAIR: usize = 512;
/// So many steps before giving up because everything seen is pinned.
const STEPS_MAX: usize = 4096;
/// The bounds of the ghost's table as it is made; it grows when small files need more.
const GHOST_ENTRIES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;
/// A class remembers less, for there may be many of them: half a MiB each.
const CLASS_GHOST_ENTRIES_MAX: u64 = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Queue {
    #[default]
    Outside,
    Small,
    Main,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    newer: u32,
    older: u32,
    weight: u16,
    /// Frequency in the low two bits, queue in the next two.
    state: u8,
    tick: u8,
}

impl Node {
    pub(super) const OUTSIDE: Self =
        Self { newer: NONE, older: NONE, weight: 0, state: 0, tick: 0 };

    fn frequency(self) -> u8 {
        self.state & 3
    }

    fn queue(self) -> Queue {
        match self.state >> 2 {
            1 => Queue::Small,
            2 => Queue::Main,
            _ => Queue::Outside,
        }
    }

    fn set(&mut self, queue: Queue, frequency: u8) {
        let queue = match queue {
            Queue::Outside => 0,
            Queue::Small => 1,
            Queue::Main => 2,
        };
        self.state = queue << 2 | frequency.min(FREQUENCY_MAX);
    }
}

/// A doubly linked list through the nodes, with its weight.
#[derive(Debug)]
struct List {
    newest: u32,
    oldest: u32,
    weight: u64,
    count: usize,
}

impl List {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE, weight: 0, count: 0 };
}

#[derive(Debug)]
struct Lane {
    small: List,
    main: List,
    ghost: Ghost,
    small_target: u64,
    tick_units: u64,
    /// Units ever admitted: the lane's clock.
    admitted: u64,
    /// Nothing had to go yet.
    filling: bool,
    /// It may hold far less than its capacity, so newcomers have a share of what it holds.
    of_class: bool,
}

impl Lane {
    fn new(capacity: u64, ghost_entries: u64) -> Self {
        let (small_target, tick_units) = shares(capacity);
        Self {
            small: List::EMPTY,
            main: List::EMPTY,
            ghost: Ghost::new(ghost_entries as usize),
            small_target,
            tick_units,
            admitted: 0,
            filling: true,
            of_class: false,
        }
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        if queue == Queue::Small { &mut self.small } else { &mut self.main }
    }

    fn tick(&self) -> u8 {
        (self.admitted / self.tick_units) as u8
    }
}

/// The queues of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    nodes: Nodes,
    lanes: Vec<Lane>,
    /// How many of the first lanes are in use.
    directories: usize,
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
        self.lanes.push(Lane { of_class: true, ..Lane::new(capacity, entries) });
        LaneIndex(u16::try_from(self.lanes.len() - 1).expect("directories times classes"))
    }

    /// What lies in a lane, in bytes.
    pub(crate) fn weight(&self, lane: LaneIndex) -> u64 {
        let lane = &self.lanes[lane.0 as usize];
        (lane.small.weight + lane.main.weight) * WEIGHT_UNIT
    }

    /// The lane of a simulation was cut down to `to` bytes, and what it holds with it. Its clock
    /// shows the same tick as before, in ticks that are smaller.
    pub(crate) fn rescale(&mut self, lane: LaneIndex, from: u64, to: u64) {
        let lane = &mut self.lanes[lane.0 as usize];
        let before = lane.tick_units;
        (lane.small_target, lane.tick_units) = shares(to);
        let (ticks, rest) = (lane.admitted / before, lane.admitted % before);
        let old = lane.admitted;
        lane.admitted = ticks * lane.tick_units + rest * lane.tick_units / before;
        lane.ghost.rescale((old * WEIGHT_UNIT, from), (lane.admitted * WEIGHT_UNIT, to));
    }

    /// A segment comes in: a newcomer, unless it left only lately or there is still room for all.
    pub(crate) fn admit(&mut self, slot: Slot, admission: Admission) {
        let units = units(admission.weight);
        let lane = &mut self.lanes[admission.lane.0 as usize];
        lane.admitted += u64::from(units);
        let window = lane.main.weight.max(lane.small_target) * WEIGHT_UNIT;
        let clock = lane.admitted * WEIGHT_UNIT;
        let known = lane.ghost.recall(admission.hash, clock, window);
        // While the lane fills, the main queue takes what the small one has no share for. Else
        // it would start empty, and a loop that does not fit would find nothing of itself.
        let overflows = lane.filling && lane.small.weight >= lane.small_target;
        let queue = if known || overflows { Queue::Main } else { Queue::Small };
        self.place(slot, admission.lane, (queue, units));
    }

    /// A segment that was there before the process started: neither new nor read again.
    pub(crate) fn restore(&mut self, slot: Slot, admission: Admission) {
        self.place(slot, admission.lane, (Queue::Main, units(admission.weight)));
    }

    fn place(&mut self, slot: Slot, lane: LaneIndex, (queue, weight): (Queue, u16)) {
        self.nodes.make_room(slot);
        let node = &mut self.nodes[slot.0];
        node.set(queue, 0);
        node.weight = weight;
        node.tick = self.lanes[lane.0 as usize].tick();
        self.push(slot.0, lane, queue);
    }

    /// The segment was read.
    pub(crate) fn touch(&mut self, slot: Slot, lane: LaneIndex) {
        let tick = self.lanes[lane.0 as usize].tick();
        let node = &mut self.nodes[slot.0];
        if node.tick != tick {
            node.tick = tick;
            node.set(node.queue(), node.frequency() + 1);
        }
    }

    /// The segment has grown or shrunk to `weight`.
    pub(crate) fn resize(&mut self, slot: Slot, lane: LaneIndex, weight: u64) {
        let new = units(weight);
        let node = &mut self.nodes[slot.0];
        let old = std::mem::replace(&mut node.weight, new);
        let queue = node.queue();
        let lane = &mut self.lanes[lane.0 as usize];
        lane.admitted += u64::from(new.saturating_sub(old));
        let list = lane.list(queue);
        list.weight = list.weight + u64::from(new) - u64::from(old);
    }

    /// The segment is gone, for another reason than eviction.
    pub(crate) fn forget(&mut self, slot: Slot, lane: LaneIndex) {
        self.unlink(slot.0, lane);
        self.nodes[slot.0].set(Queue::Outside, 0);
    }

    /// The segment was evicted: the ghost remembers a newcomer's name.
    pub(crate) fn evicted(&mut self, slot: Slot, lane: LaneIndex, hash: u64) {
        let newcomer = self.nodes[slot.0].queue() == Queue::Small;
        self.forget(slot, lane);
        if newcomer {
            let lane = &mut self.lanes[lane.0 as usize];
            lane.ghost.remember(hash, lane.admitted * WEIGHT_UNIT);
            lane.ghost.grow_for(lane.small.count + lane.main.count);
        }
    }

    /// Nothing of a slab is in any queue any more.
    pub(crate) fn drop_group(&mut self, group: u32) {
        self.nodes.drop_group(group);
    }

    /// The segment of `lane` that should go next. It stays where it is until
    /// [`Policy::evicted`] or [`Policy::forget`] is called, so asking twice may name it twice.
    pub(crate) fn victim(
        &mut self,
        lane: LaneIndex,
        is_pinned: impl Fn(Slot) -> bool,
    ) -> Option<Slot> {
        let of = &mut self.lanes[lane.0 as usize];
        of.filling = false;
        if of.of_class {
            of.small_target = (of.small.weight + of.main.weight) / SMALL_SHARE;
        }
        for step in 0..STEPS_MAX {
            let of = &self.lanes[lane.0 as usize];
            let small_first = of.small.oldest != NONE
                && (of.small.weight > of.small_target || of.main.oldest == NONE);
            let queue = if small_first { Queue::Small } else { Queue::Main };
            let oldest = if small_first { of.small.oldest } else { of.main.oldest };
            if oldest == NONE {
                return None;
            }
            let node = self.nodes[oldest];
            if is_pinned(Slot(oldest)) {
                // Somebody reads it right now. In the small queue it moves on, or a pinned
                // newcomer at the end would hide all others behind it.
                self.requeue(oldest, lane, (Queue::Main, node.frequency()));
            } else if step >= STEPS_FAIR {
                return Some(Slot(oldest));
            } else if queue == Queue::Small && node.frequency() >= PROMOTE_AT {
                self.requeue(oldest, lane, (Queue::Main, 0));
            } else if queue == Queue::Main && node.frequency() > 0 {
                self.requeue(oldest, lane, (Queue::Main, node.frequency() - 1));
            } else {
                return Some(Slot(oldest));
            }
        }
        None
    }

    fn requeue(&mut self, at: u32, lane: LaneIndex, (queue, frequency): (Queue, u8)) {
        self.unlink(at, lane);
        self.nodes[at].set(queue, frequency);
        self.push(at, lane, queue);
    }

    fn push(&mut self, at: u32, lane: LaneIndex, queue: Queue) {
        let list = self.lanes[lane.0 as usize].list(queue);
        let before = std::mem::replace(&mut list.newest, at);
        if before == NONE {
            list.oldest = at;
        } else {
            self.nodes[before].newer = at;
        }
        let node = &mut self.nodes[at];
        node.newer = NONE;
        node.older = before;
        list.weight += u64::from(node.weight);
        list.count += 1;
    }

    fn unlink(&mut self, at: u32, lane: LaneIndex) {
        let node = self.nodes[at];
        let list = self.lanes[lane.0 as usize].list(node.queue());
        if node.newer == NONE {
            list.newest = node.older;
        } else {
            self.nodes[node.newer].older = node.older;
        }
        if node.older == NONE {
            list.oldest = node.newer;
        } else {
            self.nodes[node.older].newer = node.newer;
        }
        list.weight -= u64::from(node.weight);
        list.count -= 1;
    }
}

/// The units that newcomers may take of a lane, and those of a tick.
fn shares(capacity: u64) -> (u64, u64) {
    let units = capacity / WEIGHT_UNIT;
    (units / SMALL_SHARE, (units / TICKS).max(1))
}

fn units(weight: u64) -> u16 {
    u16::try_from(weight.div_ceil(WEIGHT_UNIT)).expect("a segment weighs less than 32 MiB")
}
