// SPDX-License-Identifier: Apache-2.0
//! Slabs as they are found at a start, on their way into the catalogue; no I/O.

use std::ops::Range;

use super::{
    entry::{Entry, Header},
    names::{Key, Names, Sorted},
    resident::{Freeing, Leave, SlabFile, Step},
    shelves::{EMPTY_CHARGE, NewSlab, Number},
};
use crate::{
    catalogue::Catalogue,
    evict::{LaneIndex, Slot},
};

/// A slab that was found on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundSlab {
    pub(crate) directory: LaneIndex,
    pub(crate) name: u64,
    pub(crate) header: Header,
}

impl Catalogue {
    /// Enters a slab that was found, with its files. `None` when the slab cannot be used.
    pub(crate) fn restore_slab(
        &mut self,
        found: FoundSlab,
        entries: &[(u32, Entry)],
    ) -> Option<SlabFile> {
        let FoundSlab { directory, name, header } = found;
        if self.smalls.is_leaving(directory, name) {
            return None;
        }
        let incarnation = self.next_incarnation();
        let at = self.smalls.add(NewSlab { directory, name, header, incarnation })?;
        self.smalls.slab_mut(at).busy += 1;
        let mut charged = EMPTY_CHARGE;
        for (slot, entry) in entries {
            let number = Number::new(at, *slot);
            charged += self.smalls.take(number);
            self.smalls.note(number, *entry);
            let class = self.classes.number_ending(entry.origin.class);
            let origin = (class, entry.origin.admitted);
            let admission = self.small_joins(number, entry.content, origin);
            self.policy.restore(Slot::small(number.0), admission);
        }
        self.count(directory, charged);
        self.lane(directory).small_files += entries.len() as u64;
        Some(self.slab_file(at))
    }

    /// How many files of a restored slab are to be found by their contents.
    pub(super) fn restored_files(&self, file: &SlabFile) -> usize {
        self.smalls.slab(file.at).files.iter().filter(|small| small.is_listed()).count()
    }

    /// Adds the contents of a restored slab to `sorted`.
    pub(super) fn sort_names(&self, file: &SlabFile, sorted: &mut Sorted) {
        for (slot, small) in (0..).zip(&self.smalls.slab(file.at).files) {
            if small.is_listed() {
                sorted.push(small.content(), Number::new(file.at, slot).0);
            }
        }
    }

    /// Lets restored files be found by their contents. One whose content is here already goes;
    /// the caller frees its slot.
    pub(super) fn list_restored(&mut self, files: &[(Key, u32)]) -> Vec<Freeing> {
        let mut twins = Vec::new();
        for (key, number) in files {
            let (content, number) = (Names::content(*key), Number(*number));
            let small = self.smalls.small(number);
            if !small.is_listed() || small.content() != *key {
                // Its class had too much, and it went since the names were sorted.
                continue;
            }
            if self.smalls.find(content).is_some() || self.find(content).is_some() {
                self.unlist_small(number, Leave::Removed);
                twins.push(self.begin_freeing(number));
            } else {
                self.smalls.list_as(*key, number);
            }
        }
        twins
    }

    /// Blocks of a slab that should take no room on disk.
    pub(crate) fn uncharged_blocks(&self, at: u32) -> Vec<Range<u32>> {
        let slots = &self.smalls.slab(at).slots;
        let mut blocks = Vec::new();
        let mut from = 0;
        while let Some(run) = slots.uncharged(from) {
            from = run.end;
            blocks.push(run);
        }
        blocks
    }

    /// What a slab is charged.
    pub(crate) fn slab_charge(&self, at: u32) -> u64 {
        self.smalls.slab(at).charge()
    }

    /// All entries of a slab are entered. One in which nothing lies goes.
    pub(crate) fn slab_is_restored(&mut self, file: SlabFile) -> Option<Freeing> {
        if self.smalls.slab(file.at).slots.is_empty() && !self.smalls.slab(file.at).leaving {
            self.smalls.leave(file.at);
            return Some(Freeing { file, slots: 0..0, step: Step::Unlink });
        }
        self.work_done(file.at);
        None
    }
}
