// SPDX-License-Identifier: Apache-2.0
//! What the catalogue is told and what it answers: segments that come in, are pinned, or leave.
//!
//! Values only; what they mean for the accounts is decided in [`crate::catalogue`].

use larder_core::SegmentIndex;

use crate::{
    IndexKey,
    catalogue::Incarnation,
    class::{ClassNumber, Origin},
    evict::{LaneIndex, Slot},
    page_set::PageSet,
    slab::Number,
};

/// A resident content, in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) directory: LaneIndex,
    pub(crate) incarnation: Incarnation,
    pub(crate) length: u64,
    pub(crate) segments: u32,
    pub(crate) class: ClassNumber,
    pub(crate) origin: Origin,
}

/// A segment that was pinned; the caller owes one [`Catalogue::unpin`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned {
    pub(crate) slot: Slot,
    pub(crate) directory: LaneIndex,
    pub(crate) pages: PageSet,
}

/// A fill may begin, or why not.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The segment is pinned; `fresh` when it was made for this fill.
    Ready { pinned: Pinned, fresh: bool },
    /// The content lies in another directory.
    Elsewhere,
    /// The content is resident with another length.
    OtherLength,
    /// The content is new, and its class has as many as it may.
    TooMany(ClassNumber),
}

/// What has to leave the disk after a segment left the catalogue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evicted {
    pub(crate) key: IndexKey,
    pub(crate) directory: LaneIndex,
    pub(crate) incarnation: Incarnation,
    pub(crate) pages: PageSet,
    pub(crate) bytes: u64,
    /// It was the last of its content: the file goes as a whole.
    pub(crate) last: bool,
}

/// What should leave a directory next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    Segment(IndexKey),
    Small(Number),
}

/// What has to leave the disk after a content left the catalogue.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) directory: LaneIndex,
    pub(crate) incarnation: Incarnation,
    pub(crate) segments: Vec<SegmentIndex>,
    pub(crate) bytes: u64,
    /// Its number in the catalogue.
    pub(crate) resident: u32,
}

/// A segment that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSegment {
    pub(crate) key: IndexKey,
    pub(crate) length: u64,
    pub(crate) directory: LaneIndex,
    pub(crate) origin: Origin,
}

impl Filled {
    /// A fill that has written nothing yet.
    pub(crate) fn nothing(pinned: Pinned, fresh: bool, (taken, class): (u64, ClassNumber)) -> Self {
        Self { slot: pinned.slot, fresh, taken, class, added: PageSet::default() }
    }
}

/// How a fill ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) slot: Slot,
    pub(crate) fresh: bool,
    /// What was taken from the quota for it, and set aside in this class.
    pub(crate) taken: u64,
    pub(crate) class: ClassNumber,
    pub(crate) added: PageSet,
}
