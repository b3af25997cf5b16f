// SPDX-License-Identifier: Apache-2.0
//! What a fill thread does: make room, write, record, and only then show the pages to readers.
//!
//! Room is taken from the quota before anything is written, and the record is put before the
//! catalogue shows the pages, so whatever a reader is given has its checksum.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use larder_core::{ContentId, Error, Result, SegmentIndex};

use super::{Batch, Job, Queued, place, small};
use crate::{
    Class, IndexKey, NotKept, PutOutcome, backing,
    catalogue::SEGMENT_OVERHEAD,
    class::{Admitted, ClassNumber, Origin},
    evict::LaneIndex,
    expire,
    page_set::PageSet,
    record::Record,
    segment::{Begun, Filled, NewSegment, Pinned},
    shelf::{Shelf, Trouble, punch},
};

/// Evicting so often for one batch means that others take the room each time.
const EVICTIONS_MAX: u32 = 4096;
/// A content may move under a fill's feet (removed, faulty, another length) so many times.
const PLACINGS_MAX: u32 = 4;

/// Works until the queue is closed.
pub(crate) fn run(shelf: &Shelf) {
    while let Some((job, bytes)) = shelf.queue.next() {
        let worked = catch_unwind(AssertUnwindSafe(|| match job {
            Job::Write(batch) => fill(shelf, batch),
            Job::WriteSmall(files) => small::fill(shelf, files),
            Job::Sweep => shelf.sweep_slots(),
            Job::Check(key) => {
                if let Err(error) = check(shelf, key) {
                    tracing::warn!(%error, "could not check a segment");
                }
            }
        }));
        shelf.queue.finished(bytes);
        if worked.is_err() {
            tracing::error!("a fill thread met a defect; the pages it had are not kept");
        }
    }
}

/// The pages of a batch that are to be written, by their number in the segment.
type Pages = BTreeMap<u32, Queued>;

fn fill(shelf: &Shelf, batch: Batch) {
    let resident = {
        let catalogue = shelf.catalogue();
        let found = catalogue.find_readable(batch.key.content, batch.length);
        found.map_or(PageSet::default(), |_| catalogue.pages(batch.key))
    };
    let mut pages = Pages::new();
    let mut twins = Vec::new();
    for queued in batch.pages {
        let page = queued.page.index.in_segment();
        if resident.contains(page) {
            queued.tell(PutOutcome::Kept);
        } else if let Some(former) = pages.insert(page, queued) {
            twins.push(former);
        }
    }
    if pages.is_empty() {
        return;
    }
    let set: PageSet = pages.keys().copied().collect();
    let class = pages.values().next().map_or(Class::NONE, |queued| queued.page.class);
    let job = Writing {
        shelf,
        key: batch.key,
        length: batch.length,
        class,
        set,
        cost: set.cost(batch.key.segment, batch.length) + SEGMENT_OVERHEAD,
    };
    let outcome = match job.announce_and_place(&pages) {
        Ok(()) => {
            shelf.metrics.pages_filled.inc_by(u64::from(set.count()));
            PutOutcome::Kept
        }
        Err(reason) => {
            shelf.metrics.pages_not_kept.inc_by(u64::from(set.count()));
            PutOutcome::NotKept(reason)
        }
    };
    for queued in pages.into_values().chain(twins) {
        queued.tell(outcome);
    }
}

/// Why a batch was not written.
enum Failed {
    Disk(io::Error),
    Index(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Index(error)
    }
}

/// One batch on its way to the disk.
struct Writing<'a> {
    shelf: &'a Shelf,
    key: IndexKey,
    length: u64,
    class: Class,
    set: PageSet,
    /// What it takes at most: its pages, and a segment's overhead if the segment is new.
    cost: u64,
}

impl Writing<'_> {
    fn announce_and_place(&self, pages: &Pages) -> Result<(), NotKept> {
        if let Err(error) = self.shelf.unflushed.enter(self.cost) {
            tracing::warn!(%error, "could not flush the index; pages are not kept");
            return Err(NotKept::DiskFault);
        }
        let placed = self.place(pages);
        self.shelf.unflushed.leave(self.cost);
        placed
    }

    /// Finds a directory, makes room there, and writes.
    fn place(&self, pages: &Pages) -> Result<(), NotKept> {
        for _ in 0..PLACINGS_MAX {
            let directory = self.choose()?;
            let class = self.take_of_class()?;
            if let Err(reason) = self.take(directory) {
                self.shelf.catalogue().classes.unreserve(class, self.cost);
                return Err(reason);
            }
            let stripe = self.shelf.stripe(self.key.content);
            expire::leave_if_expired(self.shelf, self.key.content);
            let begun = {
                let mut catalogue = self.shelf.catalogue();
                let admitted = Admitted::at(catalogue.clock.now());
                let origin = Origin { class: self.class, admitted };
                catalogue.begin(NewSegment {
                    key: self.key,
                    length: self.length,
                    directory,
                    origin,
                })
            };
            match begun {
                Begun::Ready { pinned, fresh } => {
                    let filled = Filled::nothing(pinned, fresh, (self.cost, class));
                    return self.write_or_undo(pages, pinned, filled);
                }
                Begun::Elsewhere => {}
                Begun::OtherLength => {
                    // One content has one length; the newer word counts.
                    if let Err(error) = self.shelf.remove_content(self.key.content) {
                        tracing::warn!(%error, "could not remove a content of another length");
                    }
                }
                Begun::TooMany(_) => {}
            }
            drop(stripe);
            let mut catalogue = self.shelf.catalogue();
            catalogue.give_back(directory, self.cost);
            catalogue.classes.unreserve(class, self.cost);
            drop(catalogue);
            if let Begun::TooMany(class) = begun
                && !expire::drop_one_file(self.shelf, class)
            {
                return Err(NotKept::QuotaFull);
            }
        }
        Err(NotKept::NoRoom)
    }

    /// Sets aside what the batch costs in its class, which evicts its own while its quota is full.
    fn take_of_class(&self) -> Result<ClassNumber, NotKept> {
        for _ in 0..EVICTIONS_MAX {
            let class = {
                let mut catalogue = self.shelf.catalogue();
                let class = catalogue.classes.number(self.class);
                if catalogue.classes.try_reserve(class, self.cost) {
                    return Ok(class);
                }
                if !catalogue.classes.could_hold(class, self.cost) {
                    return Err(NotKept::QuotaFull);
                }
                class
            };
            if !self.shelf.evict_one_of(class, Some(self.key)) {
                return Err(NotKept::QuotaFull);
            }
        }
        Err(NotKept::QuotaFull)
    }

    /// Where the content lies already; for a new one, a healthy directory by what is free.
    fn choose(&self) -> Result<LaneIndex, NotKept> {
        let content = self.key.content;
        let mut catalogue = self.shelf.catalogue();
        if let Some(found) = catalogue.find(content) {
            if catalogue.lane(found.directory).takes_pages() {
                return Ok(found.directory);
            }
            drop(catalogue);
            self.leave(content);
            catalogue = self.shelf.catalogue();
        }
        place::choose(self.shelf, &catalogue, content).ok_or(NotKept::DiskFault)
    }

    /// Takes a content off a directory that takes nothing more, so that it can begin anew
    /// elsewhere: one content lies in one directory.
    fn leave(&self, content: ContentId) {
        fail::fail_point!("pages::leave");
        let _stripe = self.shelf.stripe(content);
        let found = {
            let mut catalogue = self.shelf.catalogue();
            let found = catalogue.find(content).map(|found| catalogue.lane(found.directory));
            // Another fill of it may have done so, and lies elsewhere by now.
            found.filter(|lane| !lane.takes_pages()).map(|lane| lane.fault.is_some())
        };
        match found {
            Some(true) => self.shelf.forget_content(content),
            Some(false) => {
                if let Err(error) = self.shelf.remove_content(content) {
                    tracing::warn!(%error, "could not remove a content that is being drained");
                }
            }
            None => {}
        }
    }

    /// Takes what the batch costs from the directory's quota, evicting just enough.
    fn take(&self, directory: LaneIndex) -> Result<(), NotKept> {
        for _ in 0..EVICTIONS_MAX {
            let mut catalogue = self.shelf.catalogue();
            if !catalogue.lane(directory).takes_pages() {
                return Err(NotKept::DiskFault);
            }
            if catalogue.try_take(directory, self.cost) {
                return Ok(());
            }
            if !catalogue.lane(directory).quota.can_make_room(self.cost) {
                return Err(NotKept::NoRoom);
            }
            drop(catalogue);
            if !self.shelf.evict_one(directory, Some(self.key)) {
                return Err(NotKept::NoRoom);
            }
        }
        Err(NotKept::NoRoom)
    }

    /// Writes into the pinned segment, or leaves nothing behind.
    fn write_or_undo(
        &self,
        pages: &Pages,
        pinned: Pinned,
        mut filled: Filled,
    ) -> Result<(), NotKept> {
        let directory = pinned.directory;
        let failed = match self.write(pages, pinned) {
            Ok(()) => {
                filled.added = self.set;
                let mut catalogue = self.shelf.catalogue();
                catalogue.lane(directory).quota.disk_was_fine(self.cost);
                catalogue.finish(filled);
                return Ok(());
            }
            Err(failed) => failed,
        };
        let reason = self.judge(directory, &failed);
        self.shelf.catalogue().outdate(self.key.content);
        // What can't be freed takes the directory out of service, so its account may be cleared.
        if let Err(error) = punch(self.shelf.root(directory), self.key, &self.set) {
            self.shelf.fault(directory, &error);
        }
        self.shelf.catalogue().finish(filled);
        Err(reason)
    }

    fn write(&self, pages: &Pages, pinned: Pinned) -> Result<(), Failed> {
        let root = self.shelf.root(pinned.directory);
        let file = backing::create(root, self.key.content, self.length)?;
        let first = self.key.segment.first_page();
        for run in self.set.runs(larder_core::SEGMENT_PAGES) {
            let parts: Vec<&[u8]> =
                pages.range(run.clone()).flat_map(|(_, page)| page.page.bytes.parts()).collect();
            let offset = larder_core::PageIndex(first.0 + run.start).start();
            backing::write(&file, offset, &parts)?;
        }
        let mut record = self.record(pinned)?;
        for (page, queued) in pages {
            record.insert(*page, queued.page.checksum);
        }
        self.shelf.put_record(self.key, record)?;
        Ok(())
    }

    /// The record of what is resident now.
    fn record(&self, pinned: Pinned) -> Result<Record> {
        let found = self.shelf.catalogue().find(self.key.content);
        let directory = self.shelf.directories[pinned.directory.0 as usize].id();
        let known = self.shelf.record(self.key, &pinned.pages)?;
        let known =
            known.filter(|record| record.directory == directory && record.length == self.length);
        // A record may claim pages that were dropped or lost since it was written.
        let mut record = known.map_or_else(
            || Record::new(directory, self.length),
            |record| record.retain(&pinned.pages),
        );
        record.origin = found.map_or(record.origin, |found| found.origin);
        Ok(record)
    }

    fn judge(&self, directory: LaneIndex, failed: &Failed) -> NotKept {
        let error = match failed {
            Failed::Disk(error) => error,
            Failed::Index(error) => {
                tracing::warn!(%error, "could not write a segment's record; pages are not kept");
                return NotKept::DiskFault;
            }
        };
        place::judge(self.shelf, directory, error, self.cost)
    }
}

/// A reader met a segment that is not what the catalogue says: compares it with its record and
/// its file, and drops what is not there.
fn check(shelf: &Shelf, key: IndexKey) -> Result<()> {
    if key.segment == SegmentIndex(0) {
        shelf.check_small(key.content);
    }
    let _stripe = shelf.stripe(key.content);
    let (found, pages) = {
        let catalogue = shelf.catalogue();
        let Some(found) = catalogue.find(key.content) else { return Ok(()) };
        (found, catalogue.pages(key))
    };
    let root = shelf.root(found.directory);
    match backing::open_for_writing(root, key.content) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(content = %key.content, "a backing file is lost; its pages are misses");
            return shelf.remove_content(key.content).map(drop);
        }
        Err(error) if Trouble::of(&error) == Trouble::Broken => {
            shelf.fault(found.directory, &error);
            return Ok(());
        }
        _ => {}
    }
    let id = shelf.directories[found.directory.0 as usize].id();
    let record = shelf.record(key, &pages)?;
    let record = record.filter(|record| record.directory == id && record.length == found.length);
    let claimed = record.map_or(PageSet::default(), |record| record.pages());
    shelf.drop_pages(key, &pages.minus(&claimed))
}
