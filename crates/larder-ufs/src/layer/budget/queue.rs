// SPDX-License-Identifier: Apache-2.0
//! Who is next: foreground before bulk, the mounts of a class in turn. Pure: whether a mount's
//! next may pass is the [`Gate`]'s word.
//!
//! Bulk is not starved for ever. Where a foreground queue never empties, every
//! [`BULK_EVERY`]th that passes is bulk: among all mounts together, and within a mount that has
//! both, so that one mount's traffic never buys another's bulk a place before its own readers.
//! Within a mount and class the order is that of arrival, also for those that were raised.

use std::{collections::BTreeSet, time::Duration};

use crate::priority::Class;

/// While foreground waits without end, one of so many that pass is bulk.
const BULK_EVERY: u32 = 16;

/// A place in the queue; the lower came first.
pub(super) type Ticket = u64;

/// Whether one may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Now.
    Now,
    /// Not before this time.
    At(Duration),
    /// Not before something is given back.
    Later,
}

/// What admits: limits of which the queue knows nothing.
pub(super) trait Gate {
    /// Whether one of this mount and class may pass.
    fn opening(&mut self, mount: usize, class: Class, now: Duration) -> Opening;
}

/// Those who wait, by mount and class.
#[derive(Debug, Default)]
pub(super) struct Queue {
    mounts: Vec<Lines>,
    /// Whose turn it is, by class: the mount that passed last stands last.
    turns: [Vec<usize>; 2],
    tickets: Ticket,
    /// How many foreground passed while bulk waited.
    passed_over: u32,
}

/// The lines of one mount.
#[derive(Debug, Default)]
struct Lines {
    waiting: [BTreeSet<Ticket>; 2],
    /// How many of its foreground passed while its bulk waited.
    passed_over: u32,
}

/// The next that may pass, or when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This one, which is no longer in the queue.
    Pass(usize, Class, Ticket),
    /// Nobody before this time.
    At(Duration),
    /// Nobody before something is given back or somebody comes.
    Nobody,
}

impl Queue {
    /// One more mount; answers its number.
    pub(super) fn add_mount(&mut self) -> usize {
        self.mounts.push(Lines::default());
        let mount = self.mounts.len() - 1;
        self.turns.iter_mut().for_each(|turns| turns.push(mount));
        mount
    }

    /// How many wait.
    pub(super) fn waiting(&self, mount: usize, class: Class) -> usize {
        self.mounts[mount].waiting[class as usize].len()
    }

    /// Whether nobody waits at all.
    pub(super) fn is_empty(&self) -> bool {
        self.mounts.iter().all(|lines| lines.waiting.iter().all(BTreeSet::is_empty))
    }

    /// Somebody comes and stands last in line.
    pub(super) fn push(&mut self, mount: usize, class: Class) -> Ticket {
        self.tickets += 1;
        self.mounts[mount].waiting[class as usize].insert(self.tickets);
        self.tickets
    }

    /// Somebody in the bulk line becomes foreground, and stands where it would stand had it come
    /// as that.
    pub(super) fn raise(&mut self, mount: usize, ticket: Ticket) {
        let [foreground, bulk] = &mut self.mounts[mount].waiting;
        if bulk.remove(&ticket) {
            foreground.insert(ticket);
        }
    }

    /// Somebody leaves.
    pub(super) fn remove(&mut self, mount: usize, ticket: Ticket) {
        self.mounts[mount].waiting.iter_mut().for_each(|line| {
            line.remove(&ticket);
        });
    }

    /// Takes out the next that may pass.
    pub(super) fn next(&mut self, gate: &mut impl Gate, now: Duration) -> Next {
        let mut soonest = Next::Nobody;
        if self.passed_over >= BULK_EVERY - 1
            && let Some(passes) = self.first(Class::Bulk, Whose::OwnTurn, gate, (now, &mut soonest))
        {
            return passes;
        }
        for (class, whose) in [(Class::Foreground, Whose::Any), (Class::Bulk, Whose::Any)] {
            if let Some(passes) = self.first(class, whose, gate, (now, &mut soonest)) {
                return passes;
            }
        }
        soonest
    }

    /// The first of a class, by turns, that may pass; the soonest time at which one may, if none.
    fn first(
        &mut self,
        class: Class,
        whose: Whose,
        gate: &mut impl Gate,
        (now, soonest): (Duration, &mut Next),
    ) -> Option<Next> {
        let turns = &self.turns[class as usize];
        for (place, &mount) in turns.iter().enumerate() {
            let lines = &self.mounts[mount];
            let Some(&ticket) = lines.waiting[class as usize].first() else { continue };
            if whose == Whose::OwnTurn && !lines.is_bulks_turn() {
                continue;
            }
            match (gate.opening(mount, class, now), *soonest) {
                (Opening::Now, _) => {
                    self.passes(mount, class, place);
                    return Some(Next::Pass(mount, class, ticket));
                }
                (Opening::At(at), Next::At(before)) => *soonest = Next::At(before.min(at)),
                (Opening::At(at), _) => *soonest = Next::At(at),
                (Opening::Later, _) => {}
            }
        }
        None
    }

    fn passes(&mut self, mount: usize, class: Class, place: usize) {
        let turns = &mut self.turns[class as usize];
        turns.remove(place);
        turns.push(mount);
        let bulk_waits = |lines: &Lines| !lines.waiting[Class::Bulk as usize].is_empty();
        let any_bulk_waits = self.mounts.iter().any(bulk_waits);
        let lines = &mut self.mounts[mount];
        lines.waiting[class as usize].pop_first();
        let bulk_waits = bulk_waits(lines);
        count(&mut lines.passed_over, class, bulk_waits);
        count(&mut self.passed_over, class, any_bulk_waits);
    }
}

/// Which bulk lines are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// All.
    Any,
    /// Those that stand behind no foreground of their own mount, or have done so for long enough.
    OwnTurn,
}

impl Lines {
    fn is_bulks_turn(&self) -> bool {
        self.waiting[Class::Foreground as usize].is_empty() || self.passed_over >= BULK_EVERY - 1
    }
}

/// Counts foreground that passes while bulk waits.
fn count(passed_over: &mut u32, class: Class, bulk_waits: bool) {
    *passed_over = match class {
        Class::Foreground if bulk_waits => passed_over.saturating_add(1),
        Class::Foreground | Class::Bulk => 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets pass whom its rule allows.
    struct Rule<F>(F);

    impl<F: FnMut(usize, Class) -> Opening> Gate for Rule<F> {
        fn opening(&mut self, mount: usize, class: Class, _: Duration) -> Opening {
            self.0(mount, class)
        }
    }

    fn open() -> Rule<impl FnMut(usize, Class) -> Opening> {
        Rule(|_, _| Opening::Now)
    }

    /// A queue of so many mounts with so many of each class waiting.
    fn queue(waiting: &[[u32; 2]]) -> Queue {
        let mut queue = Queue::default();
        for counts in waiting {
            let mount = queue.add_mount();
            for (class, count) in Class::ALL.into_iter().zip(counts) {
                for _ in 0..*count {
                    queue.push(mount, class);
                }
            }
        }
        queue
    }

    fn pass(queue: &mut Queue, gate: &mut impl Gate) -> Option<(usize, Class)> {
        match queue.next(gate, Duration::ZERO) {
            Next::Pass(mount, class, _) => Some((mount, class)),
            Next::At(_) | Next::Nobody => None,
        }
    }

    #[test]
    fn foreground_passes_before_any_bulk() {
        let mut queue = queue(&[[0, 500], [2, 500]]);
        assert_eq!(pass(&mut queue, &mut open()), Some((1, Class::Foreground)));
        assert_eq!(pass(&mut queue, &mut open()), Some((1, Class::Foreground)));
        assert_eq!(pass(&mut queue, &mut open()), Some((0, Class::Bulk)));
        queue.push(0, Class::Foreground);
        assert_eq!(pass(&mut queue, &mut open()), Some((0, Class::Foreground)));
    }

    #[test]
    fn mounts_take_turns_in_each_class() {
        let mut queue = queue(&[[0, 9], [0, 900], [0, 900]]);
        let mut passed = [0; 3];
        for _ in 0..27 {
            passed[pass(&mut queue, &mut open()).expect("somebody").0] += 1;
        }
        assert_eq!(passed, [9, 9, 9]);
        for _ in 0..20 {
            passed[pass(&mut queue, &mut open()).expect("somebody").0] += 1;
        }
        assert_eq!(passed, [9, 19, 19], "who has nothing to send takes no turn");
    }

    #[test]
    fn bulk_has_its_share_of_an_endless_foreground() {
        for mut queue in [queue(&[[800, 800]]), queue(&[[800, 0], [0, 800]]), {
            queue(&[[800, 0], [0, 400], [0, 400], [0, 400]])
        }] {
            let mut bulk = 0;
            for _ in 0..320 {
                let (_, class) = pass(&mut queue, &mut open()).expect("somebody");
                bulk += usize::from(class == Class::Bulk);
            }
            assert_eq!(bulk, 20, "one of sixteen");
        }
    }

    /// One mount's readers bring a bulk turn about, and it is not taken out of another's limit.
    #[test]
    fn the_share_of_bulk_is_taken_from_its_own_mounts_readers_sparingly() {
        let mut queue = queue(&[[4000, 0], [400, 400]]);
        let mut passed = [0; 2];
        for _ in 0..100 {
            // The second mount may send one where the first sends thirty.
            for _ in 0..30 {
                pass(
                    &mut queue,
                    &mut Rule(|mount, _| if mount == 0 { Opening::Now } else { Opening::Later }),
                );
            }
            let next = pass(
                &mut queue,
                &mut Rule(|mount, _| if mount == 1 { Opening::Now } else { Opening::Later }),
            );
            passed[next.expect("somebody").1 as usize] += 1;
        }
        assert!((5..=7).contains(&passed[1]), "{passed:?}");
    }

    #[test]
    fn who_is_raised_keeps_the_place_of_arrival() {
        let mut queue = queue(&[[0, 0]]);
        let tickets: Vec<Ticket> = (0..3).map(|_| queue.push(0, Class::Bulk)).collect();
        let late = queue.push(0, Class::Foreground);
        queue.raise(0, tickets[1]);
        let order: Vec<Next> = (0..4).map(|_| queue.next(&mut open(), Duration::ZERO)).collect();
        let foreground = |ticket| Next::Pass(0, Class::Foreground, ticket);
        let bulk = |ticket| Next::Pass(0, Class::Bulk, ticket);
        let right = [foreground(tickets[1]), foreground(late), bulk(tickets[0]), bulk(tickets[2])];
        assert_eq!(order, right);
    }

    #[test]
    fn who_may_not_pass_holds_up_nobody_else() {
        let mut queue = queue(&[[1, 1], [1, 1], [0, 0]]);
        let at = |seconds| Opening::At(Duration::from_secs(seconds));
        let mut gate = Rule(|mount, class| match (mount, class) {
            (0, Class::Foreground) => Opening::Later,
            (0, Class::Bulk) => at(9),
            (_, Class::Foreground) => at(7),
            (_, Class::Bulk) => Opening::Now,
        });
        assert_eq!(pass(&mut queue, &mut gate), Some((1, Class::Bulk)));
        assert_eq!(queue.next(&mut gate, Duration::ZERO), Next::At(Duration::from_secs(7)));
        assert_eq!((queue.waiting(0, Class::Bulk), queue.is_empty()), (1, false));
        queue.remove(0, 1);
        queue.remove(0, 2);
        queue.remove(1, 3);
        assert!(queue.is_empty());
        assert_eq!(queue.next(&mut gate, Duration::ZERO), Next::Nobody);
    }
}
