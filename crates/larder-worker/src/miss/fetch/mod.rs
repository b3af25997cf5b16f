// SPDX-License-Identifier: Apache-2.0
//! One fetch: bytes of one content coming in from the store, and the readers that follow them.
//!
//! Bytes arrive in [`Run`]s and are a reader's at once, also when the page they belong to is not
//! whole. They stay in memory until the page store has taken their page, or, where it would not,
//! while readers still need it, at most a window long. So memory holds what lies between the page
//! `base` and what has been reached, less what was let go of behind a page that the page store is
//! slow about, and a reader finds its place in it or in the page store. The pace is set by the
//! reader in front: the fetch runs at most [`WINDOW`] ahead of it. When the last reader leaves,
//! the fetch ends with the page that has begun, unless it was told to run ahead. A reader that will
//! come *holds* a fetch: that keeps it going while memory is plenty, and what came in memory until
//! the reader has passed. A fetch can be cut: what lies behind is then brought by others.
//!
//! Nobody is woken for nothing: a reader waits at its byte and is woken when that byte is here,
//! the one task that drives the fetch when there is room worth going on for.

mod state;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use larder_core::{ByteRange, ContentId, Error, Lease, PAGE_SIZE, PageIndex, Result};
use larder_pages::PutOutcome;
use larder_ufs::priority::{Class, Priority};
use tokio::sync::Notify;

use self::state::{Slot, State};

/// How far a fetch runs ahead of the reader in front, and how long it keeps in memory what the
/// page store would not take.
const WINDOW: u64 = 8 << 20;
/// A fetch that waits for its readers goes on when it has this much room.
const ROOM_MIN: u64 = 512 << 10;
/// How much arrives between two looks at what is held up behind a slow page.
const THIN_STEP: u64 = 2 << 20;
/// A fetch is cut at least so far ahead of what it has reached: it runs so far anyway.
const CUT_AHEAD: u64 = WINDOW;
/// Less than this is not left to others: what the sockets hold of it when it is cut, some MiB,
/// comes in vain.
const LEFT_MIN: u64 = 256 << 20;

pub(crate) struct Fetch {
    pub(crate) content: ContentId,
    /// Bytes of the whole content.
    pub(crate) length: u64,
    /// Where it begins: on a page.
    pub(crate) start: u64,
    /// How urgent its requests and bodies are: as urgent as its most urgent reader ever.
    pub(crate) priority: Priority,
    /// Up to here it goes on although nobody reads.
    ahead_to: u64,
    state: Mutex<State>,
    /// For those who wait for the disk.
    settled: Notify,
}

/// Bytes that came together.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Where they lie in the file.
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
    /// Their share of the memory budget.
    pub(crate) lease: Arc<Lease>,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What a reader finds at its position.
pub(crate) enum Step {
    /// Bytes from that position on.
    Bytes(Bytes, Arc<Lease>),
    /// Not here (any more): look in the page store, or fetch anew.
    Elsewhere,
    /// They will not come.
    Failed(Error),
}

/// Whether a fetch should bring more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is, and what follows up to here.
    To(u64),
    No,
}

impl Fetch {
    pub(crate) fn new(
        (content, length): (ContentId, u64),
        range: ByteRange,
        ahead_to: u64,
        priority: Priority,
    ) -> Self {
        let state = State {
            stop: range.end,
            runs: VecDeque::new(),
            reached: range.start,
            slots: VecDeque::new(),
            base: PageIndex::at(range.start).0,
            thinned_at: range.start,
            refused: false,
            readers: HashMap::new(),
            readers_ever: 0,
            holds: 0,
            retains: false,
            waiting: BTreeMap::new(),
            driver: None,
            unsettled: 0,
            end: None,
        };
        let state = Mutex::new(state);
        let (start, settled) = (range.start, Notify::new());
        Self { content, length, start, priority, ahead_to, state, settled }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reader at this page would be served by this fetch.
    pub(crate) fn covers(&self, page: PageIndex) -> bool {
        let state = self.state();
        if !(self.start..state.stop).contains(&page.start()) {
            return false;
        }
        match page.0.checked_sub(state.base) {
            None => false,
            Some(at) => match state.slots.get(at as usize) {
                Some(slot) => *slot != Slot::Gone,
                None => state.end.is_none(),
            },
        }
    }

    /// Where the first page from `page` on begins that a reader would get from this fetch.
    pub(crate) fn next_covered(&self, page: PageIndex) -> Option<u64> {
        let state = self.state();
        let first = page.0.max(state.base);
        let behind = state.base + u32::try_from(state.slots.len()).expect("pages have 32 bits");
        let here = (first..behind).find(|page| {
            let slot = state.slots.get((page - state.base) as usize);
            slot.is_some_and(|slot| *slot != Slot::Gone)
        });
        let next = here.or_else(|| state.end.is_none().then(|| first.max(behind)))?;
        let start = PageIndex(next).start();
        (start < state.stop).then_some(start)
    }

    /// Where it stops.
    pub(crate) fn stop(&self) -> u64 {
        self.state().stop
    }

    /// Whether more than `far` bytes are to come before `position`, and more than would come for
    /// the readers that it has.
    pub(crate) fn is_far_from(&self, position: u64, far: u64) -> bool {
        position.saturating_sub(self.state().reached) > far.max(CUT_AHEAD)
    }

    /// Has it stop at `stop`, where a page begins, if it has not come so far yet; answers whether
    /// it does. Readers behind that look elsewhere.
    pub(crate) fn cut(&self, stop: u64) -> bool {
        debug_assert!(stop.is_multiple_of(PAGE_SIZE), "a fetch stops on a page");
        let mut state = self.state();
        if stop <= state.reached || stop >= state.stop || state.end.is_some() {
            return false;
        }
        state.stop = stop;
        let behind = state.waiting.split_off(&(stop, 0));
        drop(state);
        behind.into_values().for_each(Waker::wake);
        true
    }

    /// A reader begins to follow at `position`.
    pub(crate) fn attach(self: &Arc<Self>, position: u64, class: Class) -> Attachment {
        self.enter(position, class, Presence::Here)
    }

    /// A reader will come to its first byte.
    pub(crate) fn hold(self: &Arc<Self>, class: Class) -> Attachment {
        self.enter(self.start, class, Presence::Coming)
    }

    fn enter(self: &Arc<Self>, position: u64, class: Class, presence: Presence) -> Attachment {
        self.priority.join(class);
        let mut state = self.state();
        let reader = state.readers_ever;
        state.readers_ever += 1;
        state.readers.insert(reader, position);
        if presence == Presence::Coming {
            state.holds += 1;
            state.retains = true;
        }
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        Attachment { fetch: Arc::clone(self), reader, presence }
    }

    /// Bytes have arrived, right behind those before: readers may have them now. Answers those
    /// that belong to the fetch: it may have been cut meanwhile.
    pub(crate) fn publish(&self, mut run: Run) -> Run {
        let mut state = self.state();
        debug_assert_eq!(run.start, state.reached, "runs come in order");
        let belongs = state.stop.saturating_sub(run.start);
        run.bytes.truncate(usize::try_from(belongs).unwrap_or(usize::MAX));
        if run.bytes.is_empty() {
            return run;
        }
        state.reached = run.end();
        state.runs.push_back(run.clone());
        let whole = match state.reached {
            reached if reached == self.length => reached.div_ceil(PAGE_SIZE),
            reached => reached / PAGE_SIZE,
        };
        while u64::from(state.base) + (state.slots.len() as u64) < whole {
            state.slots.push_back(Slot::Pending);
            state.unsettled += 1;
        }
        state.prune();
        let woken = state.reached_by();
        drop(state);
        woken.into_values().for_each(Waker::wake);
        run
    }

    /// The page store has said what became of a page.
    pub(crate) fn settle(&self, page: PageIndex, outcome: PutOutcome) {
        let mut state = self.state();
        state.unsettled -= 1;
        state.refused |= matches!(outcome, PutOutcome::NotKept(_));
        let at = page.0.checked_sub(state.base).map(|at| at as usize);
        if let Some(slot) = at.and_then(|at| state.slots.get_mut(at)) {
            *slot = match outcome {
                PutOutcome::Kept => Slot::Kept,
                PutOutcome::NotKept(_) => Slot::Refused,
            };
        }
        state.prune();
        drop(state);
        self.settled.notify_waiters();
    }

    /// The last byte has come, or none will come any more.
    pub(crate) fn finish(&self, result: Result<()>) {
        let mut state = self.state();
        state.end = Some(result);
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_values().for_each(Waker::wake);
        self.settled.notify_waiters();
    }

    /// Ends a fetch whose task died.
    pub(crate) fn finish_if_open(&self) {
        let open = self.state().end.is_none();
        if open {
            self.finish(Err(Error::internal("the fetch was abandoned")));
        }
    }

    /// Waits until every page that came has been taken or refused by the page store.
    pub(crate) async fn settled(&self) {
        self.until(|state| state.end.is_some() && state.unsettled == 0).await;
    }

    /// Waits until no page is held in memory any more: all are where `covers` need not see them.
    pub(crate) async fn drained(&self) {
        let drained = |state: &State| state.unsettled == 0 && state.slots.is_empty();
        self.until(|state| state.end.is_some() && drained(state)).await;
    }

    /// Whether this is a job's, and the disk has yet to take pages of it. A reader does not wait
    /// for that.
    pub(crate) fn can_wait_for_disk(&self) -> bool {
        self.priority.class() == Class::Bulk && self.state().unsettled > 0
    }

    /// Waits until the disk has taken the pages that have come, or enough of all pages, or until
    /// a reader has joined.
    pub(crate) async fn disk_catches_up(&self, enough: impl Fn() -> bool) {
        tokio::select! {
            () = self.until(|state| state.unsettled == 0 || enough()) => {}
            () = self.priority.raised() => {}
        }
    }

    /// Waits until `condition` holds.
    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let state = self.state();
                if condition(&state) {
                    return;
                }
            }
            settled.await;
        }
    }

    /// Whether the next byte is wanted; `None`: not yet. Where memory is `short`, only for readers
    /// that are here.
    pub(crate) fn wanted_now(&self, short: bool) -> Option<Wanted> {
        self.state().wanted(self.ahead_to, short)
    }

    /// Waits until the next byte is wanted, or nobody wants it any more.
    pub(crate) async fn wanted(&self, short: bool) -> Wanted {
        poll_fn(|context| {
            let mut state = self.state();
            let wanted = state.wanted(self.ahead_to, short);
            if wanted.is_none() {
                state.driver = Some(context.waker().clone());
            }
            wanted.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// What a reader finds at `position`; pending while that byte is on the way.
    fn poll_step(&self, reader: u64, position: u64, context: &Context<'_>) -> Poll<Step> {
        let mut state = self.state();
        if !(self.start..state.stop).contains(&position) {
            return Poll::Ready(Step::Elsewhere);
        }
        let driver = state.moved(reader, position);
        let step = state.step(position);
        if step.is_none() {
            state.waiting.insert((position, reader), context.waker().clone());
        }
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        step.map_or(Poll::Pending, Poll::Ready)
    }
}

/// A reader's place in a fetch. Dropping it leaves the fetch.
pub(crate) struct Attachment {
    fetch: Arc<Fetch>,
    reader: u64,
    presence: Presence,
}

/// Whether a reader follows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Here,
    Coming,
}

impl Attachment {
    /// What its fetch brings.
    pub(crate) fn range(&self) -> ByteRange {
        ByteRange::new(self.fetch.start, self.fetch.stop())
    }

    /// Whether the fetch waits for its readers or for memory.
    pub(crate) fn is_paused(&self) -> bool {
        self.fetch.state().driver.is_some()
    }

    /// Whether a reader at `position` would have to wait for the store.
    pub(crate) fn owes(&self, position: u64) -> bool {
        let state = self.fetch.state();
        state.reached <= position && position < state.stop && state.end.is_none()
    }

    /// The reader that was to come to the first byte is here. `false`: nothing more will come.
    pub(crate) fn arrive(&mut self) -> bool {
        let mut state = self.fetch.state();
        if self.presence == Presence::Coming {
            self.presence = Presence::Here;
            state.holds -= 1;
        }
        let failed = matches!(state.end, Some(Err(_)));
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        !failed
    }

    /// Has the fetch stop at a multiple of `part` ahead of it, if very much is left to others by
    /// that. Answers where it stops.
    pub(crate) fn leave_to_others(&self, part: u64) -> u64 {
        let (reached, stop) = {
            let state = self.fetch.state();
            (state.reached, state.stop)
        };
        let cut = reached.saturating_add(CUT_AHEAD).next_multiple_of(part);
        if cut.saturating_add(LEFT_MIN) <= stop && self.fetch.cut(cut) { cut } else { stop }
    }

    /// What there is at `position`; the reader is done with all before it.
    pub(crate) async fn step(&self, position: u64) -> Step {
        poll_fn(|context| self.fetch.poll_step(self.reader, position, context)).await
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({:?})", self.fetch)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.fetch.state();
        if let Some(position) = state.readers.remove(&self.reader) {
            state.waiting.remove(&(position, self.reader));
        }
        state.holds -= usize::from(self.presence == Presence::Coming);
        state.prune();
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        self.fetch.settled.notify_waiters();
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetch({} {})", self.content, ByteRange::new(self.start, self.stop()))
    }
}

#[cfg(test)]
mod tests;
