// SPDX-License-Identifier: Apache-2.0
//! What the catalogue does with small files: find, hold, enter, let go. Each takes the slot it
//! lies in, and a place in the same queues as the segments; no I/O.
//!
//! A slot goes through these hands: a fill takes it, writes the bytes and then the entry, and
//! lists the file; readers hold it; whoever takes the file out clears the entry and only then
//! gives the slot back. Somebody has it at each moment, so no two write there at once.

use std::ops::Range;

use larder_core::ContentId;

use super::{
    class::Class,
    entry::{Entry, Header},
    shelves::{BLOCK_CHARGE, EMPTY_CHARGE, NewSlab, Number},
};
use crate::{
    Class as ClassName,
    catalogue::{Catalogue, Incarnation},
    evict::{LaneIndex, Slot},
    lookup::Purpose,
};

/// A small file, in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallFound {
    pub(crate) number: Number,
    pub(crate) directory: LaneIndex,
    pub(crate) length: u64,
}

/// A slab, as who does its I/O knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabFile {
    pub(crate) at: u32,
    pub(crate) directory: LaneIndex,
    pub(crate) name: u64,
    pub(crate) header: Header,
    pub(crate) incarnation: Incarnation,
}

/// A small file that is held; the caller owes one [`Catalogue::unpin`] of its slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) slot: Slot,
    pub(crate) entry: Entry,
    pub(crate) file: SlabFile,
    /// Where it starts in the slab.
    pub(crate) offset: u64,
}

/// A slot for a new small file, or what is in the way.
#[derive(Debug)]
pub(crate) enum Taken {
    Slot(Number),
    /// No slab of the class has a free slot.
    NoSlab,
    /// So many bytes must be made free first.
    NoRoom(u64),
}

/// What became of a file that was to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    Listed,
    /// The content is here already.
    Twin,
    /// Its slab is gone.
    Gone,
}

/// Slots on their way back, and what has to be done on disk next. The slots are nobody else's
/// until [`Catalogue::settle`].
#[derive(Debug)]
pub(crate) struct Freeing {
    pub(crate) file: SlabFile,
    pub(super) slots: Range<u32>,
    pub(crate) step: Step,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The entries of these slots name nothing any more.
    Clear(Range<u32>),
    /// These blocks take no room any more.
    Punch(Range<u32>),
    /// The slab goes.
    Unlink,
}

/// Why a file is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Evicted,
    Removed,
}

impl Catalogue {
    /// The small file with this content, wherever it lies, even on a faulty directory.
    pub(crate) fn small(&self, content: ContentId) -> Option<SmallFound> {
        let number = self.smalls.find(content)?;
        let length = u64::from(self.smalls.small(number).entry().length);
        let directory = self.smalls.slab(number.slab()).directory;
        Some(SmallFound { number, directory, length })
    }

    /// The small file with this content, if it can be read, has this length and its time is not
    /// over.
    pub(crate) fn small_readable(&self, content: ContentId, length: u64) -> Option<SmallFound> {
        let found = self.small(content)?;
        let healthy = self.lanes[found.directory.0 as usize].fault.is_none();
        (healthy && found.length == length && !self.is_small_expired(&found)).then_some(found)
    }

    /// Holds a small file if it can be read and has this length, and notes that it was read if it
    /// is.
    pub(crate) fn hold_small(
        &mut self,
        content: ContentId,
        length: u64,
        purpose: Purpose,
    ) -> Option<Held> {
        let SmallFound { number, .. } = self.small_readable(content, length)?;
        let small = self.smalls.small_mut(number);
        if !small.hold() {
            return None;
        }
        let entry = small.entry();
        self.smalls.slab_mut(number.slab()).busy += 1;
        let slot = Slot::small(number.0);
        if purpose == Purpose::Read {
            self.reads += 1;
            let lane = self.small_lane(number);
            self.policy.touch(slot, lane, || hash(content));
        }
        let file = self.slab_file(number.slab());
        Some(Held { slot, entry, file, offset: file.header.class.slot_offset(number.slot()) })
    }

    /// Undoes one hold; `true` when a slot waits to be freed since.
    pub(crate) fn let_go_small(&mut self, number: Number) -> bool {
        let small = self.smalls.small_mut(number);
        small.let_go();
        let is_last = !small.is_held() && small.is_waiting();
        self.work_done(number.slab());
        let waits = is_last && self.smalls.get(number.slab()).is_some_and(|slab| !slab.leaving);
        if waits {
            self.smalls.vacated.push(number);
        }
        waits
    }

    /// The file of a slab.
    pub(crate) fn slab_file(&self, at: u32) -> SlabFile {
        let slab = self.smalls.slab(at);
        SlabFile {
            at,
            directory: slab.directory,
            name: slab.name,
            header: slab.header,
            incarnation: slab.incarnation,
        }
    }

    /// Whether this is still the slab of that number, and its file is there.
    pub(crate) fn is_slab_current(&self, file: &SlabFile) -> bool {
        self.smalls
            .get(file.at)
            .is_some_and(|slab| slab.incarnation == file.incarnation && !slab.leaving)
    }

    /// A free slot of the class, if there is one and the quota allows what it costs.
    pub(crate) fn take_slot(&mut self, directory: LaneIndex, class: Class) -> Taken {
        let Some((number, cost)) = self.smalls.find_free(directory, class) else {
            return Taken::NoSlab;
        };
        if cost > 0 && !self.try_take(directory, cost) {
            return Taken::NoRoom(cost);
        }
        self.smalls.take(number);
        self.smalls.slab_mut(number.slab()).busy += 1;
        Taken::Slot(number)
    }

    /// A name for a new slab whose first slot the caller will get, with the room for it.
    pub(crate) fn begin_slab(&mut self, directory: LaneIndex, header: Header) -> SlabRoom {
        let cost = new_slab_cost(header.class);
        if !self.try_take(directory, cost) {
            return SlabRoom::NoRoom(cost);
        }
        let name = self.smalls.name(directory);
        let incarnation = self.next_incarnation();
        SlabRoom::New(NewSlab { directory, name, header, incarnation })
    }

    /// A new slab is there, or could not be made. Returns its first slot.
    pub(crate) fn finish_slab(&mut self, new: NewSlab, made: bool) -> Option<Number> {
        let cost = new_slab_cost(new.header.class);
        let at = if made { self.smalls.add(new) } else { None };
        let Some(at) = at else {
            self.give_back(new.directory, cost);
            return None;
        };
        let number = Number::new(at, 0);
        let taken = EMPTY_CHARGE + self.smalls.take(number);
        self.smalls.slab_mut(at).busy += 1;
        self.give_back(new.directory, cost - taken);
        Some(number)
    }

    /// Lists a small file whose bytes and entry are written. Unless it is listed, the caller
    /// still owes the slot.
    pub(crate) fn enter_small(
        &mut self,
        number: Number,
        entry: Entry,
        class: ClassName,
    ) -> Entered {
        let slab = self.smalls.slab(number.slab());
        if slab.leaving {
            return Entered::Gone;
        }
        if self.small(entry.content).is_some() || self.find(entry.content).is_some() {
            return Entered::Twin;
        }
        let directory = slab.directory;
        self.smalls.note(number, entry);
        self.smalls.list(number);
        let class = (self.classes.number(class), entry.origin.admitted);
        let admission = self.small_joins(number, entry.content, class);
        self.policy.admit(Slot::small(number.0), admission);
        self.lane(directory).small_files += 1;
        self.work_done(number.slab());
        Entered::Listed
    }

    /// Takes a small file out. The caller frees its slot.
    pub(crate) fn remove_small(&mut self, content: ContentId) -> Option<Freeing> {
        let number = self.smalls.find(content)?;
        self.unlist_small(number, Leave::Removed);
        Some(self.begin_freeing(number))
    }

    /// The slot of a small file that is to be evicted passes on to the caller.
    pub(crate) fn reuse_small(&mut self, number: Number) {
        self.unlist_small(number, Leave::Evicted);
        self.smalls.slab_mut(number.slab()).busy += 1;
    }

    /// Takes out a small file that is to be evicted so that others have room, with those of its
    /// class that share the block with it: else no block would come free. Returns how many went;
    /// `None` when it is held, or gone already.
    pub(crate) fn evict_small(&mut self, number: Number) -> Option<(Freeing, u64)> {
        let slab = self.smalls.get(number.slab())?;
        let small = slab.files.get(number.slot() as usize)?;
        if !small.is_listed() || small.is_held() {
            return None;
        }
        let mut slots = slab.class().least_shared(number.slot());
        let class = self.smalls.class_of(number).0;
        let may_go = |slot: u32| {
            let small = &slab.files[slot as usize];
            let is_alike = self.smalls.class_of(Number::new(number.slab(), slot)).0 == class;
            slab.slots.is_free(slot) || (small.is_listed() && !small.is_held() && is_alike)
        };
        if !slots.clone().all(may_go) {
            slots = number.slot()..number.slot() + 1;
        }
        let mut evicted = 0;
        for slot in slots.clone() {
            let number = Number::new(number.slab(), slot);
            if self.smalls.small(number).is_listed() {
                self.unlist_small(number, Leave::Evicted);
                evicted += 1;
            }
        }
        self.smalls.change(number.slab(), |all| all.withhold(slots.clone()));
        self.smalls.slab_mut(number.slab()).busy += 1;
        let file = self.slab_file(number.slab());
        Some((Freeing { file, step: Step::Clear(slots.clone()), slots }, evicted))
    }

    /// A slot that the caller has goes back.
    pub(crate) fn give_slot_back(&self, number: Number) -> Freeing {
        let slots = number.slot()..number.slot() + 1;
        let file = self.slab_file(number.slab());
        Freeing { file, step: Step::Clear(slots.clone()), slots }
    }

    /// What was to be done on disk is done. Returns what is next.
    pub(crate) fn settle(&mut self, freeing: Freeing) -> Option<Freeing> {
        let Freeing { file, slots, step } = freeing;
        let at = file.at;
        if self.smalls.slab(at).leaving {
            self.work_done(at);
            return None;
        }
        match &step {
            Step::Clear(_) => {
                let number = Number::new(at, slots.start);
                let small = self.smalls.small_mut(number);
                if slots.len() == 1 && small.is_held() {
                    // Its last reader gives the slot back.
                    small.wait_for_readers();
                    self.work_done(at);
                    return None;
                }
            }
            Step::Punch(blocks) => {
                let bytes = self.smalls.uncharge(at, blocks.clone());
                self.give_back(file.directory, bytes);
            }
            Step::Unlink => {}
        }
        self.smalls.vacate(at, slots.clone());
        let slab = self.smalls.slab(at);
        if slab.slots.is_empty() {
            self.smalls.leave(at);
            return Some(Freeing { file, slots, step: Step::Unlink });
        }
        let Some(idle) = slab.slots.idle_blocks(&slots) else {
            self.work_done(at);
            return None;
        };
        let slots = slab.class().slots_in(&idle);
        self.smalls.change(at, |all| all.withhold(slots.clone()));
        Some(Freeing { file, slots, step: Step::Punch(idle) })
    }

    /// A slot whose last reader is done.
    pub(crate) fn next_vacated(&mut self) -> Option<Freeing> {
        while let Some(number) = self.smalls.vacated.pop() {
            let slab = self.smalls.get(number.slab()).filter(|slab| !slab.leaving);
            let small = slab.and_then(|slab| slab.files.get(number.slot() as usize));
            if small.is_some_and(|small| small.is_waiting() && !small.is_held()) {
                self.smalls.small_mut(number).stop_waiting();
                return Some(self.begin_freeing(number));
            }
        }
        None
    }

    /// Takes out all files of a slab. The caller unlinks it, unless its disk failed, and settles
    /// what this returns.
    pub(crate) fn leave_slab(&mut self, at: u32) -> Option<Freeing> {
        if self.smalls.get(at).is_none_or(|slab| slab.leaving) {
            return None;
        }
        let slots = self.smalls.slab(at).class().slots();
        for slot in 0..slots {
            let number = Number::new(at, slot);
            if self.smalls.small(number).is_listed() {
                self.unlist_small(number, Leave::Removed);
            }
        }
        self.smalls.leave(at);
        self.smalls.slab_mut(at).busy += 1;
        Some(Freeing { file: self.slab_file(at), slots: 0..0, step: Step::Unlink })
    }

    pub(super) fn begin_freeing(&mut self, number: Number) -> Freeing {
        self.smalls.slab_mut(number.slab()).busy += 1;
        self.give_slot_back(number)
    }

    pub(super) fn unlist_small(&mut self, number: Number, why: Leave) {
        let content = self.smalls.small(number).entry().content;
        self.outdate(content);
        let directory = self.smalls.slab(number.slab()).directory;
        let (slot, lane) = (Slot::small(number.0), self.small_lane(number));
        match why {
            Leave::Evicted => self.policy.evicted(slot, lane, hash(content)),
            Leave::Removed => self.policy.forget(slot, lane),
        }
        self.small_leaves(number);
        self.smalls.unlist(number);
        self.lane(directory).small_files -= 1;
    }

    /// Somebody is done with a slab; the last one forgets a slab that left.
    pub(super) fn work_done(&mut self, at: u32) {
        let slab = self.smalls.slab_mut(at);
        slab.busy -= 1;
        if slab.leaving && slab.busy == 0 {
            let directory = slab.directory;
            let bytes = self.smalls.forget(at);
            self.policy.drop_group(at);
            self.give_back(directory, bytes);
        }
    }
}

/// A slab to make, or what is in the way.
#[derive(Debug)]
pub(crate) enum SlabRoom {
    New(NewSlab),
    NoRoom(u64),
}

/// What a slab costs with one file in it.
fn new_slab_cost(class: Class) -> u64 {
    EMPTY_CHARGE + class.blocks_of(0).len() as u64 * BLOCK_CHARGE
}

/// Names are hashes already.
pub(super) fn hash(content: ContentId) -> u64 {
    (content.0 >> 64) as u64 ^ content.0 as u64
}
