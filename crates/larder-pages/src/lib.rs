// SPDX-License-Identifier: Apache-2.0
//! The page store of one machine: which pages of which contents lie on the local disks.
//!
//! A reader asks for a byte range and gets extents (where resident bytes lie, with their
//! checksums) and gaps. Pages come in through a bounded queue and are written by fill threads,
//! which evict just enough before they write; nobody who reads ever waits for them. Everything
//! here may vanish at any instant without loss of data, so nothing is ever synced page by page:
//! bytes that did not reach the disk fail their checksum and are a plain miss.
//!
//! What is not here: paths, stores, networks, and the database that keeps the segment records
//! (the caller gives an [`Index`]).

mod account;
mod backing;
mod catalogue;
mod class;
mod classed;
mod curve;
mod disk;
mod evict;
mod expire;
mod fill;
mod index;
mod lane;
mod lookup;
mod open;
mod page_bytes;
mod page_set;
mod pin;
mod quota;
mod record;
mod recover;
mod roster;
mod scrub;
mod scrubber;
mod segment;
mod shelf;
mod slab;
mod store;
mod unflushed;
mod whole;

pub use class::{Class, ClassRule, ClassUsage};
pub use curve::{Access, AccountCurve, Curve, SCALES, Sampler};
pub use evict::Simulation;
pub use index::{Index, IndexKey, MemoryIndex};
pub use lane::Standing;
pub use page_bytes::PageBytes;
pub use scrubber::{Scrub, Scrubbed};
pub use store::{
    DirectoryOptions, DiskUsage, NewPage, NotKept, Options, PageStore, Piece, Presence, PutOutcome,
};
