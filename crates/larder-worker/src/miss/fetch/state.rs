// SPDX-License-Identifier: Apache-2.0
//! What a fetch knows while its lock is held: what is in memory, who reads where, what is let go
//! of.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    task::Waker,
};

use larder_core::{PAGE_SIZE, PageIndex, Result};

use super::{ROOM_MIN, Run, Step, THIN_STEP, WINDOW, Wanted};

pub(super) struct State {
    /// Where it stops: on a page or at the end of the content.
    pub(super) stop: u64,
    /// What is in memory, in order.
    pub(super) runs: VecDeque<Run>,
    /// All before has arrived.
    pub(super) reached: u64,
    /// Whole pages from `base` on that have arrived; earlier ones are no longer here.
    pub(super) slots: VecDeque<Slot>,
    pub(super) base: u32,
    /// What had been reached when pages behind a slow one were last let go of.
    pub(super) thinned_at: u64,
    /// The page store would not take a page: nothing is brought that nobody reads.
    pub(super) refused: bool,
    /// Positions of the readers, by number.
    pub(super) readers: HashMap<u64, u64>,
    pub(super) readers_ever: u64,
    /// How many of the readers are yet to come.
    pub(super) holds: usize,
    /// Pages stay in memory until the readers have passed them, also where the page store has them.
    pub(super) retains: bool,
    /// Readers that wait for the byte at their position.
    pub(super) waiting: BTreeMap<(u64, u64), Waker>,
    /// The task that drives the fetch, while it waits for readers to go on.
    pub(super) driver: Option<Waker>,
    /// Pages handed to the page store and not yet settled.
    pub(super) unsettled: u32,
    /// How it ended.
    pub(super) end: Option<Result<()>>,
}

/// What became of a page that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The page store has not said yet.
    Pending,
    /// The page store has it.
    Kept,
    /// The page store would not take it: it is here or nowhere.
    Refused,
    /// No longer here.
    Gone,
}

impl State {
    pub(super) fn base_start(&self) -> u64 {
        PageIndex(self.base).start()
    }

    /// How far the fetch may run on for the reader in front; `None` when there is no reader.
    fn room(&self) -> Option<u64> {
        let front = self.readers.values().max()?;
        Some(front.saturating_add(WINDOW).saturating_sub(self.reached))
    }

    pub(super) fn wanted(&self, ahead_to: u64, short: bool) -> Option<Wanted> {
        let more = Some(Wanted::To(self.stop));
        match self.room() {
            _ if self.reached >= self.stop => Some(Wanted::No),
            // A page that has begun is finished, also when its reader has what it wanted of it:
            // half a page can't be kept, and its rest is on the way.
            _ if !self.reached.is_multiple_of(PAGE_SIZE) => more,
            // What readers hold who are yet to come must leave memory to those who are here.
            Some(_) if short && self.holds == self.readers.len() => None,
            _ if self.reached < ahead_to && !self.refused => more,
            Some(0) => None,
            Some(_) => more,
            None => Some(Wanted::No),
        }
    }

    /// Notes where a reader is; answers the driver if it has waited for that.
    pub(super) fn moved(&mut self, reader: u64, position: u64) -> Option<Waker> {
        let before = self.readers.insert(reader, position);
        if let Some(before) = before.filter(|before| *before != position) {
            self.waiting.remove(&(before, reader));
            self.prune();
        }
        if self.driver.is_none() || self.room().is_some_and(|room| room < ROOM_MIN) {
            return None;
        }
        self.driver.take()
    }

    pub(super) fn step(&self, position: u64) -> Option<Step> {
        if position < self.base_start() {
            return Some(Step::Elsewhere);
        }
        if position < self.reached {
            let at = self.runs.partition_point(|run| run.end() <= position);
            let run = self.runs.get(at).filter(|run| run.start <= position);
            return Some(run.map_or(Step::Elsewhere, |run| {
                let from = usize::try_from(position - run.start).expect("within the run");
                Step::Bytes(run.bytes.slice(from..), std::sync::Arc::clone(&run.lease))
            }));
        }
        match self.end.as_ref()? {
            Ok(()) => Some(Step::Elsewhere),
            Err(error) => Some(Step::Failed(error.duplicate())),
        }
    }

    /// Takes out those whose byte is here now.
    pub(super) fn reached_by(&mut self) -> BTreeMap<(u64, u64), Waker> {
        let still_waiting = self.waiting.split_off(&(self.reached, 0));
        std::mem::replace(&mut self.waiting, still_waiting)
    }

    /// Lets go of what nobody needs in memory: pages in front that the page store has, and pages
    /// it would not take that every reader has passed or that have left the window.
    pub(super) fn prune(&mut self) {
        let slowest = self.readers.values().copied().min().unwrap_or(u64::MAX);
        while let Some(slot) = self.slots.front() {
            let end = self.base_start() + PAGE_SIZE;
            let passed = end <= slowest || end.saturating_add(WINDOW) <= self.reached;
            let gone = match slot {
                Slot::Pending => false,
                Slot::Gone => true,
                Slot::Kept => passed || !self.retains,
                Slot::Refused => passed,
            };
            if !gone {
                break;
            }
            self.slots.pop_front();
            self.base += 1;
        }
        let start = self.base_start();
        while self.runs.front().is_some_and(|run| run.end() <= start) {
            self.runs.pop_front();
        }
        let held_up = self.reached.saturating_sub(start) > WINDOW;
        if held_up && self.reached - self.thinned_at >= THIN_STEP {
            self.thinned_at = self.reached;
            self.thin();
        }
    }

    /// A page that the page store is slow about holds up itself and not those behind it.
    fn thin(&mut self) {
        let slowest = self.readers.values().copied().min().unwrap_or(u64::MAX);
        let (base, reached) = (self.base, self.reached);
        for (page, slot) in (base..).zip(self.slots.iter_mut()) {
            let end = PageIndex(page).start() + PAGE_SIZE;
            let passed = end <= slowest || end.saturating_add(WINDOW) <= reached;
            let is_needless = match slot {
                Slot::Kept => passed || !self.retains,
                Slot::Refused => passed,
                Slot::Pending | Slot::Gone => false,
            };
            if is_needless {
                *slot = Slot::Gone;
            }
        }
        let slots = &self.slots;
        self.runs.retain(|run| {
            let first = PageIndex::at(run.start).0.max(base);
            (first..=PageIndex::at(run.end() - 1).0).any(|page| {
                slots.get((page - base) as usize).is_none_or(|slot| *slot != Slot::Gone)
            })
        });
    }
}
