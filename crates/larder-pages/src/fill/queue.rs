// SPDX-License-Identifier: Apache-2.0
//! The queue before the fill threads: pages of one segment gather while they wait, so that
//! neighbours are written by one call.
//!
//! Bounded by bytes, counted until they are written: a stuck disk fills the queue and further
//! pages are not kept, at once. Its one lock is never held with another.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_core::{ContentId, SegmentIndex};

use crate::{IndexKey, NewPage, NotKept, PutOutcome, slab};

/// The most segments that wait for a second look.
const CHECKS_MAX: usize = 1024;

/// The most small files that are written together.
const SMALLS_MAX: usize = 128;

/// Tells the caller of `put` what became of its page: exactly once, also if a thread dies.
pub(crate) struct Done(Option<Box<dyn FnOnce(PutOutcome) + Send>>);

impl Done {
    pub(crate) fn new(done: impl FnOnce(PutOutcome) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    pub(crate) fn tell(mut self, outcome: PutOutcome) {
        if let Some(done) = self.0.take() {
            done(outcome);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(PutOutcome::NotKept(NotKept::Closed));
        }
    }
}

/// A page that waits.
pub(crate) struct Queued {
    pub(crate) page: NewPage,
    pub(crate) done: Done,
}

impl Queued {
    /// Lets go of what the page holds, then tells.
    pub(crate) fn tell(self, outcome: PutOutcome) {
        drop(self.page);
        self.done.tell(outcome);
    }
}

/// What pages have in common that are written together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    content: ContentId,
    length: u64,
    segment: SegmentIndex,
}

/// Pages of one segment, to be written together.
pub(crate) struct Batch {
    pub(crate) key: IndexKey,
    pub(crate) length: u64,
    pub(crate) pages: Vec<Queued>,
}

impl Batch {
    fn bytes(&self) -> u64 {
        self.pages.iter().map(|queued| queued.page.bytes.length()).sum()
    }
}

/// What a fill thread does next.
pub(crate) enum Job {
    Write(Batch),
    /// Small files, each of its own content.
    WriteSmall(Vec<Queued>),
    /// Slots of removed small files have no reader any more.
    Sweep,
    /// A reader found that this segment is not what the catalogue says.
    Check(IndexKey),
}

/// What becomes of pages that wait when the queue closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Written,
    GivenUp,
}

#[derive(Default)]
struct State {
    groups: HashMap<Group, VecDeque<Queued>>,
    order: VecDeque<Group>,
    smalls: VecDeque<Queued>,
    /// Whose turn it is: small files and groups alternate.
    smalls_next: bool,
    sweep: bool,
    checks: VecDeque<IndexKey>,
    /// Bytes waiting or being written.
    bytes: u64,
    /// Records are loaded, so the catalogue may change.
    started: bool,
    /// Nothing more comes in.
    closed: bool,
    /// What still waits is given up.
    abandoned: bool,
    /// Threads that still run.
    threads: usize,
}

/// The queue before the fill threads.
pub(crate) struct Queue {
    bytes_max: u64,
    batch_bytes_max: u64,
    state: Mutex<State>,
    work: Condvar,
    stopped: Condvar,
    closing: Condvar,
}

impl Queue {
    pub(crate) fn new(bytes_max: u64, batch_bytes_max: u64) -> Self {
        Self {
            bytes_max,
            batch_bytes_max,
            state: Mutex::default(),
            work: Condvar::new(),
            stopped: Condvar::new(),
            closing: Condvar::new(),
        }
    }

    /// Takes a page in, or tells at once why not.
    pub(crate) fn push(&self, queued: Queued) -> Result<(), (Queued, NotKept)> {
        let page = &queued.page;
        let bytes = page.bytes.length();
        let group =
            Group { content: page.content, length: page.length, segment: page.index.segment() };
        let mut state = self.state();
        if state.closed {
            return Err((queued, NotKept::Closed));
        }
        if state.bytes + bytes > self.bytes_max {
            return Err((queued, NotKept::QueueFull));
        }
        state.bytes += bytes;
        if slab::is_small(queued.page.length) {
            state.smalls.push_back(queued);
            self.work.notify_one();
            return Ok(());
        }
        let waiting = state.groups.entry(group).or_default();
        waiting.push_back(queued);
        if waiting.len() == 1 {
            state.order.push_back(group);
            self.work.notify_one();
        }
        Ok(())
    }

    /// Asks for a second look at a segment. When too many wait this one is forgotten: whoever
    /// meets it next asks again.
    pub(crate) fn check(&self, key: IndexKey) {
        let mut state = self.state();
        if !state.closed && state.checks.len() < CHECKS_MAX && !state.checks.contains(&key) {
            state.checks.push_back(key);
            self.work.notify_one();
        }
    }

    /// Asks for slots to be freed that have no reader any more.
    pub(crate) fn sweep(&self) {
        let mut state = self.state();
        state.sweep = true;
        self.work.notify_one();
    }

    /// Records are loaded: jobs may be given out.
    pub(crate) fn start(&self) {
        self.state().started = true;
        self.work.notify_all();
    }

    /// A thread will take jobs.
    pub(crate) fn thread_starts(&self) {
        self.state().threads += 1;
    }

    /// A thread has ended.
    pub(crate) fn thread_ends(&self) {
        self.state().threads -= 1;
        self.stopped.notify_all();
    }

    /// The next job, when there is one; `None` when the thread shall end. Call
    /// [`Queue::finished`] with the bytes of a batch when it is done.
    pub(crate) fn next(&self) -> Option<(Job, u64)> {
        let mut state = self.state();
        loop {
            if state.abandoned || (state.closed && !state.started) {
                return None;
            }
            if state.started {
                if let Some(key) = state.checks.pop_front() {
                    return Some((Job::Check(key), 0));
                }
                if std::mem::take(&mut state.sweep) {
                    return Some((Job::Sweep, 0));
                }
                if let Some((job, bytes)) = self.next_write(&mut state) {
                    return Some((job, bytes));
                }
            }
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The bytes of a batch are written or given up.
    pub(crate) fn finished(&self, bytes: u64) {
        self.state().bytes -= bytes;
    }

    /// Lets a thread that works behind rest for so long; `true` when the queue closes and the
    /// thread shall end.
    pub(crate) fn rest(&self, duration: Duration) -> bool {
        let state = self.state();
        let rested = self.closing.wait_timeout_while(state, duration, |state| !state.closed);
        rested.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Whether pages wait or are being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.state().bytes > 0
    }

    /// Whether half of what may wait does.
    pub(crate) fn is_half_full(&self) -> bool {
        self.state().bytes > self.bytes_max / 2
    }

    /// Whether nothing more comes in.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Takes nothing more in and waits until the threads have ended, at most `wait_max`. Returns
    /// whether they have.
    pub(crate) fn close(&self, waiting: Waiting, wait_max: Duration) -> bool {
        let mut state = self.state();
        state.closed = true;
        state.abandoned |= waiting == Waiting::GivenUp;
        self.work.notify_all();
        self.closing.notify_all();
        let waited = self.stopped.wait_timeout_while(state, wait_max, |state| state.threads > 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.abandoned = true;
        state.order.clear();
        let groups = std::mem::take(&mut state.groups);
        let smalls = std::mem::take(&mut state.smalls);
        let ended = state.threads == 0;
        drop(state);
        self.work.notify_all();
        for queued in groups.into_values().flatten().chain(smalls) {
            queued.tell(PutOutcome::NotKept(NotKept::Closed));
        }
        ended
    }

    fn next_write(&self, state: &mut State) -> Option<(Job, u64)> {
        state.smalls_next = !state.smalls_next;
        if state.smalls_next && !state.smalls.is_empty() {
            return Some(self.next_smalls(state));
        }
        if let Some(batch) = self.next_batch(state) {
            let bytes = batch.bytes();
            return Some((Job::Write(batch), bytes));
        }
        (!state.smalls.is_empty()).then(|| self.next_smalls(state))
    }

    fn next_smalls(&self, state: &mut State) -> (Job, u64) {
        let mut files = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.smalls.front() {
            let length = next.page.bytes.length();
            let full = files.len() == SMALLS_MAX || bytes + length > self.batch_bytes_max;
            if full && !files.is_empty() {
                self.work.notify_one();
                break;
            }
            bytes += length;
            files.extend(state.smalls.pop_front());
        }
        (Job::WriteSmall(files), bytes)
    }

    fn next_batch(&self, state: &mut State) -> Option<Batch> {
        let group = state.order.pop_front()?;
        let waiting = state.groups.get_mut(&group)?;
        let mut pages = Vec::new();
        let mut bytes = 0;
        while let Some(next) = waiting.front() {
            bytes += next.page.bytes.length();
            if bytes > self.batch_bytes_max && !pages.is_empty() {
                break;
            }
            pages.extend(waiting.pop_front());
        }
        if waiting.is_empty() {
            state.groups.remove(&group);
        } else {
            state.order.push_back(group);
            self.work.notify_one();
        }
        let key = IndexKey { content: group.content, segment: group.segment };
        Some(Batch { key, length: group.length, pages })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}
