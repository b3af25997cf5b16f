// SPDX-License-Identifier: Apache-2.0
//! Which directories take part, and how that changes while the store is open: one is added, one
//! is drained until nothing lies there, one that was drained or out of service comes back.
//!
//! A directory keeps its place for the life of the process, so the number that the catalogue
//! knows it by never means another one. Changes are made one at a time; what they start (a drain,
//! a comparison of files with records) runs on a thread of its own and stops with the store.
//!
//! A drain drops pages rather than moving them: everything here can be fetched again, and a rate
//! keeps the misses from coming all at once. That a directory is drained is written in the
//! directory itself, so it holds after a restart and goes with the disk.

use std::{
    ops::Index,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use larder_core::{Error, Random, Result};

use crate::{
    DirectoryOptions, Standing,
    catalogue::Catalogue,
    disk::{Directory, Opened, State},
    evict::LaneIndex,
    lane::Lane,
    open,
    quota::Quota,
    recover, scrubber,
    shelf::{Shelf, lock},
    slab,
};

/// Directories that a store may ever have.
pub(crate) const DIRECTORIES_MAX: usize = 64;
/// A drain drops at most so many bytes …
const DRAIN_STEP: u64 = 32 << 20;
/// … and so many segments in a step …
const DRAIN_STEP_SEGMENTS: u32 = 1024;
/// … and rests so long between two: 256 MiB a second.
const DRAIN_REST: Duration = Duration::from_millis(125);

/// The directories, each at its place for ever.
#[derive(Debug)]
pub(crate) struct Roster {
    places: Box<[OnceLock<Directory>]>,
    changing: Mutex<()>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        let places = std::iter::repeat_with(OnceLock::new).take(DIRECTORIES_MAX);
        Self { places: places.collect(), changing: Mutex::default() }
    }

    /// Puts a directory at the next place, if there is one.
    pub(crate) fn push(&self, directory: Directory) -> Option<LaneIndex> {
        let at = self.count();
        let place = self.places.get(usize::from(at))?;
        place.set(directory).ok()?;
        Some(LaneIndex(at))
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.iter().count()).expect("there are few places")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Directory> {
        self.places.iter().map_while(OnceLock::get)
    }

    /// Lets other processes have the directories.
    pub(crate) fn unlock(&self) {
        self.iter().for_each(Directory::unlock);
    }

    fn find(&self, path: &Path) -> Option<LaneIndex> {
        let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let asked = full(path);
        let at = self.iter().position(|directory| full(&directory.path) == asked)?;
        u16::try_from(at).ok().map(LaneIndex)
    }

    /// One change at a time.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        lock(&self.changing)
    }
}

impl Index<usize> for Roster {
    type Output = Directory;

    fn index(&self, at: usize) -> &Directory {
        self.places[at].get().expect("a lane has its directory before anybody knows its number")
    }
}

/// Takes one more directory into service.
pub(crate) fn add(shelf: &Arc<Shelf>, options: &DirectoryOptions) -> Result<()> {
    let _change = shelf.directories.change();
    let shown = options.path.display();
    if shelf.directories.find(&options.path).is_some() {
        return Err(Error::already_exists(format!(
            "cache directory {shown} is known already; `larder cache resume` takes it back into \
             service"
        )));
    }
    if usize::from(shelf.directories.count()) == DIRECTORIES_MAX {
        return Err(Error::exhausted(format!(
            "a page store has at most {DIRECTORIES_MAX} cache directories between two starts"
        )));
    }
    let directory = Directory::new(options);
    let opened = directory.open(&Random::new())?;
    let unrecorded = vouch(shelf, &directory, opened)?;
    // The lane first: whoever counts directories finds the lane of each.
    let new = Lane::new(Quota::new(opened.capacity, unrecorded));
    shelf.catalogue().add_lane(Lane { standing: Standing::Drained, ..new });
    let lane = shelf.directories.push(directory).expect("there was a place a moment ago");
    if let Err(error) = slab::load_lane(shelf, lane) {
        shelf.fault(lane, &error);
    }
    shelf.catalogue().lane(lane).standing = Standing::Serving;
    tracing::info!(directory = %shown, "a cache directory joins");
    scrubber::spawn(shelf, lane)?;
    compare_behind(shelf, lane)
}

/// Lets a directory take nothing new and drops what lies there, behind and at a bounded rate.
pub(crate) fn drain(shelf: &Arc<Shelf>, path: &Path) -> Result<()> {
    let _change = shelf.directories.change();
    let lane = known(shelf, path)?;
    let directory = &shelf.directories[usize::from(lane.0)];
    let fault = {
        let mut catalogue = shelf.catalogue();
        let state = catalogue.lane(lane);
        if state.standing != Standing::Serving {
            return Ok(());
        }
        state.standing = Standing::Draining;
        state.fault.is_some()
    };
    tracing::info!(directory = %path.display(), "a cache directory is being drained");
    recover::unmark(shelf, lane);
    match directory.mark(State::Drained) {
        Ok(()) => {}
        Err(error) if fault => tracing::warn!(%error, "could not note that it is drained"),
        Err(error) => {
            shelf.catalogue().lane(lane).standing = Standing::Serving;
            return Err(error);
        }
    }
    open::spawn(shelf, "larder-drain", move |shelf| empty(shelf, lane))
}

/// Takes a directory back into service: one that was drained, one whose disk failed, one whose
/// file system was full. Its files are compared with the records behind; readers are served at
/// once, for every page is checked.
pub(crate) fn resume(shelf: &Arc<Shelf>, path: &Path) -> Result<()> {
    let _change = shelf.directories.change();
    let lane = known(shelf, path)?;
    let directory = &shelf.directories[usize::from(lane.0)];
    let (comparing, faulty, standing) = {
        let mut catalogue = shelf.catalogue();
        let state = catalogue.lane(lane);
        (state.comparing, state.fault.is_some(), state.standing)
    };
    if comparing {
        return Err(Error::unavailable(format!(
            "the files of {} are still being compared with their records; try again later",
            path.display()
        )));
    }
    let before = directory.id();
    let opened = directory.open(&Random::new());
    let opened = opened.inspect_err(|error| shelf.fault(lane, error))?;
    if faulty && opened.id != before {
        forget_all(shelf, lane);
    }
    let unrecorded = vouch(shelf, directory, opened)?;
    if faulty || standing == Standing::Drained {
        reload_slabs(shelf, lane)?;
    }
    {
        let mut catalogue = shelf.catalogue();
        let state = catalogue.lane(lane);
        state.quota.reopen(opened.capacity, unrecorded);
        state.fault = None;
        state.standing = Standing::Serving;
    }
    tracing::info!(directory = %path.display(), "a cache directory is back in service");
    compare_behind(shelf, lane)
}

/// Reads the slabs anew of a directory that takes nothing yet: what its disk holds now counts.
fn reload_slabs(shelf: &Shelf, lane: LaneIndex) -> Result<()> {
    // A fill that began before the disk failed may be about to make a slab.
    let _making = lock(&shelf.directories[usize::from(lane.0)].making);
    slab::forget(shelf, lane);
    slab::load_lane(shelf, lane).map_err(|error| {
        let path = shelf.root(lane).display();
        Error::unavailable(format!("the small files of {path} cannot be read")).with_source(error)
    })
}

/// Compares files with records on a thread behind, where that is due. It counts as begun when
/// this returns.
fn compare_behind(shelf: &Arc<Shelf>, lane: LaneIndex) -> Result<()> {
    if !shelf.catalogue().lane(lane).claim_comparison() {
        return Ok(());
    }
    let work = move |shelf: &Shelf| recover::compare_claimed(shelf, lane);
    open::spawn(shelf, "larder-compare", work)
        .inspect_err(|_| shelf.catalogue().lane(lane).comparing = false)
}

fn known(shelf: &Shelf, path: &Path) -> Result<LaneIndex> {
    shelf.directories.find(path).ok_or_else(|| {
        let known = shelf.directories.iter().map(|known| known.path.display().to_string());
        let known: Vec<String> = known.collect();
        Error::not_found(format!(
            "{} is no cache directory here; known: {}",
            path.display(),
            known.join(", ")
        ))
    })
}

/// From now on the index vouches for the directory. Returns how many bytes may lie there that it
/// does not know of: all it can hold, unless it is new.
fn vouch(shelf: &Shelf, directory: &Directory, opened: Opened) -> Result<u64> {
    shelf.index.remove(&recover::mark_of(opened.id))?;
    recover::unrecorded_at_start(directory, &*shelf.index, shelf.unflushed.limit())
}

/// Drops what lies in a directory, a step at a time, and then lets go of it. A directory whose
/// disk failed is let go of at once.
fn empty(shelf: &Shelf, lane: LaneIndex) {
    loop {
        let Some(left) = left_to_drain(shelf, lane) else { return };
        if left == Left::Nothing {
            return let_go(shelf, lane);
        }
        if left == Left::OnBrokenDisk {
            let _change = shelf.directories.change();
            // It may have been taken back meanwhile.
            if left_to_drain(shelf, lane) == Some(Left::OnBrokenDisk) {
                forget_all(shelf, lane);
            }
        } else {
            drop_some(shelf, lane);
        }
        if shelf.queue.rest(DRAIN_REST) {
            return;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
    OnBrokenDisk,
}

/// `None` when the directory is not to be drained any more.
fn left_to_drain(shelf: &Shelf, lane: LaneIndex) -> Option<Left> {
    let mut catalogue = shelf.catalogue();
    let state = catalogue.lane(lane);
    if state.standing != Standing::Draining {
        return None;
    }
    // Bytes are taken before they are written and until the last reader is done, so nothing
    // taken means that nobody works there.
    let nothing = state.quota.used() == 0 && !state.comparing;
    Some(match (nothing, &state.fault) {
        (true, _) => Left::Nothing,
        (false, None) => Left::Something,
        (false, Some(_)) if state.segments + state.small_files == 0 => Left::Something,
        (false, Some(_)) => Left::OnBrokenDisk,
    })
}

fn drop_some(shelf: &Shelf, lane: LaneIndex) {
    let used = || shelf.catalogue().lane(lane).quota.used();
    let before = used();
    for _ in 0..DRAIN_STEP_SEGMENTS {
        let draining = shelf.catalogue().lane(lane).standing == Standing::Draining;
        let enough = before.saturating_sub(used()) >= DRAIN_STEP;
        if !draining || enough {
            return;
        }
        if !shelf.drop_some_slab(lane) && !shelf.evict_one(lane, None) {
            return;
        }
    }
}

/// Forgets every content of a directory without touching the disk.
fn forget_all(shelf: &Shelf, lane: LaneIndex) {
    slab::forget(shelf, lane);
    recover::each_content(shelf, lane, &mut |content| {
        let _stripe = shelf.stripe(content);
        let here = |catalogue: &Catalogue| {
            catalogue.find(content).is_some_and(|found| found.directory == lane)
        };
        if here(&shelf.catalogue()) {
            shelf.forget_content(content);
        }
        Ok(())
    })
    .unwrap_or_else(|error| tracing::debug!(%error, "stopped forgetting"));
}

fn let_go(shelf: &Shelf, lane: LaneIndex) {
    let _change = shelf.directories.change();
    // It may have been taken back, and drained again, meanwhile.
    if left_to_drain(shelf, lane) != Some(Left::Nothing) {
        return;
    }
    let directory = &shelf.directories[usize::from(lane.0)];
    directory.release();
    {
        let mut catalogue = shelf.catalogue();
        let state = catalogue.lane(lane);
        state.standing = Standing::Drained;
        state.fault = None;
    }
    let path = directory.path.display();
    tracing::info!(directory = %path, "a cache directory is drained and can be taken away");
}
