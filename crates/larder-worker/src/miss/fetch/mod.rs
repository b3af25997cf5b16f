// SPDX-License-Identifier: Apache-2.0
//! One fetch: bytes of one content coming in from the store, and the readers that follow them.
//!
//! Bytes arrive in [`Run`]s and are a reader's at once, also when the page they belong to is not
//! whole. They stay in memory until the page store has taken their page, or, where it would not,
//! while readers still need it, at most a window long. So memory holds what lies between the page
//! `base` and what has been reached, less what was let go of behind a page that the page store is
//! slow about, and a reader finds its place in it or in the page store. The pace is set by the
//! reader in front: the fetch runs at most [`WINDOW`] ahead of it. When the last reader leaves,
//! the fetch ends with the page that has begun, unless it was told to run ahead.
//!
//! Nobody is woken for nothing: a reader waits at its byte and is woken when that byte is here,
//! the one task that drives the fetch when there is room worth going on for.

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

/// How far a fetch runs ahead of the reader in front, and how long it keeps in memory what the
/// page store would not take.
const WINDOW: u64 = 8 << 20;
/// A fetch that waits for its readers goes on when it has this much room.
const ROOM_MIN: u64 = 512 << 10;
/// How much arrives between two looks at what is held up behind a slow page.
const THIN_STEP: u64 = 2 << 20;

pub(crate) struct Fetch {
    pub(crate) content: ContentId,
    /// Bytes of the whole content.
    pub(crate) length: u64,
    /// What this fetch brings: starts on a page, ends on a page or at the end of the content.
    pub(crate) range: ByteRange,
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

struct State {
    /// What is in memory, in order.
    runs: VecDeque<Run>,
    /// All before has arrived.
    reached: u64,
    /// Whole pages from `base` on that have arrived; earlier ones are no longer here.
    slots: VecDeque<Slot>,
    base: u32,
    /// What had been reached when pages behind a slow one were last let go of.
    thinned_at: u64,
    /// The page store would not take a page: nothing is brought that nobody reads.
    refused: bool,
    /// Positions of the readers, by number.
    readers: HashMap<u64, u64>,
    readers_ever: u64,
    /// Readers that wait for the byte at their position.
    waiting: BTreeMap<(u64, u64), Waker>,
    /// The task that drives the fetch, while it waits for readers to go on.
    driver: Option<Waker>,
    /// Pages handed to the page store and not yet settled.
    unsettled: u32,
    /// How it ended.
    end: Option<Result<()>>,
}

/// What became of a page that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The page store has not said yet.
    Pending,
    /// The page store has it.
    Kept,
    /// The page store would not take it: it is here or nowhere.
    Refused,
    /// No longer here.
    Gone,
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
    Yes,
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
            runs: VecDeque::new(),
            reached: range.start,
            slots: VecDeque::new(),
            base: PageIndex::at(range.start).0,
            thinned_at: range.start,
            refused: false,
            readers: HashMap::new(),
            readers_ever: 0,
            waiting: BTreeMap::new(),
            driver: None,
            unsettled: 0,
            end: None,
        };
        let state = Mutex::new(state);
        Self { content, length, range, priority, ahead_to, state, settled: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reader at this page would be served by this fetch.
    pub(crate) fn covers(&self, page: PageIndex) -> bool {
        if !self.range.contains(ByteRange::new(page.start(), page.start() + 1)) {
            return false;
        }
        let state = self.state();
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
        (start < self.range.end).then_some(start)
    }

    /// A reader begins to follow at `position`.
    pub(crate) fn attach(self: &Arc<Self>, position: u64, class: Class) -> Attachment {
        self.priority.join(class);
        let mut state = self.state();
        let reader = state.readers_ever;
        state.readers_ever += 1;
        state.readers.insert(reader, position);
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        Attachment { fetch: Arc::clone(self), reader }
    }

    /// Bytes have arrived, right behind those before: readers may have them now.
    pub(crate) fn publish(&self, run: Run) {
        let mut state = self.state();
        debug_assert_eq!(run.start, state.reached, "runs come in order");
        state.reached = run.end();
        state.runs.push_back(run);
        let whole = match state.reached {
            reached if reached == self.range.end => reached.div_ceil(PAGE_SIZE),
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
        self.until(|state| state.unsettled == 0).await;
    }

    /// Waits until no page is held in memory any more: all are where `covers` need not see them.
    pub(crate) async fn drained(&self) {
        self.until(|state| state.unsettled == 0 && state.slots.is_empty()).await;
    }

    /// Waits until the fetch has ended and `condition` holds.
    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let state = self.state();
                if state.end.is_some() && condition(&state) {
                    return;
                }
            }
            settled.await;
        }
    }

    /// Whether the next byte is wanted; `None`: not yet.
    pub(crate) fn wanted_now(&self) -> Option<Wanted> {
        self.state().wanted(self.ahead_to)
    }

    /// Waits until the next byte is wanted, or nobody wants it any more.
    pub(crate) async fn wanted(&self) -> Wanted {
        poll_fn(|context| {
            let mut state = self.state();
            let wanted = state.wanted(self.ahead_to);
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

impl State {
    fn base_start(&self) -> u64 {
        PageIndex(self.base).start()
    }

    /// How far the fetch may run on for the reader in front; `None` when there is no reader.
    fn room(&self) -> Option<u64> {
        let front = self.readers.values().max()?;
        Some(front.saturating_add(WINDOW).saturating_sub(self.reached))
    }

    fn wanted(&self, ahead_to: u64) -> Option<Wanted> {
        match self.room() {
            _ if self.reached < ahead_to && !self.refused => Some(Wanted::Yes),
            // A page that has begun is finished, also when its reader has what it wanted of it:
            // half a page can't be kept, and its rest is on the way.
            _ if !self.reached.is_multiple_of(PAGE_SIZE) => Some(Wanted::Yes),
            Some(0) => None,
            Some(_) => Some(Wanted::Yes),
            None => Some(Wanted::No),
        }
    }

    /// Notes where a reader is; answers the driver if it has waited for that.
    fn moved(&mut self, reader: u64, position: u64) -> Option<Waker> {
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

    fn step(&self, position: u64) -> Option<Step> {
        if position < self.base_start() {
            return Some(Step::Elsewhere);
        }
        if position < self.reached {
            let at = self.runs.partition_point(|run| run.end() <= position);
            let run = self.runs.get(at).filter(|run| run.start <= position);
            return Some(run.map_or(Step::Elsewhere, |run| {
                let from = usize::try_from(position - run.start).expect("within the run");
                Step::Bytes(run.bytes.slice(from..), Arc::clone(&run.lease))
            }));
        }
        match self.end.as_ref()? {
            Ok(()) => Some(Step::Elsewhere),
            Err(error) => Some(Step::Failed(error.duplicate())),
        }
    }

    /// Takes out those whose byte is here now.
    fn reached_by(&mut self) -> BTreeMap<(u64, u64), Waker> {
        let still_waiting = self.waiting.split_off(&(self.reached, 0));
        std::mem::replace(&mut self.waiting, still_waiting)
    }

    /// Lets go of what nobody needs in memory: pages in front that the page store has, and pages
    /// it would not take that every reader has passed or that have left the window.
    fn prune(&mut self) {
        while let Some(slot) = self.slots.front() {
            let end = self.base_start() + PAGE_SIZE;
            let gone = match slot {
                Slot::Pending => false,
                Slot::Kept | Slot::Gone => true,
                Slot::Refused => {
                    let slowest = self.readers.values().min();
                    end.saturating_add(WINDOW) <= self.reached
                        || slowest.is_none_or(|slowest| end <= *slowest)
                }
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
            if *slot == Slot::Kept || (*slot == Slot::Refused && passed) {
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

/// A reader's place in a fetch. Dropping it leaves the fetch.
pub(crate) struct Attachment {
    fetch: Arc<Fetch>,
    reader: u64,
}

impl Attachment {
    /// What there is at `position`; the reader is done with all before it.
    pub(crate) async fn step(&self, position: u64) -> Step {
        if !self.fetch.range.contains(ByteRange::new(position, position + 1)) {
            return Step::Elsewhere;
        }
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
        state.prune();
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        self.fetch.settled.notify_waiters();
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetch({} {})", self.content, self.range)
    }
}

#[cfg(test)]
mod tests;
