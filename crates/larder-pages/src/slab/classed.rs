// SPDX-License-Identifier: Apache-2.0
//! Small files by classes: which one a file belongs to, and whose time is over.
//!
//! Most small files have no class, so what is kept for those that have lies beside them, in an
//! array that a slab has only when one of its files has a class.

use larder_core::ContentId;

use super::{
    resident::{Freeing, Leave, SmallFound, hash},
    shelves::Number,
};
use crate::{
    Class,
    catalogue::Catalogue,
    class::{Admitted, ClassNumber},
    evict::{Admission, LaneIndex, Slot},
};

impl Catalogue {
    /// The queues that a small file stands in.
    pub(super) fn small_lane(&self, number: Number) -> LaneIndex {
        let directory = self.smalls.slab(number.slab()).directory;
        let lane = self.classes.lane(self.smalls.class_of(number).0, directory);
        lane.expect("a class has queues wherever it has a file")
    }

    /// What a small file counts for.
    pub(crate) fn small_weight(&self, number: Number) -> u64 {
        self.smalls.slab(number.slab()).class().slot_bytes()
    }

    /// The class of a small file.
    pub(super) fn class_of_small(&self, number: Number) -> ClassNumber {
        self.smalls.class_of(number).0
    }

    /// Whether a small file is not given out any more.
    pub(super) fn is_small_expired(&self, found: &SmallFound) -> bool {
        let (class, admitted) = self.smalls.class_of(found.number);
        self.classes.is_expired(class, admitted, || self.clock.now())
    }

    /// A small file comes in; returns what the queues are told.
    pub(super) fn small_joins(
        &mut self,
        number: Number,
        content: ContentId,
        (class, admitted): (ClassNumber, Admitted),
    ) -> Admission {
        let directory = self.smalls.slab(number.slab()).directory;
        self.make_lane(class, directory);
        self.smalls.set_class_of(number, (class, admitted));
        let weight = self.small_weight(number);
        self.classes.file_comes(class);
        self.classes.weigh(class, 0, weight);
        Admission { lane: self.small_lane(number), hash: hash(content), weight }
    }

    /// A small file leaves its class.
    pub(super) fn small_leaves(&mut self, number: Number) {
        let (class, _) = self.smalls.class_of(number);
        let weight = self.small_weight(number);
        self.classes.weigh(class, weight, 0);
        self.classes.file_goes(class);
    }

    /// From now on a small file belongs to this class; `false` when there is none with this
    /// content. Its entry on disk stays as it is.
    pub(crate) fn classify_small(&mut self, content: ContentId, class: Class) -> bool {
        let Some(SmallFound { number, .. }) = self.small(content) else { return false };
        let class = self.classes.number(class);
        let (before, mut admitted) = self.smalls.class_of(number);
        if before == class {
            return true;
        }
        if admitted == Admitted::default() {
            admitted = Admitted::at(self.clock.now());
        }
        let lane = self.small_lane(number);
        self.policy.forget(Slot::small(number.0), lane);
        self.small_leaves(number);
        let admission = self.small_joins(number, content, (class, admitted));
        self.policy.restore(Slot::small(number.0), admission);
        true
    }

    /// Takes out one small file that is to be evicted, and none of its neighbours; `None` when it
    /// is held, or gone already. The caller frees its slot.
    pub(crate) fn evict_alone(&mut self, number: Number) -> Option<Freeing> {
        let small = self.smalls.get(number.slab())?.files.get(number.slot() as usize)?;
        if !small.is_listed() || small.is_held() {
            return None;
        }
        self.unlist_small(number, Leave::Evicted);
        Some(self.begin_freeing(number))
    }

    /// The small files whose time is over in the first slab of a directory at or behind `from`,
    /// and the slab after it.
    pub(crate) fn expired_small(
        &self,
        directory: LaneIndex,
        from: u32,
    ) -> Option<(Vec<ContentId>, u32)> {
        let at = self.smalls.next_of(directory, from)?;
        let slab = self.smalls.slab(at);
        let mut expired = Vec::new();
        if slab.has_classes() {
            let now = self.clock.now();
            for (slot, small) in (0..).zip(&slab.files) {
                let (class, admitted) = self.smalls.class_of(Number::new(at, slot));
                if small.is_listed() && self.classes.is_expired(class, admitted, || now) {
                    expired.push(small.entry().content);
                }
            }
        }
        Some((expired, at + 1))
    }
}
