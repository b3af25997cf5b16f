// SPDX-License-Identifier: Apache-2.0
//! Putting a page store together: limits that fit each other, directories, threads.

use std::{collections::HashSet, sync::Arc, thread};

use larder_core::{Error, Metrics, PAGE_SIZE, Random, Result};
use rustix::process::{Resource, getrlimit};

use crate::{
    Index, Options,
    catalogue::Catalogue,
    disk::{Directory, DirectoryLock},
    fill::Queue,
    quota::Quota,
    recover,
    shelf::{Parts, Shelf},
    unflushed::Unflushed,
};

const DIRECTORIES_MAX: usize = 64;
/// The most bytes written by one job.
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// At least so many descriptors are kept open.
const DESCRIPTORS_MIN: usize = 16;

impl Options {
    /// What a crash may leave unrecorded: as configured, but a small part of each directory.
    fn unflushed_within_limits(&self) -> u64 {
        let smallest = self.directories.iter().map(|directory| directory.capacity.0).min();
        let share = smallest.unwrap_or(0) / 4;
        self.unflushed_bytes_max.0.min(share).max(4 * PAGE_SIZE)
    }

    /// Threads, few enough that one page for each fits twice into what may be unflushed.
    pub(crate) fn fill_threads_within_limits(&self) -> usize {
        let fitting = self.unflushed_within_limits() / (2 * PAGE_SIZE);
        self.fill_threads.clamp(1, usize::try_from(fitting).unwrap_or(usize::MAX))
    }

    /// What one job writes at most, so that what all threads write fits half of that.
    fn batch_bytes_max(&self) -> u64 {
        let threads = self.fill_threads_within_limits() as u64;
        let share = self.unflushed_within_limits() / (2 * threads);
        (share / PAGE_SIZE * PAGE_SIZE).clamp(PAGE_SIZE, BATCH_BYTES_MAX)
    }

    /// Descriptors to keep: the rest of the process needs some too.
    fn descriptors_within_limits(&self) -> usize {
        let allowed = getrlimit(Resource::Nofile).current;
        let half = allowed
            .map_or(usize::MAX, |allowed| usize::try_from(allowed / 2).unwrap_or(usize::MAX));
        self.descriptors_max.min(half).max(DESCRIPTORS_MIN)
    }
}

/// Opens the directories and builds the shelf; starts nothing.
pub(crate) fn open(
    options: &Options,
    index: Arc<dyn Index>,
    metrics: Arc<Metrics>,
) -> Result<(Arc<Shelf>, Arc<[DirectoryLock]>)> {
    let given = &options.directories;
    if given.is_empty() || given.len() > DIRECTORIES_MAX {
        return Err(Error::invalid(format!(
            "a page store needs 1 to {DIRECTORIES_MAX} cache directories, not {}",
            given.len()
        )));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = given.iter().find(|directory| !seen.insert(&directory.path)) {
        let path = twice.path.display();
        return Err(Error::invalid(format!("cache directory {path} is given twice")));
    }
    let random = Random::new();
    let mut directories = Vec::new();
    let mut locks = Vec::new();
    for options in given {
        let (directory, lock) = Directory::open(options, &random)?;
        directories.push(directory);
        locks.push(lock);
    }
    let limit = options.unflushed_within_limits();
    let mut quotas = Vec::new();
    for directory in &directories {
        let unrecorded = recover::unrecorded_at_start(directory, &*index, limit)?;
        quotas.push(Quota::new(directory.capacity, unrecorded));
    }
    let shelf = Shelf::new(Parts {
        directories,
        unflushed: Unflushed::new(Arc::clone(&index), limit),
        index,
        catalogue: Catalogue::new(quotas, Arc::clone(&metrics)),
        metrics,
        queue: Queue::new(options.fill_queue_bytes_max.0, options.batch_bytes_max()),
        descriptors_max: options.descriptors_within_limits(),
        record_cache_bytes_max: options.record_cache_bytes_max.0,
    });
    Ok((Arc::new(shelf), locks.into()))
}

/// Tells the queue when a thread ends, however it ends.
struct Running(Arc<Shelf>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.queue.thread_ends();
    }
}

/// Starts a thread that works on the shelf until the queue is closed.
pub(crate) fn spawn(
    shelf: &Arc<Shelf>,
    locks: &Arc<[DirectoryLock]>,
    name: &str,
    work: fn(&Shelf),
) -> Result<()> {
    shelf.queue.thread_starts();
    let running = Running(Arc::clone(shelf));
    let locks = Arc::clone(locks);
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        work(&running.0);
        // The lock goes before the word that the thread has ended.
        drop(locks);
        drop(running);
    });
    spawned.map(drop).map_err(|error| {
        Error::unavailable("could not start a thread for the page store").with_source(error)
    })
}
