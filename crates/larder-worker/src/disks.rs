// SPDX-License-Identifier: Apache-2.0
//! The cache directories: how each is, and changing them while the worker runs.

use std::{path::PathBuf, sync::Arc};

use larder_cluster::wire::message::{
    CacheChange, CacheRequest, DiskReport, DiskState, ScrubReport,
};
use larder_core::{ByteSize, Error, Result, UnixMillis};
use larder_pages::{DirectoryOptions, DiskUsage, PageStore, Scrubbed, Standing};

use crate::Worker;

impl Worker {
    pub(crate) async fn answer_cache(&self, request: CacheRequest) -> Result<Vec<DiskReport>> {
        let pages = Arc::clone(&self.pages);
        // Opening a directory waits for its disk.
        let task = tokio::task::spawn_blocking(move || change(&pages, request));
        task.await
            .map_err(|error| Error::internal("the change was abandoned").with_source(error))??;
        self.follow_capacity();
        let now = self.clock.now();
        Ok(self.pages.usage().iter().map(|disk| report(disk, now)).collect())
    }
}

fn change(pages: &PageStore, request: CacheRequest) -> Result<()> {
    let path = PathBuf::from(request.directory);
    match request.change {
        CacheChange::Add { size_bytes } => {
            pages.add_directory(&DirectoryOptions { path, capacity: ByteSize(size_bytes) })
        }
        CacheChange::Drain => pages.drain_directory(&path),
        CacheChange::Resume => pages.resume_directory(&path),
    }
}

pub(crate) fn report(disk: &DiskUsage, now: UnixMillis) -> DiskReport {
    DiskReport {
        directory: disk.path.display().to_string(),
        capacity_bytes: disk.capacity.0,
        resident_bytes: disk.resident.0,
        limit_bytes: disk.limit.0,
        state: state(disk),
        fault: disk.fault.clone(),
        scrub: disk.scrubbed.map(|scrubbed| scrub(scrubbed, now)),
    }
}

/// What all directories in service may hold together, in bytes.
pub(crate) fn capacity(pages: &PageStore) -> u64 {
    let usage = pages.usage();
    usage.iter().filter(|disk| counts(disk)).map(|disk| disk.capacity.0).sum()
}

fn scrub(scrubbed: Scrubbed, now: UnixMillis) -> ScrubReport {
    ScrubReport {
        done_percent: (u32::from(scrubbed.shares_done) * 100 / 256) as u8,
        last_pass_age_s: scrubbed.passed.map(|passed| now.since(passed).as_secs()),
        rotten_pages: scrubbed.rotten,
    }
}

/// When every directory that counts had been scrubbed whole, if that was ever so.
pub(crate) fn scrub_passed(disks: &[DiskUsage]) -> Option<UnixMillis> {
    let counted = disks.iter().filter(|disk| counts(disk));
    let passed = counted.map(|disk| disk.scrubbed.and_then(|scrubbed| scrubbed.passed));
    passed.min().flatten()
}

/// Whether pages there count: neither drained nor on a disk that failed.
pub(crate) fn counts(disk: &DiskUsage) -> bool {
    disk.fault.is_none() && disk.standing != Standing::Drained
}

fn state(disk: &DiskUsage) -> DiskState {
    match disk.standing {
        Standing::Drained => DiskState::Drained,
        _ if disk.fault.is_some() => DiskState::Faulty,
        Standing::Draining => DiskState::Draining,
        Standing::Serving if disk.comparing => DiskState::Comparing,
        Standing::Serving if disk.limit < disk.capacity => DiskState::Full,
        Standing::Serving => DiskState::Serving,
    }
}
