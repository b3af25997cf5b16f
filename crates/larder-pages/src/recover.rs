// SPDX-License-Identifier: Apache-2.0
//! After a start: reading the records, and, where the last process did not close well, comparing
//! the files with them.
//!
//! While records are read, look-ups that find nothing in the catalogue ask the index themselves,
//! so the store serves at once; nothing is written or evicted until all are read. Then fills
//! begin, with as many bytes withheld from the quota as may lie on disk without a record, until
//! the files have been compared: files and pages that no record claims go, claims that have no
//! bytes go too. Each content is compared under its stripe, so fills go on meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    ops::Range,
    path::Path,
};

use larder_core::{ContentId, Error, PAGE_SIZE, Result, SEGMENT_PAGES, SegmentIndex};

use crate::{
    Index, IndexKey, backing,
    disk::{Directory, Opened, State},
    evict::LaneIndex,
    page_set::PageSet,
    record::{DirectoryId, Record},
    shelf::Shelf,
    slab,
};

/// The record that says an index knows a directory. No content has so many segments.
const MARK_SEGMENT: SegmentIndex = SegmentIndex(u32::MAX);
const MARK: &[u8] = b"larder-pages directory";
/// Records that nobody can use are removed at once up to so many per start, which bounds memory.
const USELESS_MAX: usize = 100_000;
/// Contents are compared in batches of this many slots of the catalogue.
const WINDOW: usize = 1024;

/// How many bytes may lie in `directory` without a record, and notes durably that from now on
/// `limit` more may.
pub(crate) fn unrecorded_at_start(
    directory: &Directory,
    index: &dyn Index,
    limit: u64,
) -> Result<u64> {
    let Opened { id, capacity, state } = directory.opened();
    let mark = mark_of(id);
    let is_known = index.get(&mark)?.is_some();
    let unrecorded = match state {
        // An index that has never seen the directory, or lost its memory, proves nothing.
        State::Clean { bytes: 0, .. } => 0,
        _ if !is_known => capacity,
        State::Clean { .. } => 0,
        State::Dirty { unrecorded } => unrecorded.min(capacity),
        State::Drained | State::Unknown => capacity,
    };
    if !is_known {
        index.put(mark, MARK.to_vec())?;
        index.flush()?;
    }
    directory.mark(State::Dirty { unrecorded: unrecorded.saturating_add(limit) })?;
    Ok(unrecorded)
}

/// Notes durably how the store was closed.
pub(crate) fn mark_closed(shelf: &Shelf) -> Result<()> {
    for lane in shelf.lanes() {
        let directory = &shelf.directories[lane.0 as usize];
        let state = {
            let mut catalogue = shelf.catalogue();
            let loading = catalogue.loading;
            // Slabs say themselves what lies in them.
            let apart = catalogue.leaving_bytes(lane) + catalogue.smalls.taken(lane);
            let lane = catalogue.lane(lane);
            let unrecorded = lane.quota.unrecorded();
            if !lane.takes_pages() {
                // The index does not vouch for it, or it says itself that it is drained.
                continue;
            } else if loading {
                directory.opened().state
            } else if unrecorded > 0 {
                State::Dirty { unrecorded }
            } else {
                State::Clean { bytes: lane.quota.used() - apart, segments: lane.segments }
            }
        };
        directory.mark(state)?;
    }
    Ok(())
}

/// The thread behind a start.
pub(crate) fn run(shelf: &Shelf) {
    slab::load(shelf);
    shelf.set_slabs_loaded();
    if let Err(error) = load(shelf) {
        if shelf.queue.is_closed() {
            return;
        }
        tracing::error!(%error, "could not read the records of resident pages");
        shelf.catalogue().lanes.iter_mut().for_each(|lane| lane.quota.distrust());
        shelf.set_loaded();
        return;
    }
    compare_with_closing(shelf);
    shelf.set_loaded();
    shelf.lanes().for_each(|directory| shrink(shelf, directory));
    shelf.queue.start();
    shelf.lanes().for_each(|directory| compare(shelf, directory));
}

/// Evicts what is above the limit, as after a start with a smaller capacity.
fn shrink(shelf: &Shelf, directory: LaneIndex) {
    while shelf.catalogue().lane(directory).quota.is_over() && shelf.evict_one(directory, None) {}
}

/// Compares the files of a directory with the records where that is due and nobody does it yet.
pub(crate) fn compare(shelf: &Shelf, directory: LaneIndex) {
    let due = shelf.catalogue().lane(directory).claim_comparison();
    if due {
        compare_claimed(shelf, directory);
    }
}

/// The same for who claimed it.
pub(crate) fn compare_claimed(shelf: &Shelf, directory: LaneIndex) {
    reconcile(shelf, directory);
    shelf.catalogue().lane(directory).comparing = false;
    shrink(shelf, directory);
}

/// Enters one segment into the catalogue while the records are still being read.
pub(crate) fn load_one(shelf: &Shelf, key: IndexKey) {
    let Ok(Some(bytes)) = shelf.index.get(&key) else { return };
    let Some(record) = Record::parse(&key, &bytes) else { return };
    let known = shelf.lanes().zip(shelf.directories.iter());
    let mut known = known.filter(|(_, directory)| directory.id() == record.directory);
    let Some((directory, _)) = known.next() else { return };
    let mut catalogue = shelf.catalogue();
    // Later, the segment may have been evicted since the index was asked.
    if catalogue.loading && !record.pages().is_empty() {
        catalogue.restore_record(key, directory, &record);
    }
}

fn load(shelf: &Shelf) -> Result<()> {
    let known: HashMap<DirectoryId, LaneIndex> =
        shelf.directories.iter().map(Directory::id).zip(shelf.lanes()).collect();
    let mut useless = Vec::new();
    shelf.index.for_each(&mut |key, bytes| {
        if shelf.queue.is_closed() {
            return Err(Error::unavailable("the page store is closed"));
        }
        let used = if key.segment == MARK_SEGMENT {
            known.contains_key(&DirectoryId(key.content.0))
        } else {
            restore(shelf, &known, key, bytes)
        };
        if !used && useless.len() < USELESS_MAX {
            useless.push(key);
        }
        Ok(())
    })?;
    if !useless.is_empty() {
        tracing::info!(records = useless.len(), "dropping records that no directory here has");
    }
    useless.iter().try_for_each(|key| shelf.index.remove(key))
}

/// Enters what a record claims; `false` when nobody can use the record.
fn restore(
    shelf: &Shelf,
    known: &HashMap<DirectoryId, LaneIndex>,
    key: IndexKey,
    bytes: &[u8],
) -> bool {
    let record = Record::parse(&key, bytes).filter(|record| !record.pages().is_empty());
    let Some(record) = record else { return false };
    let Some(directory) = known.get(&record.directory) else { return false };
    shelf.catalogue().restore_record(key, *directory, &record)
}

/// A directory that was closed well must have exactly the segments it was closed with.
fn compare_with_closing(shelf: &Shelf) {
    for directory in shelf.lanes() {
        let found = shelf.directories[directory.0 as usize].opened().state;
        let State::Clean { bytes, segments } = found else { continue };
        let mut catalogue = shelf.catalogue();
        let in_slabs = catalogue.smalls.taken(directory);
        let lane = catalogue.lane(directory);
        if lane.quota.used() - in_slabs == bytes && lane.segments == segments {
            continue;
        }
        lane.quota.distrust();
        let unrecorded = lane.quota.unrecorded();
        drop(catalogue);
        let path = shelf.root(directory).display();
        tracing::warn!(directory = %path, "records and directory differ; comparing all files");
        let dirty = State::Dirty { unrecorded };
        if let Err(error) = shelf.directories[directory.0 as usize].mark(dirty) {
            tracing::warn!(%error, "could not note that");
        }
    }
}

/// Compares the files of a directory with the records, and gives its whole quota free.
fn reconcile(shelf: &Shelf, directory: LaneIndex) {
    let path = shelf.root(directory).display();
    let outcome = drop_orphans(shelf, directory).and_then(|()| compare_contents(shelf, directory));
    if let Err(error) = outcome {
        if !shelf.queue.is_closed() {
            tracing::error!(directory = %path, %error, "could not compare files with records");
        }
        return;
    }
    shelf.catalogue().lane(directory).quota.reconciled();
    // A drain says its own word there, and two writers of one small file would meet.
    let _change = shelf.directories.change();
    if !shelf.catalogue().lane(directory).takes_pages() {
        return;
    }
    let dirty = State::Dirty { unrecorded: shelf.unflushed.limit() };
    if let Err(error) = shelf.directories[directory.0 as usize].mark(dirty) {
        tracing::warn!(%error, "could not note that files and records agree");
    }
    tracing::info!(directory = %path, "files and records agree");
}

/// Unlinks the backing files of contents that have no record here.
fn drop_orphans(shelf: &Shelf, directory: LaneIndex) -> Result<()> {
    let pages = shelf.root(directory).join("pages");
    for fan in read_directory(&pages)? {
        let fan = fan.map_err(unreadable)?;
        if !fan.file_type().map_err(unreadable)?.is_dir() {
            continue;
        }
        for file in read_directory(&fan.path())? {
            stop_when_closed(shelf)?;
            let file = file.map_err(unreadable)?;
            // Names that are none of ours are left alone.
            let Some(content) = backing::content_of(&fan.file_name(), &file.file_name()) else {
                continue;
            };
            let _stripe = shelf.stripe(content);
            let found = shelf.catalogue().find(content);
            if found.is_none_or(|found| found.directory != directory) {
                backing::unlink(shelf.root(directory), content).map_err(unreadable)?;
            }
        }
    }
    Ok(())
}

/// Compares every content of the directory with its file.
fn compare_contents(shelf: &Shelf, directory: LaneIndex) -> Result<()> {
    each_content(shelf, directory, &mut |content| compare_content(shelf, directory, content))
}

/// Visits the contents of a directory, holding no lock meanwhile.
pub(crate) fn each_content(
    shelf: &Shelf,
    directory: LaneIndex,
    visit: &mut dyn FnMut(ContentId) -> Result<()>,
) -> Result<()> {
    let mut start = 0;
    loop {
        let (contents, more) = shelf.catalogue().contents(directory, start..start + WINDOW);
        for content in contents {
            stop_when_closed(shelf)?;
            visit(content)?;
        }
        if !more {
            return Ok(());
        }
        start += WINDOW;
    }
}

fn compare_content(shelf: &Shelf, directory: LaneIndex, content: ContentId) -> Result<()> {
    let _stripe = shelf.stripe(content);
    let claimed: BTreeMap<SegmentIndex, PageSet> = {
        let catalogue = shelf.catalogue();
        let here = catalogue.find(content).is_some_and(|found| found.directory == directory);
        if !here {
            return Ok(());
        }
        catalogue.segments(content).into_iter().collect()
    };
    let file = match backing::open_for_writing(shelf.root(directory), content) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return shelf.remove_content(content).map(drop);
        }
        opened => opened.map_err(unreadable)?,
    };
    let present = present(&file).map_err(unreadable)?;
    for (segment, pages) in &present {
        let stray = pages.minus(claimed.get(segment).unwrap_or(&PageSet::default()));
        if !stray.is_empty() && backing::is_lent(&file).map_err(unreadable)? {
            return shelf.remove_content(content).map(drop);
        }
        for Range { start, end } in stray.runs(SEGMENT_PAGES) {
            let first = segment.first_page().0;
            backing::punch(&file, first + start..first + end).map_err(unreadable)?;
        }
    }
    for (segment, pages) in claimed {
        let missing = pages.minus(present.get(&segment).unwrap_or(&PageSet::default()));
        shelf.drop_pages(IndexKey { content, segment }, &missing)?;
    }
    Ok(())
}

/// The pages of a file that have any block.
fn present(file: &File) -> io::Result<BTreeMap<SegmentIndex, PageSet>> {
    let mut present: BTreeMap<SegmentIndex, PageSet> = BTreeMap::new();
    for data in backing::data(file)? {
        let last = data.end.div_ceil(PAGE_SIZE).min(u64::from(u32::MAX));
        for page in data.start / PAGE_SIZE..last {
            let page = larder_core::PageIndex(page as u32);
            present.entry(page.segment()).or_default().insert(page.in_segment());
        }
    }
    Ok(present)
}

fn stop_when_closed(shelf: &Shelf) -> Result<()> {
    if shelf.queue.is_closed() {
        return Err(Error::unavailable("the page store is closed"));
    }
    Ok(())
}

fn read_directory(path: &Path) -> Result<fs::ReadDir> {
    fs::read_dir(path).map_err(unreadable)
}

fn unreadable(error: io::Error) -> Error {
    Error::unavailable("the directory cannot be read or changed").with_source(error)
}

/// The index does not vouch for a directory any more: whoever uses it next compares all.
pub(crate) fn unmark(shelf: &Shelf, directory: LaneIndex) {
    let id = shelf.directories[directory.0 as usize].id();
    if let Err(error) = shelf.index.remove(&mark_of(id)) {
        tracing::warn!(%error, "could not note that a cache directory is out of service");
    }
}

pub(crate) fn mark_of(id: DirectoryId) -> IndexKey {
    IndexKey { content: ContentId(id.0), segment: MARK_SEGMENT }
}
