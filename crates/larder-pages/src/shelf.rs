// SPDX-License-Identifier: Apache-2.0
//! What the front door, the fill threads and recovery share: the catalogue, the directories, the
//! index, the two caches (decoded records, open descriptors), and the ways things leave the disk.
//!
//! Lock order: a content's *stripe*, then the catalogue. A stripe is held while files or records
//! of its contents change, so a file is never unlinked while another thread fills it; the
//! catalogue is never held across a system call. Readers take no stripe: what they look up is
//! checked by its checksum anyway.

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock, ContentId, Error, Metrics, Result};
use quick_cache::{Weighter, sync::Cache};
use rustix::io::Errno;

use crate::{
    Index, IndexKey, Scrub, backing,
    catalogue::{Catalogue, Incarnation},
    class::ClassNumber,
    evict::LaneIndex,
    fill::Queue,
    page_set::PageSet,
    record::Record,
    recover,
    roster::Roster,
    segment::{Candidate, Evicted, Found, Removed},
    unflushed::Unflushed,
};

/// Contents share this many locks.
const STRIPES: usize = 64;
/// How long `verify` and `remove` wait for the records to be loaded after a start.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(60);
/// A decoded record of a whole segment weighs about this much.
const RECORD_BYTES: u64 = 1100;

/// Weighs decoded records by the memory they take.
#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<IndexKey, Arc<Record>> for ByBytes {
    fn weight(&self, _key: &IndexKey, record: &Arc<Record>) -> u64 {
        record.weight()
    }
}

/// What is made before the shelf.
pub(crate) struct Parts {
    pub(crate) directories: Roster,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) catalogue: Catalogue,
    pub(crate) queue: Queue,
    pub(crate) unflushed: Unflushed,
    pub(crate) descriptors_max: usize,
    pub(crate) record_cache_bytes_max: u64,
    pub(crate) scrub: Scrub,
    pub(crate) clock: Clock,
}

/// The shared state of a page store.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) directories: Roster,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) metrics: Arc<Metrics>,
    /// Extents hold it too, to ask for what is due when they are dropped.
    pub(crate) queue: Arc<Queue>,
    pub(crate) unflushed: Unflushed,
    pub(crate) scrub: Scrub,
    pub(crate) clock: Clock,
    /// Apart from the rest, because extents hold it and nothing else.
    pub(crate) catalogue: Arc<Mutex<Catalogue>>,
    /// Told when slabs, and when all records, are in the catalogue.
    loaded: Condvar,
    closed: AtomicBool,
    records: Cache<IndexKey, Arc<Record>, ByBytes>,
    pub(crate) descriptors: Cache<Incarnation, Arc<File>>,
    stripes: Vec<Mutex<()>>,
}

impl Shelf {
    pub(crate) fn new(parts: Parts) -> Self {
        let record_bytes = parts.record_cache_bytes_max;
        let records = usize::try_from(record_bytes / RECORD_BYTES).unwrap_or(usize::MAX);
        Self {
            directories: parts.directories,
            index: parts.index,
            metrics: parts.metrics,
            queue: Arc::new(parts.queue),
            unflushed: parts.unflushed,
            scrub: parts.scrub,
            clock: parts.clock,
            catalogue: Arc::new(Mutex::new(parts.catalogue)),
            loaded: Condvar::new(),
            closed: AtomicBool::new(false),
            records: Cache::with_weighter(records.max(1), record_bytes, ByBytes),
            descriptors: Cache::new(parts.descriptors_max),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        lock(&self.catalogue)
    }

    /// Keeps others from changing files and records of `content`.
    pub(crate) fn stripe(&self, content: ContentId) -> MutexGuard<'_, ()> {
        lock(&self.stripes[content.0 as usize % STRIPES])
    }

    pub(crate) fn root(&self, directory: LaneIndex) -> &Path {
        &self.directories[directory.0 as usize].path
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneIndex> + use<> {
        (0..self.directories.count()).map(LaneIndex)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing is served or changed any more.
    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
        let mut catalogue = self.catalogue();
        catalogue.closing = true;
        catalogue.generations.end_all();
        drop(catalogue);
        self.loaded.notify_all();
    }

    /// All small files are in the catalogue now.
    pub(crate) fn set_slabs_loaded(&self) {
        self.catalogue().loading_slabs = false;
        self.loaded.notify_all();
    }

    /// Waits so long at most for the small files.
    pub(crate) fn wait_for_slabs(&self, wait_max: Duration) {
        let catalogue = self.catalogue();
        let waited =
            self.loaded.wait_timeout_while(catalogue, wait_max, |found| found.loading_slabs);
        drop(waited);
    }

    /// Every record is in the catalogue now.
    pub(crate) fn set_loaded(&self) {
        self.catalogue().loading = false;
        self.loaded.notify_all();
    }

    /// Waits until changes are possible.
    pub(crate) fn wait_until_loaded(&self) -> Result<()> {
        let catalogue = self.catalogue();
        let waited = self.loaded.wait_timeout_while(catalogue, LOAD_WAIT_MAX, |catalogue| {
            catalogue.loading && !self.is_closed()
        });
        let (_catalogue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(Error::unavailable("the page store is closed"));
        }
        if timeout.timed_out() {
            return Err(Error::unavailable("the page store is still reading its records"));
        }
        Ok(())
    }

    /// The record under `key` if it can be used for `pages`: the cached one when it claims all
    /// of them, else what the index has.
    pub(crate) fn record(&self, key: IndexKey, pages: &PageSet) -> Result<Option<Arc<Record>>> {
        if let Some(record) = self.records.get(&key)
            && pages.minus(&record.pages()).is_empty()
        {
            return Ok(Some(record));
        }
        let bytes = self.index.get(&key)?;
        let record = bytes.and_then(|bytes| Record::parse(&key, &bytes)).map(Arc::new);
        match &record {
            Some(record) => self.records.insert(key, Arc::clone(record)),
            None => drop(self.records.remove(&key)),
        }
        Ok(record)
    }

    /// Puts a record; the caller holds the stripe.
    pub(crate) fn put_record(&self, key: IndexKey, record: Record) -> Result<()> {
        fail::fail_point!("pages::record", |_| Err(Error::unavailable("fail point")));
        if record.pages().is_empty() {
            return self.remove_record(key);
        }
        self.index.put(key, record.encode(&key))?;
        self.records.insert(key, Arc::new(record));
        Ok(())
    }

    fn remove_record(&self, key: IndexKey) -> Result<()> {
        self.records.remove(&key);
        self.index.remove(&key)
    }

    /// An open descriptor of a content's file.
    pub(crate) fn descriptor(&self, content: ContentId, found: Found) -> io::Result<Arc<File>> {
        if let Some(file) = self.descriptors.get(&found.incarnation) {
            return Ok(file);
        }
        let file = Arc::new(backing::open_for_reading(self.root(found.directory), content)?);
        self.descriptors.insert(found.incarnation, Arc::clone(&file));
        // Whoever takes the content out closes its descriptor afterwards; if that happened
        // between the look-up and the line above, this one would stay.
        if !self.catalogue().is_current(content, found.incarnation) {
            self.descriptors.remove(&found.incarnation);
        }
        Ok(file)
    }

    /// Evicts one segment or small file of `directory`; `false` when there is none that can go.
    /// The segment that room is made for goes last.
    pub(crate) fn evict_one(&self, directory: LaneIndex, growing: Option<IndexKey>) -> bool {
        let candidate = self.catalogue().candidate(directory, growing);
        candidate.inspect(|candidate| self.evict(*candidate)).is_some()
    }

    /// Evicts one segment or small file of a class, wherever it lies, and nothing else; `false`
    /// when there is none that can go. The segment that room is made for goes last.
    pub(crate) fn evict_one_of(&self, class: ClassNumber, growing: Option<IndexKey>) -> bool {
        let mut catalogue = self.catalogue();
        let Some(candidate) = catalogue.candidate_of(class, growing) else { return false };
        let Candidate::Small(number) = candidate else {
            drop(catalogue);
            self.evict(candidate);
            return true;
        };
        // Alone, for those that share a block with it may be another class's.
        let freeing = catalogue.evict_alone(number);
        drop(catalogue);
        freeing.into_iter().for_each(|freeing| self.free_alone(freeing));
        true
    }

    /// Evicts what should go. Another thread may have taken it, or a reader pinned it, meanwhile:
    /// then the caller asks again.
    pub(crate) fn evict(&self, candidate: Candidate) {
        let key = match candidate {
            Candidate::Segment(key) => key,
            Candidate::Small(number) => return self.evict_small(number),
        };
        let _stripe = self.stripe(key.content);
        let evicted = self.catalogue().evict(key);
        if let Some(evicted) = evicted {
            self.metrics.pages_evicted.inc_by(u64::from(evicted.pages.count()));
            fail::fail_point!("pages::evict");
            self.free(&evicted);
        }
    }

    /// Frees on disk what left the catalogue; the caller holds the stripe.
    fn free(&self, evicted: &Evicted) {
        let Evicted { key, directory, incarnation, .. } = *evicted;
        // A record that stays claims pages that read as zeros: a plain miss.
        if let Err(error) = self.remove_record(key) {
            tracing::warn!(%error, "could not remove the record of an evicted segment");
        }
        let root = self.root(directory);
        let freed = if evicted.last {
            self.descriptors.remove(&incarnation);
            backing::unlink(root, key.content)
        } else if self.is_lent(directory, key.content) {
            // From a file that may be mapped segments can't go one by one.
            if let Err(error) = self.remove_content(key.content) {
                tracing::warn!(%error, "could not remove a content whose segment was evicted");
            }
            Ok(())
        } else {
            punch(root, key, &PageSet::all())
        };
        // What can't be freed takes the directory out of service: its account counts again only
        // after its files were compared with the records.
        if let Err(error) = freed {
            self.fault(directory, &error);
        }
        self.catalogue().give_back(directory, evicted.bytes);
    }

    /// Drops a content, with its slot or its records and its file; the caller holds the stripe.
    /// Returns the bytes that gives back, at the latest when the last reader is done.
    pub(crate) fn remove_content(&self, content: ContentId) -> Result<u64> {
        let small = self.remove_small(content);
        let Some(removed) = self.catalogue().remove(content) else { return Ok(small) };
        let mut outcome = Ok(removed.bytes);
        for segment in &removed.segments {
            let key = IndexKey { content, segment: *segment };
            if let Err(error) = self.remove_record(key) {
                outcome = Err(error);
            }
        }
        self.unlink(content, &removed).and(outcome)
    }

    fn unlink(&self, content: ContentId, removed: &Removed) -> Result<u64> {
        self.descriptors.remove(&removed.incarnation);
        let unlinked = backing::unlink(self.root(removed.directory), content);
        if let Err(error) = &unlinked {
            self.fault(removed.directory, error);
        }
        self.catalogue().unlinked(removed);
        unlinked.map(|()| removed.bytes).map_err(|error| {
            Error::unavailable("a backing file could not be removed").with_source(error)
        })
    }

    /// Drops single pages, keeping the rest of the segment; the caller holds the stripe.
    pub(crate) fn drop_pages(&self, key: IndexKey, pages: &PageSet) -> Result<()> {
        let Some((found, resident)) = ({
            let catalogue = self.catalogue();
            catalogue.find(key.content).map(|found| (found, catalogue.pages(key)))
        }) else {
            return Ok(());
        };
        let pages = pages.and(&resident);
        if pages.is_empty() {
            return Ok(());
        }
        let kept = resident.minus(&pages);
        let is_last = kept.is_empty() && found.segments == 1;
        if is_last || self.is_lent(found.directory, key.content) {
            return self.remove_content(key.content).map(drop);
        }
        let bytes = self.catalogue().drop_pages(key, &pages);
        if let Some(record) = self.record(key, &kept)? {
            self.put_record(key, record.retain(&kept))?;
        }
        if let Err(error) = punch(self.root(found.directory), key, &pages) {
            self.fault(found.directory, &error);
        }
        self.catalogue().give_back(found.directory, bytes);
        Ok(())
    }

    /// Whether the content's file was handed out whole, so that somebody may have it mapped.
    fn is_lent(&self, directory: LaneIndex, content: ContentId) -> bool {
        let file = backing::open_for_reading(self.root(directory), content);
        file.and_then(|file| backing::is_lent(&file)).unwrap_or(false)
    }

    /// Lets go of a content that lies in a directory out of service, without touching the disk;
    /// the caller holds the stripe.
    pub(crate) fn forget_content(&self, content: ContentId) {
        self.remove_small(content);
        let removed = self.catalogue().remove(content);
        let Some(removed) = removed else { return };
        self.descriptors.remove(&removed.incarnation);
        for segment in &removed.segments {
            if let Err(error) = self.remove_record(IndexKey { content, segment: *segment }) {
                tracing::warn!(%error, "could not remove the record of a forgotten segment");
            }
        }
        self.catalogue().unlinked(&removed);
    }

    /// Takes a directory out of service: its pages are misses from now on.
    pub(crate) fn fault(&self, directory: LaneIndex, error: &impl fmt::Display) {
        {
            let mut catalogue = self.catalogue();
            let lane = catalogue.lane(directory);
            if lane.fault.is_some() {
                return;
            }
            lane.fault = Some(error.to_string());
            catalogue.generations.end_all();
        }
        self.metrics.cache_directory_faults.inc();
        let path = self.root(directory).display();
        tracing::error!(directory = %path, %error, "a cache directory is out of service");
        recover::unmark(self, directory);
    }

    /// There was no room for `cost` bytes although the directory's own limit allowed them: others
    /// fill the file system. It lives with what it has, unless that is next to nothing.
    pub(crate) fn file_system_was_full(&self, directory: LaneIndex, cost: u64, error: &io::Error) {
        let starved = {
            let mut catalogue = self.catalogue();
            let quota = &mut catalogue.lane(directory).quota;
            quota.disk_was_full(cost);
            quota.is_starved()
        };
        if starved {
            self.fault(directory, error);
        }
    }
}

/// Frees pages of a segment; a file that is gone has nothing to free.
pub(crate) fn punch(root: &Path, key: IndexKey, pages: &PageSet) -> io::Result<()> {
    let file = match backing::open_for_writing(root, key.content) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    // Somebody may have it mapped; its blocks go when the whole file does.
    if backing::is_lent(&file)? {
        return Ok(());
    }
    let first = key.segment.first_page().0;
    for run in pages.runs(larder_core::SEGMENT_PAGES) {
        backing::punch(&file, first + run.start..first + run.end)?;
    }
    Ok(())
}

/// What an error of the file system means for the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No space: others use the file system too.
    Full,
    /// Of this moment or this file only.
    Passing,
    /// The disk cannot be trusted any more.
    Broken,
}

impl Trouble {
    pub(crate) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::FBIG | Errno::NOENT) => {
                Self::Passing
            }
            _ => Self::Broken,
        }
    }
}

/// Locks; a panic of another holder leaves bookkeeping at worst a little off, and data is
/// checked by its checksums, so going on beats giving up.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
