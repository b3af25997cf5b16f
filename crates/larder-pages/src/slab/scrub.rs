// SPDX-License-Identifier: Apache-2.0
//! Slabs for the scrubber: what lies in one, read from the medium many files at a time.

use std::{io, ops::Range};

use larder_core::{ContentId, crc32c};

use super::{file, resident::SlabFile};
use crate::{backing, catalogue::Catalogue, evict::LaneIndex, page_set::BLOCK, shelf::Shelf};

/// Files are read together unless more than so many bytes lie between them.
const GAP_MAX: u64 = 64 << 10;

/// A small file as it lay in a slab a moment ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallPlace {
    pub(crate) content: ContentId,
    pub(crate) length: u64,
    checksum: u32,
    /// Where it starts in the slab.
    offset: u64,
}

/// A slab that is looked through: until dropped it is not forgotten, also when it leaves.
pub(crate) struct Visit<'a> {
    shelf: &'a Shelf,
    pub(crate) file: SlabFile,
    pub(crate) files: Vec<SmallPlace>,
}

impl Catalogue {
    fn begin_visit(
        &mut self,
        directory: LaneIndex,
        from: u32,
    ) -> Option<(SlabFile, Vec<SmallPlace>)> {
        let at = self.smalls.next_of(directory, from)?;
        let slab = self.smalls.slab_mut(at);
        slab.busy += 1;
        let class = slab.class();
        let listed = (0..).zip(&slab.files).filter(|(_, small)| small.is_listed());
        let places = listed.map(|(slot, small)| {
            let entry = small.entry();
            let (content, length) = (entry.content, u64::from(entry.length));
            let offset = class.slot_offset(slot);
            SmallPlace { content, length, checksum: entry.checksum, offset }
        });
        let places = places.collect();
        Some((self.slab_file(at), places))
    }
}

impl<'a> Visit<'a> {
    /// The first slab of a directory at or behind `from`.
    pub(crate) fn begin(shelf: &'a Shelf, directory: LaneIndex, from: u32) -> Option<Self> {
        let (file, files) = shelf.catalogue().begin_visit(directory, from)?;
        Some(Self { shelf, file, files })
    }

    /// The files as runs that are read at once, each at most `bytes` long.
    pub(crate) fn runs(&self, bytes: u64) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (nth, place) in self.files.iter().enumerate() {
            let end = place.offset + place.length;
            let joins = runs.last().is_some_and(|run| {
                let (first, last) = (&self.files[run.start], &self.files[run.end - 1]);
                end.next_multiple_of(BLOCK) - first.offset / BLOCK * BLOCK <= bytes
                    && place.offset - (last.offset + last.length) <= GAP_MAX
            });
            match runs.last_mut().filter(|_| joins) {
                Some(run) => run.end = nth + 1,
                None => runs.push(nth..nth + 1),
            }
        }
        runs
    }

    /// Reads a run past the page cache; returns the bytes read, and the files that are not what
    /// they should be: also those that have just gone.
    pub(crate) fn read(
        &self,
        run: Range<usize>,
        buffer: &mut [u8],
    ) -> io::Result<(u64, Vec<SmallPlace>)> {
        let files = &self.files[run];
        let (Some(first), Some(last)) = (files.first(), files.last()) else {
            return Ok((0, Vec::new()));
        };
        let start = first.offset / BLOCK * BLOCK;
        let end = (last.offset + last.length).next_multiple_of(BLOCK);
        let path = file::path(self.shelf.root(self.file.directory), self.file.name);
        let got = backing::read_medium(&path, start, &mut buffer[..(end - start) as usize])?;
        let is_bad = |place: &&SmallPlace| {
            let at = (place.offset - start) as usize;
            let bytes = buffer[..got].get(at..at + place.length as usize);
            bytes.map(crc32c) != Some(place.checksum)
        };
        Ok((got as u64, files.iter().filter(is_bad).copied().collect()))
    }

    /// Lets the page cache forget a file.
    pub(crate) fn forget_cached(&self, place: &SmallPlace) {
        let path = file::path(self.shelf.root(self.file.directory), self.file.name);
        let range = place.offset..place.offset + place.length;
        backing::forget_cached(&path, std::slice::from_ref(&range));
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.shelf.catalogue().work_done(self.file.at);
    }
}
