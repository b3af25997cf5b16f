// SPDX-License-Identifier: Apache-2.0
//! Putting a page store together: limits that fit each other, directories, threads.

use std::{collections::HashSet, fs, io, sync::Arc, thread};

use larder_core::{Error, ErrorKind, Metrics, PAGE_SIZE, Random, Result};
use rustix::process::{Resource, getrlimit};

use crate::{
    DirectoryOptions, Index, Options, Standing,
    catalogue::Catalogue,
    disk::{Directory, Opened, State},
    fill::Queue,
    lane::Lane,
    quota::Quota,
    recover,
    roster::{DIRECTORIES_MAX, Roster},
    shelf::{Parts, Shelf},
    unflushed::Unflushed,
};

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
) -> Result<Arc<Shelf>> {
    let given = &options.directories;
    check_names(given)?;
    let limit = options.unflushed_within_limits();
    let random = Random::new();
    let directories = Roster::new();
    let mut catalogue = Catalogue::new(Arc::clone(&metrics), options.clock.clone());
    catalogue.set_classes(&options.classes)?;
    let mut failed = Vec::new();
    let mut opened = HashSet::new();
    for options in given {
        let directory = Directory::new(options);
        // By another name, perhaps; what was opened before exists by now.
        let real = || fs::canonicalize(&options.path).unwrap_or_else(|_| options.path.clone());
        if opened.contains(&real()) {
            let path = options.path.display();
            return Err(Error::invalid(format!(
                "cache directory {path} is given twice, by two names"
            )));
        }
        let lane = match directory.open(&random) {
            Ok(opened) => join(&directory, opened, (&*index, limit))?,
            Err(error) if is_of_the_disk(&error) => {
                metrics.cache_directory_faults.inc();
                let fault = Some(error.to_string());
                failed.push(error);
                Lane { fault, ..Lane::new(Quota::new(directory.size().0, 0)) }
            }
            Err(error) => return Err(error),
        };
        opened.insert(real());
        catalogue.add_lane(lane);
        directories.push(directory);
    }
    // One disk of several may fail; a store without any is not what was asked for.
    if failed.len() == given.len()
        && let Some(error) = failed.pop()
    {
        return Err(error);
    }
    for error in failed {
        tracing::error!(%error, "a cache directory is out of service");
    }
    Ok(Arc::new(Shelf::new(Parts {
        directories,
        unflushed: Unflushed::new(Arc::clone(&index), limit),
        index,
        catalogue,
        metrics,
        queue: Queue::new(options.fill_queue_bytes_max.0, options.batch_bytes_max()),
        descriptors_max: options.descriptors_within_limits(),
        record_cache_bytes_max: options.record_cache_bytes_max.0,
        scrub: options.scrub,
        clock: options.clock.clone(),
    })))
}

/// Whether so many directories can be served, each of them once.
fn check_names(given: &[DirectoryOptions]) -> Result<()> {
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
    Ok(())
}

/// The lane of a directory that was opened at the start.
fn join(directory: &Directory, opened: Opened, (index, limit): (&dyn Index, u64)) -> Result<Lane> {
    if opened.state == State::Drained {
        directory.release();
        let lane = Lane::new(Quota::new(opened.capacity, 0));
        return Ok(Lane { standing: Standing::Drained, ..lane });
    }
    let unrecorded = recover::unrecorded_at_start(directory, index, limit)?;
    Ok(Lane::new(Quota::new(opened.capacity, unrecorded)))
}

/// Whether a directory can't be used because its disk fails, rather than by a mistake.
fn is_of_the_disk(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    let read_only = source.is_some_and(|source| source.kind() == io::ErrorKind::ReadOnlyFilesystem);
    read_only || error.kind() == ErrorKind::Unavailable
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
    name: &str,
    work: impl FnOnce(&Shelf) + Send + 'static,
) -> Result<()> {
    shelf.queue.thread_starts();
    let running = Running(Arc::clone(shelf));
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || work(&running.0));
    spawned.map(drop).map_err(|error| {
        Error::unavailable("could not start a thread for the page store").with_source(error)
    })
}
