// SPDX-License-Identifier: Apache-2.0
//! One fetch: pages of one content coming in from the store, and the readers that follow them.
//!
//! A page is `Ready` in memory from its arrival until the page store has it (`Stored`); a page
//! the store did not keep stays `Ready` while readers still need it, at most a window long, and
//! is then `Lost`. The pace is set by the reader in front: the fetch runs at most
//! [`WINDOW`] ahead of it. When the last reader leaves, the fetch ends, unless it was told to
//! run ahead.
//!
//! Three signals, so that a thousand readers of one page do not wake each other: `arrived` for
//! readers, `room` for the one task that drives the fetch, `settled` for who waits for the disk.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use larder_core::{ByteRange, ContentId, Error, Lease, PAGE_SIZE, PageIndex, Result};
use larder_pages::PutOutcome;
use tokio::sync::Notify;

/// How far a fetch runs ahead of the reader in front, and how long it keeps in memory what the
/// page store would not take.
const WINDOW: u64 = 8 << 20;

pub(crate) struct Fetch {
    pub(crate) content: ContentId,
    /// Bytes of the whole content.
    pub(crate) length: u64,
    /// What this fetch brings: starts on a page, ends on a page or at the end of the content.
    pub(crate) range: ByteRange,
    /// Up to here it goes on although nobody reads.
    ahead_to: u64,
    state: Mutex<State>,
    arrived: Notify,
    room: Notify,
    settled: Notify,
}

struct State {
    /// Pages from `base` on that have arrived; earlier ones are no longer here.
    slots: VecDeque<Slot>,
    base: u32,
    /// Positions of the readers, by number.
    readers: HashMap<u64, u64>,
    readers_ever: u64,
    /// Pages handed to the page store and not yet settled.
    unsettled: u32,
    /// How it ended.
    end: Option<Result<()>>,
}

enum Slot {
    Ready { bytes: Bytes, lease: Arc<Lease>, settled: bool },
    Stored,
    Lost,
}

/// What a reader finds at its position.
pub(crate) enum Step {
    /// The page, whole.
    Page(Bytes, Arc<Lease>),
    /// Not here (any more): look in the page store, or fetch anew.
    Elsewhere,
    /// It will not come.
    Failed(Error),
}

/// Whether a fetch should bring its next page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    No,
}

impl Fetch {
    pub(crate) fn new(content: ContentId, length: u64, range: ByteRange, ahead_to: u64) -> Self {
        let state = State {
            slots: VecDeque::new(),
            base: PageIndex::at(range.start).0,
            readers: HashMap::new(),
            readers_ever: 0,
            unsettled: 0,
            end: None,
        };
        let state = Mutex::new(state);
        let (arrived, room, settled) = (Notify::new(), Notify::new(), Notify::new());
        Self { content, length, range, ahead_to, state, arrived, room, settled }
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
                Some(slot) => matches!(slot, Slot::Ready { .. }),
                None => state.end.is_none(),
            },
        }
    }

    /// A reader begins to follow at `position`.
    pub(crate) fn attach(self: &Arc<Self>, position: u64) -> Attachment {
        let mut state = self.state();
        let reader = state.readers_ever;
        state.readers_ever += 1;
        state.readers.insert(reader, position);
        drop(state);
        self.room.notify_one();
        Attachment { fetch: Arc::clone(self), reader }
    }

    /// A page has arrived; readers may have it now.
    pub(crate) fn publish(&self, bytes: Bytes, lease: Arc<Lease>) {
        let mut state = self.state();
        state.slots.push_back(Slot::Ready { bytes, lease, settled: false });
        state.unsettled += 1;
        state.prune();
        drop(state);
        self.arrived.notify_waiters();
    }

    /// The page store has said what became of a page.
    pub(crate) fn settle(&self, page: PageIndex, outcome: PutOutcome) {
        let mut state = self.state();
        state.unsettled -= 1;
        let at = page.0.checked_sub(state.base).map(|at| at as usize);
        if let Some(slot) = at.and_then(|at| state.slots.get_mut(at)) {
            match (outcome, slot) {
                (PutOutcome::Kept, slot) => *slot = Slot::Stored,
                (PutOutcome::NotKept(_), Slot::Ready { settled, .. }) => *settled = true,
                (PutOutcome::NotKept(_), Slot::Stored | Slot::Lost) => {}
            }
        }
        state.prune();
        drop(state);
        self.settled.notify_waiters();
    }

    /// The last page has come, or none will come any more.
    pub(crate) fn finish(&self, result: Result<()>) {
        self.state().end = Some(result);
        self.arrived.notify_waiters();
        self.settled.notify_waiters();
    }

    /// Ends a fetch whose task died.
    pub(crate) fn finish_if_open(&self) {
        let mut state = self.state();
        if state.end.is_none() {
            state.end = Some(Err(Error::internal("the fetch was abandoned")));
        }
        drop(state);
        self.arrived.notify_waiters();
        self.settled.notify_waiters();
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

    /// Waits until the next page is wanted, or nobody wants it any more.
    pub(crate) async fn wanted(&self) -> Wanted {
        loop {
            {
                let state = self.state();
                let next = state.next_start();
                match state.readers.values().max() {
                    _ if next < self.ahead_to => return Wanted::Yes,
                    Some(front) if next < front.saturating_add(WINDOW) => return Wanted::Yes,
                    Some(_) => {}
                    None => return Wanted::No,
                }
            }
            self.room.notified().await;
        }
    }

    /// What a reader finds at `position`; waits while its page is on the way.
    async fn step(&self, reader: u64, position: u64) -> Step {
        let page = PageIndex::at(position);
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let step = self.state().step(reader, position, page);
            self.room.notify_one();
            if let Some(step) = step {
                return step;
            }
            arrived.await;
        }
    }
}

impl State {
    fn next_start(&self) -> u64 {
        PageIndex(self.base + self.arrived()).start()
    }

    fn arrived(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("page numbers have 32 bits")
    }

    fn step(&mut self, reader: u64, position: u64, page: PageIndex) -> Option<Step> {
        if self.readers.insert(reader, position).is_none_or(|before| before < position) {
            self.prune();
        }
        let Some(at) = page.0.checked_sub(self.base) else { return Some(Step::Elsewhere) };
        match self.slots.get(at as usize) {
            Some(Slot::Ready { bytes, lease, .. }) => {
                Some(Step::Page(bytes.clone(), Arc::clone(lease)))
            }
            Some(Slot::Stored | Slot::Lost) => Some(Step::Elsewhere),
            None => match &self.end {
                Some(Ok(())) => Some(Step::Elsewhere),
                Some(Err(error)) => Some(Step::Failed(error.duplicate())),
                None => None,
            },
        }
    }

    /// Lets go of what nobody needs in memory: pages in front that are settled, and pages not
    /// kept that every reader has passed or that have left the window.
    fn prune(&mut self) {
        let next = self.next_start();
        let slowest = self.readers.values().copied().min().unwrap_or(u64::MAX);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let at = u32::try_from(at).expect("page numbers have 32 bits");
            let end = PageIndex(self.base + at).start() + PAGE_SIZE;
            if let Slot::Ready { settled: true, .. } = slot
                && (end <= slowest || end.saturating_add(WINDOW) <= next)
            {
                *slot = Slot::Lost;
            }
        }
        while matches!(self.slots.front(), Some(Slot::Stored | Slot::Lost)) {
            self.slots.pop_front();
            self.base += 1;
        }
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
        self.fetch.step(self.reader, position).await
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
        state.readers.remove(&self.reader);
        state.prune();
        drop(state);
        self.fetch.room.notify_one();
        self.fetch.settled.notify_waiters();
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetch({} {})", self.content, self.range)
    }
}
