// SPDX-License-Identifier: Apache-2.0
//! Gathers changes and writes them: one synced transaction per interval, or per so many records.
//!
//! Locks: `state` alone, never held during a transaction. A batch that cannot be written is
//! given up, not kept: this is a cache, and what it forgets is asked for again. So that nothing
//! older is believed in its place, the keys of such a batch are removed where that still works.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use larder_core::{Error, Result};

use crate::{
    database::{Database, is_damage, told},
    directory::Directory,
    overlay::{Batch, Change, Overlay, Table},
    store::Options,
};

/// Changes in one transaction at most: large deletes in one would grow the list of free pages.
const TRANSACTION_RECORDS: usize = 16_384;
/// How long a put may wait for room, and a flush for the disk.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the store and its writer thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    state: Mutex<State>,
    /// Work for the writer.
    work: Condvar,
    /// The writer has finished a batch.
    done: Condvar,
    /// Changes in the overlay: readers pass it by while there are none.
    pending: AtomicUsize,
    /// Changes given up because they could not be written.
    dropped: AtomicU64,
    condemned: AtomicBool,
    flush_interval: Duration,
    batch_records: usize,
    overlay_bytes_max: usize,
    /// Last, so that the claim outlives the map.
    directory: Directory,
}

#[derive(Debug, Default)]
struct State {
    overlay: Overlay,
    /// Changes made so far, and how many of them have left the overlay.
    made: u64,
    settled: u64,
    /// The writer's last failure, until a flush has told it.
    failure: Option<Error>,
    flush_wanted: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Nothing more is taken; reads go on.
    Closed,
    /// The writer leaves after the last batch.
    Stopping,
}

impl Shared {
    pub(crate) fn new(database: Database, directory: Directory, options: &Options) -> Self {
        Self {
            database,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            pending: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            condemned: AtomicBool::new(false),
            flush_interval: options.flush_interval,
            batch_records: options.batch_records,
            overlay_bytes_max: options.overlay_bytes_max,
            directory,
        }
    }

    /// Looks something up in the overlay; `None` when it has nothing to say.
    pub(crate) fn in_overlay<R>(&self, look: impl FnOnce(&Overlay) -> R) -> Option<R> {
        // A change is counted before its put returns, and what a reader was told of after that
        // it also sees here.
        (self.pending.load(Ordering::Acquire) > 0).then(|| look(&self.lock().overlay))
    }

    /// Takes a change; waits for the writer while there is no room.
    pub(crate) fn change(&self, table: Table, key: Vec<u8>, change: Change) -> Result<()> {
        let full = |state: &mut State| {
            state.phase == Phase::Open && state.overlay.bytes() >= self.overlay_bytes_max
        };
        let state = self.lock();
        let waited = self.done.wait_timeout_while(state, WAIT_MAX, full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.phase != Phase::Open {
            return Err(Error::unavailable("the metadata store is closed"));
        }
        if waited.timed_out() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(Error::exhausted(
                "the metadata store's disk can't keep up, so this was not kept; look at its load",
            ));
        }
        let was_empty = state.overlay.gathered() == 0;
        state.overlay.insert(table, key, change);
        state.made += 1;
        self.pending.store(state.overlay.len(), Ordering::Release);
        if was_empty || self.is_due(&state) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until all that was put before is on disk.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.lock();
        let goal = state.made;
        if state.settled < goal {
            state.flush_wanted = true;
            self.work.notify_one();
        }
        let behind = |state: &mut State| state.settled < goal;
        let waited = self.done.wait_timeout_while(state, WAIT_MAX, behind);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Error::unavailable(format!(
                "the metadata store did not reach its disk within {} s",
                WAIT_MAX.as_secs()
            )));
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Takes no more changes.
    pub(crate) fn close(&self) {
        self.lock().phase = Phase::Closed;
        self.done.notify_all();
    }

    /// Sends the writer away after its last batch.
    pub(crate) fn stop(&self) {
        self.lock().phase = Phase::Stopping;
        self.work.notify_all();
        self.done.notify_all();
    }

    /// Changes given up so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Turns an engine's error into one for the caller; damage is also written down, so that the
    /// next start begins with an empty file.
    pub(crate) fn failed(&self, doing: &str, error: heed::Error) -> Error {
        if is_damage(&error) && !self.condemned.swap(true, Ordering::Relaxed) {
            let directory = self.directory.path().display();
            tracing::error!(%directory, %error, "metadata is damaged; the next start begins empty");
            if let Err(error) = self.directory.condemn() {
                tracing::warn!(%directory, %error, "could not mark the metadata as damaged");
            }
        }
        told(doing, error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, state: &State) -> bool {
        state.flush_wanted
            || state.phase == Phase::Stopping
            || state.overlay.gathered() >= self.batch_records
            || state.overlay.bytes() >= self.overlay_bytes_max
    }

    /// The next batch and the count of changes with it, when it is due; `None` at the end.
    fn next_batch(&self) -> Option<(Arc<Batch>, u64)> {
        let idle = |state: &mut State| {
            state.overlay.gathered() == 0 && state.phase != Phase::Stopping && !state.flush_wanted
        };
        let state = self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |state: &mut State| !self.is_due(state);
        let waited = self.work.wait_timeout_while(state, self.flush_interval, gathering);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.overlay.gathered() == 0 && state.phase == Phase::Stopping {
            return None;
        }
        state.flush_wanted = false;
        Some((state.overlay.take(), state.made))
    }

    fn settle(&self, made: u64, outcome: Result<()>) {
        let mut state = self.lock();
        state.overlay.written();
        state.settled = made;
        if let Err(error) = outcome {
            state.failure = Some(error);
        }
        self.pending.store(state.overlay.len(), Ordering::Release);
        self.done.notify_all();
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let statuses = self.write_table(Table::Statuses, batch);
        let residency = self.write_table(Table::Residency, batch);
        statuses.and(residency)
    }

    fn write_table(&self, table: Table, batch: &Batch) -> Result<()> {
        let changes = batch.table(table);
        let Err(error) = self.database.apply(table, changes, TRANSACTION_RECORDS) else {
            return Ok(());
        };
        self.dropped.fetch_add(changes.len() as u64, Ordering::Relaxed);
        tracing::warn!(%error, changes = changes.len(), ?table, "metadata not kept");
        if let Err(error) = self.database.forget(table, changes, TRANSACTION_RECORDS) {
            tracing::warn!(%error, ?table, "what it replaces could not be forgotten either");
        }
        Err(self.failed("writing metadata", error))
    }
}

/// Starts the writer thread.
pub(crate) fn spawn(shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let run = move || {
        while let Some((batch, made)) = shared.next_batch() {
            let outcome = shared.write(&batch);
            shared.settle(made, outcome);
        }
    };
    thread::Builder::new().name("larder-meta".to_owned()).spawn(run).map_err(|error| {
        Error::exhausted("no thread could be started for the metadata store").with_source(error)
    })
}
