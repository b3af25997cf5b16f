// SPDX-License-Identifier: Apache-2.0
//! What the slabs of a directory hold, read back at a start and when a directory comes back.
//!
//! Slabs say themselves what lies in them, so there is nothing to compare: what has no valid
//! entry is free, and what takes room beyond that is punched here, before anything is filled.

use std::{fs, fs::File, io};

use super::{
    entry::Entry,
    file,
    resident::{FoundSlab, SlabFile},
};
use crate::{evict::LaneIndex, shelf::Shelf};

/// So many files are entered before readers get the lock again.
const ENTER_MAX: usize = 1024;

/// Reads the slabs of every directory that takes part. What cannot be read takes its directory
/// out of service.
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
    while shelf.drop_some_slab(directory) {}
}

/// Reads the slabs of a directory.
pub(crate) fn load_lane(shelf: &Shelf, directory: LaneIndex) -> io::Result<()> {
    let found = match fs::read_dir(file::folder(shelf.root(directory))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let mut names = Vec::new();
    for found in found {
        // Names that are none of ours are left alone.
        names.extend(file::name_of(&found?.file_name()));
    }
    names.sort_unstable();
    for name in names {
        if shelf.queue.is_closed() {
            return Ok(());
        }
        load_slab(shelf, directory, name)?;
    }
    Ok(())
}

fn load_slab(shelf: &Shelf, directory: LaneIndex, name: u64) -> io::Result<()> {
    let root = shelf.root(directory);
    let slab = file::open_for_writing(root, name)?;
    let header = file::header(&slab)?;
    let known = header.and_then(|header| {
        let found = FoundSlab { directory, name, header };
        shelf.catalogue().restore_slab(found)
    });
    let Some(known) = known else {
        // Nobody can say what lies there, or readers still hold what lay there before.
        return file::unlink(root, name);
    };
    let entered = fill_in(shelf, &slab, &known);
    let empty = shelf.catalogue().slab_is_restored(known);
    if let Some(freeing) = empty {
        shelf.catalogue().settle(freeing);
        entered.and_then(|()| file::unlink(root, name))
    } else {
        entered
    }
}

fn fill_in(shelf: &Shelf, slab: &File, known: &SlabFile) -> io::Result<()> {
    if slab.metadata()?.len() != known.header.class.file_bytes() {
        slab.set_len(known.header.class.file_bytes())?;
    }
    let entries = file::entries(slab, &known.header)?;
    enter(shelf, slab, known, &entries)?;
    punch_strays(shelf, slab, known)
}

fn enter(
    shelf: &Shelf,
    slab: &File,
    known: &SlabFile,
    entries: &[(u32, Entry)],
) -> io::Result<()> {
    for some in entries.chunks(ENTER_MAX) {
        let mut twins = Vec::new();
        {
            let mut catalogue = shelf.catalogue();
            for (slot, entry) in some {
                if !catalogue.restore_small(known.at, *slot, *entry) {
                    twins.push(*slot);
                }
            }
        }
        for slot in twins {
            file::clear_entries(slab, &(slot..slot + 1))?;
        }
    }
    Ok(())
}

/// Frees what a process that was killed wrote without an entry.
fn punch_strays(shelf: &Shelf, slab: &File, known: &SlabFile) -> io::Result<()> {
    let charge = shelf.catalogue().slab_charge(known.at);
    if file::allocated(slab)? <= charge {
        return Ok(());
    }
    let strays = shelf.catalogue().uncharged_blocks(known.at);
    strays.iter().try_for_each(|blocks| file::punch(slab, blocks))
}
