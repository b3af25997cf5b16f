// SPDX-License-Identifier: Apache-2.0
//! Small files: each lies whole in a slot of a slab, a large sparse file of one size class.
//!
//! `class`, `slots`, `entry`, `names` and `shelves` are pure; `resident` and `restore` are what
//! the catalogue does with small files; `file` is what lies on disk, `free` how slots are given
//! back there, `load` how they are found again and `scrub` how they are looked after. Fills are in
//! [`crate::fill`]. See ADR 19.

mod bits;
mod class;
mod classed;
mod entry;
mod file;
mod free;
mod load;
mod lost;
mod names;
mod read;
mod resident;
mod restore;
mod scrub;
mod shelves;
mod slots;

pub(crate) use class::{Class, ENTRY_BYTES};
pub(crate) use entry::{Entry, Header, Stamp};
pub(crate) use file::{create, open_for_writing, unlink, write_entries};
pub(crate) use load::{forget, load, load_lane};
pub(crate) use read::{get, is_here, verify};
pub(crate) use resident::{Entered, SlabFile, SlabRoom, Taken};
pub(crate) use scrub::{SmallPlace, Visit};
pub(crate) use shelves::{Number, Shelves};

/// Whether a content of this length goes to a slab.
pub(crate) fn is_small(length: u64) -> bool {
    Class::of(length).is_some()
}

/// What a file of `length` bytes takes in a slab; `None` where it is kept in another way.
pub(crate) fn slot_bytes(length: u64) -> Option<u64> {
    Class::of(length).map(Class::slot_bytes)
}
