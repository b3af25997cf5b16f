// SPDX-License-Identifier: Apache-2.0
//! A bound on what a crash can leave on disk without a record.
//!
//! Every fill announces its bytes before it writes them. When those written since the index was
//! last flushed would pass the limit, the announcing fill thread flushes first. After a crash the
//! directory may hold at most the limit beyond what its records say, and so much is withheld
//! from its quota until the files were compared with the records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_core::Result;

use crate::Index;

#[derive(Debug, Default)]
struct Counts {
    /// Announced, perhaps written, no record put yet.
    writing: u64,
    /// Record put since the last flush.
    recorded: u64,
}

/// Counts bytes whose records are not durable, and flushes in time.
#[derive(Debug)]
pub(crate) struct Unflushed {
    index: Arc<dyn Index>,
    limit: u64,
    counts: Mutex<Counts>,
    /// Held while flushing; taken before `counts`.
    flushing: Mutex<()>,
}

impl Unflushed {
    pub(crate) fn new(index: Arc<dyn Index>, limit: u64) -> Self {
        Self { index, limit, counts: Mutex::default(), flushing: Mutex::default() }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Announces `bytes` that will be written.
    pub(crate) fn enter(&self, bytes: u64) -> Result<()> {
        if self.try_enter(bytes) {
            return Ok(());
        }
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.try_enter(bytes) {
            return Ok(());
        }
        let recorded = self.counts().recorded;
        self.index.flush()?;
        let mut counts = self.counts();
        counts.recorded -= recorded;
        // What others are writing now is bounded by the number of threads and the size of a
        // job, which are chosen so that all of it fits.
        counts.writing += bytes;
        Ok(())
    }

    /// What was announced is recorded now, or gone again.
    pub(crate) fn leave(&self, bytes: u64) {
        let mut counts = self.counts();
        counts.writing -= bytes;
        counts.recorded += bytes;
    }

    fn try_enter(&self, bytes: u64) -> bool {
        let mut counts = self.counts();
        let fits = counts.writing + counts.recorded + bytes <= self.limit;
        if fits {
            counts.writing += bytes;
        }
        fits
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
