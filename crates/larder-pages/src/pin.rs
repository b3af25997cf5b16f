// SPDX-License-Identifier: Apache-2.0
//! What keeps a segment or a small file in its place while it is read, and what tells a reader who
//! pins nothing that it left.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use larder_core::{ContentId, Validity, page::EXTENT_PAGES};

use crate::{
    IndexKey,
    catalogue::{Catalogue, hash},
    class::ClassNumber,
    evict::Slot,
    fill::Queue,
    lookup::Purpose,
    segment::Pinned,
    shelf::{Shelf, lock},
    slab::Number,
};

/// Keeps a segment or a small file from eviction until dropped.
pub(crate) struct Pin {
    catalogue: Arc<Mutex<Catalogue>>,
    queue: Arc<Queue>,
    slot: Slot,
}

impl Pin {
    /// Takes over a pin that the catalogue gave.
    pub(crate) fn new(shelf: &Shelf, slot: Slot) -> Self {
        Self { catalogue: Arc::clone(&shelf.catalogue), queue: Arc::clone(&shelf.queue), slot }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let waits = lock(&self.catalogue).unpin(self.slot);
        if waits {
            self.queue.sweep();
        }
    }
}

impl Catalogue {
    /// Pins a segment if it has any page of `wanted`, and notes that it was read if it is. The
    /// pages are those of whole extents: who reads here is likely to read beside it next.
    pub(crate) fn pin(
        &mut self,
        key: IndexKey,
        wanted: Range<u32>,
        purpose: Purpose,
    ) -> Option<Pinned> {
        let slot = self.slot_of(key)?;
        if self.segments[slot as usize].pages.within(wanted.clone()).is_empty() {
            return None;
        }
        let start = wanted.start / EXTENT_PAGES * EXTENT_PAGES;
        let pinned = self.hold(key, start..wanted.end.next_multiple_of(EXTENT_PAGES))?;
        if purpose == Purpose::Read {
            self.reads += 1;
            let lane = self.lane_of(pinned.slot.0);
            self.policy.touch(pinned.slot, lane, || hash(key));
        }
        Some(pinned)
    }

    /// Pins a segment if it has any page of `wanted`, for who looks after it rather than reads it.
    pub(crate) fn hold(&mut self, key: IndexKey, wanted: Range<u32>) -> Option<Pinned> {
        let slot = self.slot_of(key)?;
        let segment = &mut self.segments[slot as usize];
        let pages = segment.pages.within(wanted);
        if pages.is_empty() {
            return None;
        }
        segment.pins += 1;
        let directory = self.residents[segment.resident as usize].directory;
        Some(Pinned { slot: Slot(slot), directory, pages })
    }

    /// Undoes one pin; `true` when a small file's slot waits to be freed since.
    pub(crate) fn unpin(&mut self, slot: Slot) -> bool {
        if let Some(number) = slot.as_small() {
            return self.let_go_small(Number(number));
        }
        let segment = &mut self.segments[slot.0 as usize];
        segment.pins -= 1;
        let resident = segment.resident;
        let is_leaving = segment.pins == 0 && !self.is_listed(slot.0);
        if is_leaving {
            self.segments_free.push(slot.0);
            self.wait_less(resident);
        }
        false
    }

    /// How a reader of the content who let go of its pin can tell whether it still lies there.
    /// `None` where time alone makes it a miss, and once the store closes.
    pub(crate) fn validity(&self, content: ContentId, class: ClassNumber) -> Option<Validity> {
        let lasts = self.classes.rule(class).ttl.is_none() && !self.closing;
        lasts.then(|| self.generations.present(content.0 as u64))
    }

    /// Something of the content is about to leave its place.
    pub(crate) fn outdate(&self, content: ContentId) {
        self.generations.end(content.0 as u64);
    }
}
