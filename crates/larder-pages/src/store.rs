// SPDX-License-Identifier: Apache-2.0
//! The front door of the page store.
//!
//! `get` is a look-up: it takes one short lock, and opens a backing file when no descriptor is
//! at hand. `put` queues. `verify`, `remove`, `open` and `close` block on disk and belong on a
//! thread that may block.

use std::{
    any::Any,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{
    ByteRange, ByteSize, Clock, ContentId, Error, Extent, Metrics, PageIndex, Result,
    page::FILE_LENGTH_MAX,
};

use crate::{
    Class, ClassRule, ClassUsage, Index, PageBytes, Standing, expire,
    fill::{self, Done, Queued, Waiting},
    lookup::{self, Purpose},
    open, recover, roster, scrub,
    scrubber::{self, Scrub, Scrubbed},
    shelf::Shelf,
    whole::{self, Wholes},
};

/// How long closing waits for the disk.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long opening waits for the small files; what is not yet read by then is a miss for now.
const SLABS_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a page store is made of, and its limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where pages lie, each place with its capacity. At least one.
    pub directories: Vec<DirectoryOptions>,
    /// The most backing files kept open for readers (at most half of what the process may open).
    pub descriptors_max: usize,
    /// Threads that write pages.
    pub fill_threads: usize,
    /// The most bytes that wait to be written; above it pages are not kept.
    pub fill_queue_bytes_max: ByteSize,
    /// The most bytes written since the index was last flushed, hence the most that a crash can
    /// leave on disk without a record (lowered to a quarter of the smallest directory).
    pub unflushed_bytes_max: ByteSize,
    /// The most memory for decoded segment records (about 1 KiB for 16 MiB of pages).
    pub record_cache_bytes_max: ByteSize,
    /// How pages that nobody reads are looked after.
    pub scrub: Scrub,
    /// What holds for classes of contents, at first.
    pub classes: Vec<ClassRule>,
    /// Time.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            descriptors_max: 1024,
            fill_threads: 2,
            fill_queue_bytes_max: ByteSize(64 << 20),
            unflushed_bytes_max: ByteSize(256 << 20),
            record_cache_bytes_max: ByteSize(16 << 20),
            scrub: Scrub::default(),
            classes: Vec::new(),
            clock: Clock::system(),
        }
    }
}

/// One directory for pages.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// Where; made if missing.
    pub path: PathBuf,
    /// The most bytes that pages may take there, as allocated on disk.
    pub capacity: ByteSize,
}

/// A part of a range, as the store answers it.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes that lie here.
    Resident {
        /// Where, in whole pages with their checksums.
        extent: Extent,
        /// The bytes of it that were asked for.
        part: ByteRange,
    },
    /// Bytes that are not here; cut to what was asked for, not to pages.
    Gap(ByteRange),
}

/// A page to keep.
pub struct NewPage {
    /// The content it belongs to.
    pub content: ContentId,
    /// The length of the whole content.
    pub length: u64,
    /// Which page.
    pub index: PageIndex,
    /// Its bytes: exactly as many as the page has in a content of that length.
    pub bytes: PageBytes,
    /// CRC-32C of the bytes.
    pub checksum: u32,
    /// The class that the content belongs to.
    pub class: Class,
    /// Kept until the page was written or given up; a lease on memory, usually.
    pub hold: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for NewPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPage")
            .field("content", &self.content)
            .field("length", &self.length)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// What became of a page that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is resident now.
    Kept,
    /// It is not, which harms nobody.
    NotKept(NotKept),
}

/// Why a page was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// Too much waits to be written already.
    QueueFull,
    /// Nothing could be evicted to make room.
    NoRoom,
    /// The disk or the index failed.
    DiskFault,
    /// The store is closed or about to.
    Closed,
    /// The page does not have the bytes it must have.
    Invalid,
    /// The quota of its class is full, and nothing of that could go.
    QuotaFull,
    /// A rule says that it shall not be kept; told by those who put pages, never by the store.
    Unwanted,
}

/// How much of a content is resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// Resident pages.
    pub pages: u32,
    /// The bytes of the content in them.
    pub bytes: u64,
}

/// How one directory is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// Which directory.
    pub path: PathBuf,
    /// The most bytes it may hold.
    pub capacity: ByteSize,
    /// Bytes taken, as allocated on disk, fills in flight included.
    pub resident: ByteSize,
    /// Resident segments, each small file being one.
    pub segments: u64,
    /// Small files among them.
    pub small_files: u64,
    /// What it may hold now: less than the capacity while others fill the file system.
    pub limit: ByteSize,
    /// Why the directory is out of service, if it is.
    pub fault: Option<String>,
    /// Whether it is wanted.
    pub standing: Standing,
    /// Its files are being compared with the records.
    pub comparing: bool,
    /// How far the scrubber is; `None` when it is off.
    pub scrubbed: Option<Scrubbed>,
}

/// The page store of one machine.
#[derive(Debug)]
pub struct PageStore {
    shelf: Arc<Shelf>,
    open: AtomicBool,
    wholes: Arc<Wholes>,
}

impl PageStore {
    /// Opens or creates the directories and takes their locks. Serves at once: records are
    /// loaded, and after a crash files are compared with them, on a thread behind.
    ///
    /// # Errors
    /// One sentence per directory that cannot be used: taken, unwritable, too small, not ours.
    pub fn open(
        options: Options,
        index: Arc<dyn Index>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let shelf = open::open(&options, index, metrics)?;
        let store = Arc::new(Self {
            shelf: Arc::clone(&shelf),
            open: AtomicBool::new(true),
            wholes: Arc::default(),
        });
        open::spawn(&shelf, "larder-recover", recover::run)?;
        for _ in 0..options.fill_threads_within_limits() {
            open::spawn(&shelf, "larder-fill", fill::run)?;
        }
        open::spawn(&shelf, "larder-expire", expire::run)?;
        shelf.lanes().try_for_each(|lane| scrubber::spawn(&shelf, lane))?;
        shelf.wait_for_slabs(SLABS_WAIT_MAX);
        Ok(store)
    }

    /// The resident and missing pieces of `range`, in order, covering it exactly (cut at
    /// `length`). No network, no waiting for fills; may open a file.
    #[must_use]
    pub fn get(&self, content: ContentId, length: u64, range: ByteRange) -> Vec<Piece> {
        lookup::get(&self.shelf, (content, length), range, Purpose::Read)
    }

    /// The same for who only wants to know what is here and reads none of it now: for what is
    /// kept longest, it does not count as a use.
    #[must_use]
    pub fn look(&self, content: ContentId, length: u64, range: ByteRange) -> Vec<Piece> {
        lookup::get(&self.shelf, (content, length), range, Purpose::Look)
    }

    /// The whole content as one extent at offset 0 of a local file that is an exact copy of it, if
    /// there is one: every page resident, the content longer than a page, and not too much of the
    /// directory held by such extents already. The bytes are not compared with their checksums.
    #[must_use]
    pub fn whole(&self, content: ContentId, length: u64) -> Option<Extent> {
        whole::whole(&self.shelf, &self.wholes, content, length)
    }

    /// Hands a page to the fill threads. Never blocks; `done` is called exactly once, from a
    /// fill thread or at once.
    pub fn put(&self, page: NewPage, done: impl FnOnce(PutOutcome) + Send + 'static) {
        let queued = Queued { page, done: Done::new(done) };
        let refused = if queued.page.is_valid() {
            self.shelf.queue.push(queued)
        } else {
            tracing::debug!(page = ?queued.page, "a page has not the bytes it must have");
            Err((queued, NotKept::Invalid))
        };
        if let Err((queued, reason)) = refused {
            self.shelf.metrics.pages_not_kept.inc();
            queued.tell(PutOutcome::NotKept(reason));
        }
    }

    /// Whether so much waits for the disks that who can wait should: soon pages are not kept.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shelf.queue.is_half_full()
    }

    /// Reads these pages again and drops those that fail their checksum; returns how many.
    ///
    /// # Errors
    /// When the index fails, or the file cannot be opened for now.
    pub fn verify(&self, content: ContentId, length: u64, pages: &[PageIndex]) -> Result<u32> {
        self.shelf.wait_until_loaded()?;
        scrub::verify(&self.shelf, content, length, pages)
    }

    /// Drops everything of a content and returns how many bytes that gives back, at the latest
    /// when its last reader is done. Pages of it that still wait to be written come afterwards.
    ///
    /// # Errors
    /// When the disk or the index fails.
    pub fn remove(&self, content: ContentId) -> Result<u64> {
        self.shelf.wait_until_loaded()?;
        let _stripe = self.shelf.stripe(content);
        self.shelf.remove_content(content)
    }

    /// How much of a content is resident.
    #[must_use]
    pub fn presence(&self, content: ContentId, length: u64) -> Presence {
        lookup::presence(&self.shelf, content, length)
    }

    /// How each directory is used.
    #[must_use]
    pub fn usage(&self) -> Vec<DiskUsage> {
        let catalogue = self.shelf.catalogue();
        let lanes = self.shelf.directories.iter().zip(&catalogue.lanes);
        let usage = lanes.map(|(directory, lane)| DiskUsage {
            path: directory.path.clone(),
            capacity: ByteSize(lane.quota.capacity()),
            resident: ByteSize(lane.quota.used()),
            segments: lane.segments + lane.small_files,
            small_files: lane.small_files,
            limit: ByteSize(lane.quota.limit()),
            fault: lane.fault.clone(),
            standing: lane.standing,
            comparing: lane.comparing,
            scrubbed: self.shelf.scrub.is_on().then_some(lane.scrubbed),
        });
        usage.collect()
    }

    /// From now on these rules hold for classes of contents, and no others. A content whose class
    /// is among them no more has no rule until [`PageStore::classify`] says otherwise.
    ///
    /// # Errors
    /// `Exhausted` when more than 255 classes have rules or, from rules before, contents.
    pub fn set_classes(&self, rules: &[ClassRule]) -> Result<()> {
        self.shelf.catalogue().set_classes(rules)
    }

    /// Waits until the records are read, at most a minute.
    ///
    /// # Errors
    /// `Unavailable` when they are not, or the store is closed.
    pub fn wait_until_loaded(&self) -> Result<()> {
        self.shelf.wait_until_loaded()
    }

    /// From now on a content belongs to this class, if any of it is resident.
    pub fn classify(&self, content: ContentId, class: Class) {
        self.shelf.catalogue().classify(content, class);
    }

    /// What each class that has a rule takes.
    #[must_use]
    pub fn class_usage(&self) -> Vec<ClassUsage> {
        self.shelf.catalogue().classes.usage()
    }

    /// Takes one more directory into service.
    ///
    /// # Errors
    /// As [`PageStore::open`], or when the directory is known already.
    pub fn add_directory(&self, options: &DirectoryOptions) -> Result<()> {
        self.shelf.wait_until_loaded()?;
        roster::add(&self.shelf, options)
    }

    /// Lets a directory take nothing new and drops what lies there, behind and at a bounded rate.
    /// It stays drained over a restart, until [`PageStore::resume_directory`].
    ///
    /// # Errors
    /// When there is no such directory, or it can't be written.
    pub fn drain_directory(&self, path: &Path) -> Result<()> {
        self.shelf.wait_until_loaded()?;
        roster::drain(&self.shelf, path)
    }

    /// Takes a directory back into service that was drained, or whose disk failed or was full.
    ///
    /// # Errors
    /// When there is no such directory, or its disk still can't be used.
    pub fn resume_directory(&self, path: &Path) -> Result<()> {
        self.shelf.wait_until_loaded()?;
        roster::resume(&self.shelf, path)
    }

    /// Writes what is queued, stops the threads, flushes the index and marks the directories
    /// clean. Afterwards everything is a gap and nothing is kept. A second call does nothing.
    ///
    /// # Errors
    /// When that took too long or failed; the next start then compares files with records.
    pub fn close(&self) -> Result<()> {
        if !self.open.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let ended = self.shelf.queue.close(Waiting::Written, CLOSE_WAIT_MAX);
        self.shelf.set_closed();
        if !ended {
            return Err(Error::unavailable(format!(
                "a cache directory did not answer within {} seconds; its files are compared with \
                 their records at the next start",
                CLOSE_WAIT_MAX.as_secs()
            )));
        }
        let closed = self.shelf.index.flush().and_then(|()| recover::mark_closed(&self.shelf));
        self.shelf.directories.unlock();
        closed
    }
}

impl Drop for PageStore {
    /// Without [`PageStore::close`] the directories are left as after a crash.
    fn drop(&mut self) {
        if self.open.swap(false, Ordering::AcqRel) {
            let ended = self.shelf.queue.close(Waiting::GivenUp, CLOSE_WAIT_MAX);
            self.shelf.set_closed();
            // A thread that hangs may still write: the locks go when it lets go of the shelf.
            if ended {
                self.shelf.directories.unlock();
            }
        }
    }
}

impl NewPage {
    /// Whether the page has exactly the bytes that a page at this place has.
    fn is_valid(&self) -> bool {
        self.length <= FILE_LENGTH_MAX
            && self.bytes.length() > 0
            && self.index.range(self.length).length() == self.bytes.length()
    }
}
