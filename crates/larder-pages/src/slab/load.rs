// SPDX-License-Identifier: Apache-2.0
//! What the slabs of a directory hold, read back at a start and when a directory comes back.
//!
//! Slabs say themselves what lies in them, so there is nothing to compare: what has no valid
//! entry is free, and what takes room beyond that is punched here, before anything is filled.
//!
//! Ten million files in a second or two: threads read and parse ahead, each slab is entered in
//! the order it lies there, and only then are contents entered into the hash tables, a table at
//! a time and each made large enough before, for else nearly every entry would miss the CPU's
//! caches.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    ops::Range,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::{
    entry::{Entry, Header},
    file, lost,
    names::{Names, Sorted},
    resident::SlabFile,
    restore::FoundSlab,
};
use crate::{backing::fail_io, disk::State, evict::LaneIndex, shelf::Shelf};

/// Threads that read ahead, and slabs that wait for being entered.
const READERS: usize = 2;
const AHEAD_MAX: usize = 8;
/// The contents of so many slabs are entered together: 12 MiB for the time being.
const TOGETHER: usize = 64;

/// Reads the slabs of every directory that takes part. One that cannot be read is lost by itself;
/// only what says that the whole disk fails takes its directory out of service.
pub(crate) fn load(shelf: &Shelf) {
    for directory in shelf.lanes() {
        let serves = shelf.catalogue().lane(directory).takes_pages();
        if serves && let Err(error) = load_lane(shelf, directory) {
            shelf.fault(directory, &error);
        }
    }
}

/// Forgets what lies in the slabs of a directory; its files go too, unless its disk failed.
pub(crate) fn forget(shelf: &Shelf, directory: LaneIndex) {
    loop {
        let next = shelf.catalogue().smalls.next_of(directory, 0);
        let Some(at) = next else { return };
        shelf.drop_slab(at);
    }
}

/// A slab as it was read.
struct Read {
    name: u64,
    file: File,
    header: Option<Header>,
    entries: Vec<(u32, Entry)>,
}

/// What became of reading a slab.
enum Outcome {
    Read(Read),
    Lost(u64, io::Error),
}

/// Reads the slabs of a directory that takes nothing yet.
pub(crate) fn load_lane(shelf: &Shelf, directory: LaneIndex) -> io::Result<()> {
    shelf.catalogue().lane(directory).loading = true;
    let loaded = read_all(shelf, directory);
    shelf.catalogue().lane(directory).loading = false;
    loaded
}

fn read_all(shelf: &Shelf, directory: LaneIndex) -> io::Result<()> {
    let folder = file::folder(shelf.root(directory));
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let names: io::Result<Vec<OsString>> =
        found.map(|found| found.map(|found| found.file_name())).collect();
    // Names that are none of ours are left alone.
    let mut names: Vec<u64> = names?.iter().filter_map(|name| file::name_of(name)).collect();
    names.sort_unstable();
    let mut slabs = Vec::with_capacity(names.len());
    let next = AtomicUsize::new(0);
    let read = thread::scope(|scope| {
        let (tell, told) = sync_channel(AHEAD_MAX);
        for _ in 0..READERS.min(names.len()) {
            let (tell, names, next) = (tell.clone(), &names, &next);
            let reader = thread::Builder::new().name("larder-slabs".to_owned());
            reader
                .spawn_scoped(scope, move || read_ahead(shelf, directory, (names, next), &tell))?;
        }
        drop(tell);
        told.iter().try_for_each(|outcome| match outcome {
            Outcome::Read(read) => enter(shelf, directory, read, &mut slabs),
            Outcome::Lost(name, error) => lost::leave(shelf, directory, name, error),
        })
    });
    slabs.sort_unstable_by_key(|slab| slab.at);
    let listed = list(shelf, &slabs);
    for slab in slabs {
        let empty = shelf.catalogue().slab_is_restored(slab);
        if let Some(freeing) = empty {
            shelf.catalogue().settle(freeing);
            file::unlink(shelf.root(directory), slab.name)?;
        }
    }
    read.and(listed)
}

fn read_ahead(
    shelf: &Shelf,
    directory: LaneIndex,
    (names, next): (&[u64], &AtomicUsize),
    tell: &SyncSender<Outcome>,
) {
    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
        let outcome = match lost::try_again(shelf, || read(shelf, directory, *name)) {
            Ok(read) => Outcome::Read(read),
            Err(error) => Outcome::Lost(*name, error),
        };
        if shelf.queue.is_closed() || tell.send(outcome).is_err() {
            return;
        }
    }
}

fn read(shelf: &Shelf, directory: LaneIndex, name: u64) -> io::Result<Read> {
    fail_io!("pages::slab_read");
    let file = file::open_for_writing(shelf.root(directory), name)?;
    let header = file::header(&file)?;
    let mut entries = Vec::new();
    if let Some(header) = &header {
        if file.metadata()?.len() != header.class.file_bytes() {
            file.set_len(header.class.file_bytes())?;
        }
        entries = file::entries(&file, header)?;
    }
    Ok(Read { name, file, header, entries })
}

/// Enters a slab with its files, which are not yet found by their contents.
fn enter(
    shelf: &Shelf,
    directory: LaneIndex,
    read: Read,
    slabs: &mut Vec<SlabFile>,
) -> io::Result<()> {
    let Read { name, file, header, entries } = read;
    let known = header.and_then(|header| {
        let found = FoundSlab { directory, name, header };
        shelf.catalogue().restore_slab(found, &entries)
    });
    let Some(known) = known else {
        // Nobody can say what lies there, or readers still hold what lay there before.
        return file::unlink(shelf.root(directory), name);
    };
    slabs.push(known);
    punch_strays(shelf, &file, &known)
}

/// Frees what has no entry: a process that was killed wrote it, or a power cut tore its entry.
fn punch_strays(shelf: &Shelf, file: &File, known: &SlabFile) -> io::Result<()> {
    let state = shelf.directories[usize::from(known.directory.0)].opened().state;
    // After a power cut files may have lost blocks too, and sums would hide one by the other.
    let closed_well = matches!(state, State::Clean { .. });
    let (charge, uncharged) = {
        let catalogue = shelf.catalogue();
        (catalogue.slab_charge(known.at), catalogue.uncharged_blocks(known.at))
    };
    if closed_well && file::allocated(file)? <= charge {
        return Ok(());
    }
    let data = file::data_blocks(file)?;
    let has_data = |blocks: &&Range<u32>| {
        data.iter().any(|data| data.start < blocks.end && blocks.start < data.end)
    };
    uncharged.iter().filter(has_data).try_for_each(|blocks| file::punch(file, blocks))
}

/// Lets the files of these slabs be found by their contents.
fn list(shelf: &Shelf, slabs: &[SlabFile]) -> io::Result<()> {
    let files = slabs.iter().map(|slab| shelf.catalogue().restored_files(slab)).sum();
    for tables in Names::some_at_a_time() {
        shelf.catalogue().smalls.reserve_names(tables, files);
    }
    for slabs in slabs.chunks(TOGETHER) {
        let mut sorted = Sorted::default();
        slabs.iter().for_each(|slab| shelf.catalogue().sort_names(slab, &mut sorted));
        for table in sorted.tables() {
            let twins = shelf.catalogue().list_restored(table);
            // All of them, whatever becomes of one: their slots are nobody's until then.
            let freed = twins.into_iter().map(|twin| shelf.free_slots_of_load(twin));
            freed.fold(Ok(()), io::Result::and)?;
        }
    }
    Ok(())
}
