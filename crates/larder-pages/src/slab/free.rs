// SPDX-License-Identifier: Apache-2.0
//! How slots are given back on disk, a step at a time: the entry is cleared, blocks in which
//! nothing lies are punched, a slab in which nothing lies is unlinked.
//!
//! Between two steps the catalogue's lock is let go; the slots are nobody else's meanwhile.

use std::{fs::File, io, sync::Arc};

use larder_core::ContentId;

use super::{
    file,
    resident::{Freeing, Held, SlabFile, Step},
    shelves::Number,
};
use crate::{
    evict::LaneIndex,
    shelf::{Shelf, Trouble},
};

impl Shelf {
    /// Frees slots, with what comes free by that.
    pub(crate) fn free_slots(&self, freeing: Freeing) {
        let mut next = Some(freeing);
        while let Some(freeing) = next {
            let directory = freeing.file.directory;
            // A directory that comes back is read anew; until then its disk is left alone.
            let healthy = self.catalogue().lane(directory).fault.is_none();
            if healthy && let Err(error) = self.step(&freeing) {
                // What can't be freed is counted again when the directory comes back.
                self.fault(directory, &error);
            }
            next = self.catalogue().settle(freeing);
        }
    }

    /// The same while a directory is read anew, whose disk counts as failed until that is done.
    pub(super) fn free_slots_of_load(&self, freeing: Freeing) -> io::Result<()> {
        let mut outcome = Ok(());
        let mut next = Some(freeing);
        while let Some(freeing) = next {
            outcome = outcome.and_then(|()| self.step(&freeing));
            next = self.catalogue().settle(freeing);
        }
        outcome
    }

    fn step(&self, freeing: &Freeing) -> io::Result<()> {
        let SlabFile { directory, name, incarnation, .. } = freeing.file;
        let root = self.root(directory);
        if let Step::Unlink = freeing.step {
            self.descriptors.remove(&incarnation);
            return file::unlink(root, name);
        }
        let slab = match file::open_for_writing(root, name) {
            // Where no file is, nothing has to be freed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        match &freeing.step {
            Step::Clear(slots) => match file::clear_entries(&slab, slots) {
                // Nothing was ever written where a full file system has no block.
                Err(error) if Trouble::of(&error) == Trouble::Full => Ok(()),
                cleared => cleared,
            },
            Step::Punch(blocks) => file::punch(&slab, blocks),
            Step::Unlink => Ok(()),
        }
    }

    /// Evicts a small file so that others than its own class have room.
    pub(crate) fn evict_small(&self, number: Number) {
        let gone = self.catalogue().evict_small(number);
        let Some((freeing, evicted)) = gone else { return };
        self.metrics.pages_evicted.inc_by(evicted);
        fail::fail_point!("pages::evict");
        self.free_slots(freeing);
    }

    /// Evicts a small file, or drops it, alone: its class has too much.
    pub(crate) fn free_alone(&self, freeing: Freeing) {
        self.metrics.pages_evicted.inc();
        self.free_slots(freeing);
    }

    /// Drops a small file; returns the bytes that its slot has.
    pub(crate) fn remove_small(&self, content: ContentId) -> u64 {
        let Some(freeing) = self.catalogue().remove_small(content) else { return 0 };
        let bytes = freeing.file.header.class.slot_bytes();
        self.free_slots(freeing);
        bytes
    }

    /// Frees the slots of removed files whose last reader is done.
    pub(crate) fn sweep_slots(&self) {
        loop {
            let Some(freeing) = self.catalogue().next_vacated() else { return };
            self.free_slots(freeing);
        }
    }

    /// Drops a slab with all that lies there; its blocks are free when its last reader is done.
    pub(crate) fn drop_slab(&self, at: u32) -> bool {
        let Some(freeing) = self.catalogue().leave_slab(at) else { return false };
        self.descriptors.remove(&freeing.file.incarnation);
        self.free_slots(freeing);
        true
    }

    /// A slab's file is not there any more.
    pub(crate) fn drop_lost_slab(&self, file: &SlabFile) {
        if self.catalogue().is_slab_current(file) {
            tracing::warn!(slab = file.name, "a slab is lost; its small files are misses");
            self.drop_slab(file.at);
        }
    }

    /// Drops some slab of a directory; `false` when there is none.
    pub(crate) fn drop_some_slab(&self, directory: LaneIndex) -> bool {
        let next = self.catalogue().smalls.next_of(directory, 0);
        next.is_some_and(|at| self.drop_slab(at))
    }

    /// An open descriptor of the slab that a held file lies in.
    pub(super) fn slab_descriptor(&self, held: &Held) -> io::Result<Arc<File>> {
        let SlabFile { directory, name, incarnation, .. } = held.file;
        if let Some(file) = self.descriptors.get(&incarnation) {
            return Ok(file);
        }
        let file = Arc::new(file::open_for_reading(self.root(directory), name)?);
        self.descriptors.insert(incarnation, Arc::clone(&file));
        // As with backing files: whoever takes the slab out closes its descriptor afterwards.
        if !self.catalogue().is_slab_current(&held.file) {
            self.descriptors.remove(&incarnation);
        }
        Ok(file)
    }

    /// A reader met a small file that can't be opened: a slab that is lost goes.
    pub(crate) fn check_small(&self, content: ContentId) {
        let file = {
            let catalogue = self.catalogue();
            catalogue.small(content).map(|found| catalogue.slab_file(found.number.slab()))
        };
        let Some(file) = file else { return };
        match file::open_for_reading(self.root(file.directory), file.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.drop_lost_slab(&file),
            Err(error) if Trouble::of(&error) == Trouble::Broken => {
                self.fault(file.directory, &error);
            }
            _ => {}
        }
    }
}
