// SPDX-License-Identifier: Apache-2.0
//! The queues of one lane under one rule: a window for newcomers, and a main part in two lists,
//! of what was read again there and of what was not (a segmented LRU).

use super::{
    count::Count,
    ghost::{Ghost, Memory},
    nodes::{Nodes, Slot},
    rule::{Entrance, Rule},
};

pub(super) const NONE: u32 = u32::MAX;
/// The clock takes so many steps while as many bytes are admitted as the queues may hold.
const STEPS_OF_CLOCK: u64 = 256;
/// A tick is so many steps of the clock.
const STEPS_OF_TICK: u16 = 2;
/// Counts are halved after reads of so many times what the queues may hold.
const EPOCH: u64 = 40;
/// Newcomers pass by [`Entrance::ReadAgain`] after so many ticks with a touch.
const PASSES_AT: u8 = 2;
/// The share of the main part for what was read again there, in per cent.
const PROTECTED_PERCENT: u64 = 80;
/// So many segments lose that state with one touch, where the share has become smaller.
const DEMOTED_MAX: usize = 4;
/// A main part that lacks one in so many of its share is filled from the window.
const FAR: u64 = 16;
/// So many steps before a victim is taken without regard to the rule: a bound on the time under
/// the catalogue's lock.
const STEPS_FAIR: usize = 512;
/// So many steps before giving up because everything seen is pinned.
const STEPS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Queue {
    #[default]
    Outside,
    Window,
    Probation,
    Protected,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    newer: u32,
    older: u32,
    weight: u16,
    count: Count,
    tick: u8,
    /// Ticks with a touch since it came, as far as they matter.
    touches: u8,
    queue: Queue,
}

impl Node {
    pub(super) const OUTSIDE: Self = Self {
        newer: NONE,
        older: NONE,
        weight: 0,
        count: Count { reads: 0, epoch: 0 },
        tick: 0,
        touches: 0,
        queue: Queue::Outside,
    };

    pub(super) fn weight(self) -> u16 {
        self.weight
    }
}

/// A doubly linked list through the nodes, with its weight.
#[derive(Debug, Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    weight: u64,
    count: usize,
}

impl List {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE, weight: 0, count: 0 };
}

/// The queues. All weights are in units.
#[derive(Debug)]
pub(super) struct Queues {
    window: List,
    probation: List,
    protected: List,
    ghost: Ghost,
    rule: Rule,
    capacity: u64,
    clock: u16,
    /// Admitted since the clock's last step.
    admitted: u64,
    /// Read since the epoch began.
    read: u64,
    epoch: u8,
    /// Nothing had to go yet.
    filling: bool,
}

impl Queues {
    pub(super) fn new(rule: Rule, capacity: u64, ghost_entries: usize) -> Self {
        Self {
            window: List::EMPTY,
            probation: List::EMPTY,
            protected: List::EMPTY,
            ghost: Ghost::new(ghost_entries),
            rule,
            capacity: capacity.max(1),
            clock: 0,
            admitted: 0,
            read: 0,
            epoch: 0,
            filling: true,
        }
    }

    /// Another rule is in force from now on.
    pub(super) fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }

    pub(super) fn is_filling(&self) -> bool {
        self.filling
    }

    /// What lies in them.
    pub(super) fn weight(&self) -> u64 {
        self.window.weight + self.probation.weight + self.protected.weight
    }

    pub(super) fn count(&self) -> usize {
        self.window.count + self.probation.count + self.protected.count
    }

    /// They may hold so much from now on; clocks show the same as before, in other steps.
    pub(super) fn rescale(&mut self, capacity: u64) {
        let before = self.capacity;
        self.capacity = capacity.max(1);
        let scaled = |units: u64| {
            u64::try_from(u128::from(units) * u128::from(capacity) / u128::from(before))
                .unwrap_or(u64::MAX)
        };
        (self.admitted, self.read) = (scaled(self.admitted), scaled(self.read));
    }

    pub(super) fn admit(&mut self, nodes: &mut Nodes, slot: Slot, (hash, weight): (u64, u16)) {
        self.pass(u64::from(weight));
        let memory = self.ghost.recall(hash);
        let count = memory.map_or(Count::default(), |memory| memory.count);
        let comes_back = memory.is_some_and(|memory| {
            let age = self.clock.wrapping_sub(memory.left_at);
            memory.from_window && u64::from(age) <= STEPS_OF_CLOCK
        });
        // While the lane fills, the main part takes what the window has no share for. Else it
        // would start empty, and a loop that does not fit would find nothing of itself.
        let overflows = self.filling && self.window.weight >= self.window_target(self.capacity);
        let queue = match self.rule.recalls && comes_back || overflows {
            true => Queue::Probation,
            false => Queue::Window,
        };
        self.place(nodes, slot, (queue, weight, count.and_one(self.epoch)));
    }

    /// A segment that was there before: neither new nor read again.
    pub(super) fn restore(&mut self, nodes: &mut Nodes, slot: Slot, weight: u16) {
        let count = Count::default().and_one(self.epoch);
        self.place(nodes, slot, (Queue::Probation, weight, count));
    }

    fn place(&mut self, nodes: &mut Nodes, slot: Slot, new: (Queue, u16, Count)) {
        let (queue, weight, count) = new;
        nodes.make_room(slot);
        nodes[slot.0] = Node { weight, count, tick: self.tick(), queue, ..Node::OUTSIDE };
        self.push(nodes, slot.0);
    }

    /// Whether a touch now would be the first of its tick.
    pub(super) fn is_untouched(&self, nodes: &Nodes, slot: Slot) -> bool {
        nodes[slot.0].tick != self.tick()
    }

    /// It was read, for the first time in this tick.
    pub(super) fn touch(&mut self, nodes: &mut Nodes, slot: Slot) {
        let node = &mut nodes[slot.0];
        node.tick = self.tick();
        node.touches = node.touches.saturating_add(1);
        node.count = node.count.and_one(self.epoch);
        let queue = match node.queue {
            Queue::Outside => return,
            Queue::Window => Queue::Window,
            _ if self.rule.entrance == Entrance::Closed => Queue::Window,
            _ => Queue::Protected,
        };
        self.read(u64::from(node.weight));
        self.requeue(nodes, slot.0, queue);
        let held = self.weight();
        let share = (held - self.window_target(held)) * PROTECTED_PERCENT / 100;
        for _ in 0..DEMOTED_MAX {
            if self.protected.weight <= share {
                break;
            }
            self.requeue(nodes, self.protected.oldest, Queue::Probation);
        }
    }

    pub(super) fn resize(&mut self, nodes: &mut Nodes, slot: Slot, weight: u16) {
        let node = &mut nodes[slot.0];
        let old = std::mem::replace(&mut node.weight, weight);
        let queue = node.queue;
        self.pass(u64::from(weight.saturating_sub(old)));
        let list = self.list(queue);
        list.weight = list.weight + u64::from(weight) - u64::from(old);
    }

    pub(super) fn forget(&mut self, nodes: &mut Nodes, slot: Slot) {
        self.unlink(nodes, slot.0);
        nodes[slot.0] = Node::OUTSIDE;
    }

    pub(super) fn evicted(&mut self, nodes: &mut Nodes, slot: Slot, hash: u64) {
        let Node { queue, count, .. } = nodes[slot.0];
        self.forget(nodes, slot);
        let from_window = queue == Queue::Window;
        self.ghost.remember(hash, Memory { count, left_at: self.clock, from_window });
        self.ghost.grow_for(self.count());
    }

    /// What should go next. Where room is made for `growing` to grow, that goes only if nothing
    /// else can: it would lose what it had for what it gets.
    pub(super) fn victim(
        &mut self,
        nodes: &mut Nodes,
        is_pinned: impl Fn(Slot) -> bool,
        growing: Option<Slot>,
    ) -> Option<Slot> {
        self.filling = false;
        let held = self.weight();
        let target = self.window_target(held);
        // As if what room is made for were in already.
        let next = held / self.count().max(1) as u64;
        // So many of the main part were seen pinned; where all are, the window has to give.
        let mut pinned = 0;
        let grows = |at: u32| growing == Some(Slot(at));
        let mut spared = None;
        for step in 0..STEPS_MAX {
            let all_pinned = pinned >= self.probation.count + self.protected.count;
            let resident = if all_pinned { NONE } else { self.oldest_of_main() };
            let mut newcomer = self.window.oldest;
            if newcomer != NONE && grows(newcomer) {
                spared = growing;
                newcomer = nodes[newcomer].newer;
            }
            if newcomer == NONE && resident == NONE {
                break;
            }
            let from_main =
                newcomer == NONE || resident != NONE && self.window.weight + next <= target;
            let oldest = if from_main { resident } else { newcomer };
            if is_pinned(Slot(oldest)) || grows(oldest) {
                spared = spared.or(growing.filter(|_| grows(oldest)));
                // Somebody reads it right now. It moves on, or it would hide all others behind it.
                let queue = if from_main { Queue::Protected } else { Queue::Probation };
                self.requeue(nodes, oldest, queue);
                pinned += usize::from(from_main);
            } else if from_main || step >= STEPS_FAIR {
                return Some(Slot(oldest));
            } else {
                match self.verdict(nodes, (newcomer, resident), held - target) {
                    Verdict::Goes(slot) => return Some(Slot(slot)),
                    Verdict::Passes => self.pass_on(nodes, newcomer),
                    Verdict::Displaces if is_pinned(Slot(resident)) || grows(resident) => {
                        spared = spared.or(growing.filter(|_| grows(resident)));
                        self.requeue(nodes, resident, Queue::Protected);
                        pinned += 1;
                    }
                    Verdict::Displaces => {
                        self.pass_on(nodes, newcomer);
                        return Some(Slot(resident));
                    }
                }
            }
        }
        spared.filter(|spared| !is_pinned(*spared))
    }

    /// What becomes of the oldest of the window, with the oldest of the main part, which may hold
    /// `main_target`.
    fn verdict(
        &self,
        nodes: &Nodes,
        (newcomer, resident): (u32, u32),
        main_target: u64,
    ) -> Verdict {
        let node = nodes[newcomer];
        let main = self.probation.weight + self.protected.weight + u64::from(node.weight);
        let count = |at: u32| nodes[at].count.at(self.epoch);
        match self.rule.entrance {
            Entrance::Closed => Verdict::Goes(newcomer),
            // Far more room than a window in balance leaves: another rule was in force before.
            Entrance::ReadAgain if main + main_target / FAR <= main_target => Verdict::Passes,
            Entrance::ReadAgain if node.touches >= PASSES_AT => Verdict::Passes,
            Entrance::MoreOften if main <= main_target => Verdict::Passes,
            Entrance::MoreOften if resident != NONE && count(newcomer) > count(resident) => {
                Verdict::Displaces
            }
            Entrance::ReadAgain | Entrance::MoreOften => Verdict::Goes(newcomer),
        }
    }

    fn pass_on(&mut self, nodes: &mut Nodes, newcomer: u32) {
        nodes[newcomer].touches = 0;
        self.requeue(nodes, newcomer, Queue::Probation);
    }

    fn oldest_of_main(&self) -> u32 {
        if self.probation.oldest == NONE { self.protected.oldest } else { self.probation.oldest }
    }

    fn window_target(&self, of: u64) -> u64 {
        of * self.rule.window_percent / 100
    }

    fn tick(&self) -> u8 {
        (self.clock / STEPS_OF_TICK) as u8
    }

    /// So much was admitted, and read.
    fn pass(&mut self, weight: u64) {
        let step = (self.capacity / STEPS_OF_CLOCK).max(1);
        self.admitted += weight;
        self.clock = self.clock.wrapping_add((self.admitted / step) as u16);
        self.admitted %= step;
        self.read(weight);
    }

    fn read(&mut self, weight: u64) {
        self.read += weight;
        if self.read >= self.capacity.saturating_mul(EPOCH) {
            self.read = 0;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        match queue {
            Queue::Window => &mut self.window,
            Queue::Protected => &mut self.protected,
            Queue::Probation | Queue::Outside => &mut self.probation,
        }
    }

    fn requeue(&mut self, nodes: &mut Nodes, at: u32, queue: Queue) {
        self.unlink(nodes, at);
        nodes[at].queue = queue;
        self.push(nodes, at);
    }

    fn push(&mut self, nodes: &mut Nodes, at: u32) {
        let list = self.list(nodes[at].queue);
        let before = std::mem::replace(&mut list.newest, at);
        if before == NONE {
            list.oldest = at;
        } else {
            nodes[before].newer = at;
        }
        let node = &mut nodes[at];
        node.newer = NONE;
        node.older = before;
        list.weight += u64::from(node.weight);
        list.count += 1;
    }

    fn unlink(&mut self, nodes: &mut Nodes, at: u32) {
        let node = nodes[at];
        let list = self.list(node.queue);
        if node.newer == NONE {
            list.newest = node.older;
        } else {
            nodes[node.newer].older = node.older;
        }
        if node.older == NONE {
            list.oldest = node.newer;
        } else {
            nodes[node.older].newer = node.newer;
        }
        list.weight -= u64::from(node.weight);
        list.count -= 1;
    }
}

/// What becomes of the oldest of the window.
enum Verdict {
    /// This one leaves the cache.
    Goes(u32),
    /// It passes on, and something else is looked for.
    Passes,
    /// It passes on, and the oldest of the main part goes for it.
    Displaces,
}
