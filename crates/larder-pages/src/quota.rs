// SPDX-License-Identifier: Apache-2.0
//! How many bytes a directory may still take. Pure bookkeeping; bytes are taken *before* they
//! are written and given back *after* they are gone from the disk.

/// With less than one part in so many of its capacity, a directory is of no use.
const STARVED_PART: u64 = 64;

/// The byte account of one directory.
#[derive(Debug)]
pub(crate) struct Quota {
    capacity: u64,
    /// At most the capacity; lower after the file system was found full before we were.
    limit: u64,
    used: u64,
    /// Bytes that an earlier process may have left without a record.
    unrecorded: u64,
    /// Bytes of files of ours that can't be read now and were left where they are.
    left: u64,
}

impl Quota {
    pub(crate) fn new(capacity: u64, unrecorded: u64) -> Self {
        Self { capacity, limit: capacity, used: 0, unrecorded: unrecorded.min(capacity), left: 0 }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What it may hold now: less than the capacity while others fill the file system.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The directory was opened again, perhaps as another disk.
    pub(crate) fn reopen(&mut self, capacity: u64, unrecorded: u64) {
        self.capacity = capacity;
        self.limit = capacity;
        self.unrecorded = unrecorded.min(capacity);
        self.left = 0;
    }

    /// Whether others have taken so much of the file system that nothing is left for us.
    pub(crate) fn is_starved(&self) -> bool {
        self.limit < self.capacity / STARVED_PART
    }

    /// Takes `bytes` if that stays within the limit.
    pub(crate) fn try_take(&mut self, bytes: u64) -> bool {
        let fits = self.used + self.left + self.unrecorded + bytes <= self.limit;
        if fits {
            self.used += bytes;
        }
        fits
    }

    /// Counts bytes that lie on disk already, limit or not.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.used += bytes;
    }

    pub(crate) fn give_back(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.used, "more given back than taken");
        self.used = self.used.saturating_sub(bytes);
    }

    pub(crate) fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// Whether evicting can make room for `bytes`. It cannot while most of the directory may be
    /// taken by what nobody knows: waiting for that to be reconciled beats evicting all else.
    pub(crate) fn can_make_room(&self, bytes: u64) -> bool {
        self.unrecorded <= self.limit / 2 && self.left + self.unrecorded + bytes <= self.limit
    }

    /// A file of so many bytes stays on disk until the next start, and nothing is known of it.
    pub(crate) fn leave(&mut self, bytes: u64) {
        self.left += bytes;
    }

    /// Whether more is taken than allowed, as after a start with a smaller capacity.
    pub(crate) fn is_over(&self) -> bool {
        self.used + self.left > self.limit
    }

    /// What lies on disk is not what the records say.
    pub(crate) fn distrust(&mut self) {
        self.unrecorded = self.capacity;
    }

    /// Every byte on disk is accounted for now.
    pub(crate) fn reconciled(&mut self) {
        self.unrecorded = 0;
    }

    /// The weight with which a new content is placed here: what is free, and a little anyway,
    /// because a full directory evicts. Zero while nothing could be put there.
    pub(crate) fn placement_weight(&self) -> u64 {
        if !self.can_make_room(0) {
            return 0;
        }
        self.limit.saturating_sub(self.used + self.left + self.unrecorded).max(self.limit / 64)
    }

    /// The file system was full although `bytes` more were allowed: others use it too.
    pub(crate) fn disk_was_full(&mut self, bytes: u64) {
        self.limit = self.used.saturating_sub(bytes).min(self.limit);
    }

    /// `bytes` were written without trouble: a lowered limit creeps up again, so that a full
    /// disk costs one lost fill now and then, not one each time.
    pub(crate) fn disk_was_fine(&mut self, bytes: u64) {
        if self.limit < self.capacity {
            self.limit = (self.limit + bytes / 16).min(self.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;

    #[test]
    fn never_above_the_limit() {
        let mut quota = Quota::new(100, 30);
        assert!(quota.try_take(70));
        assert!(!quota.try_take(1), "the rest may lie there unrecorded");
        quota.reconciled();
        assert!(quota.try_take(30));
        quota.disk_was_full(30);
        quota.give_back(30);
        assert!(!quota.try_take(1));
        quota.give_back(16);
        assert!(quota.try_take(16));
        quota.disk_was_fine(160);
        assert!(quota.try_take(10) && !quota.try_take(1));
    }

    #[test]
    fn what_was_left_takes_room() {
        let mut quota = Quota::new(100, 0);
        quota.leave(40);
        assert!(quota.try_take(60) && !quota.try_take(1) && !quota.is_over());
        assert!(quota.can_make_room(60) && !quota.can_make_room(61));
        quota.leave(1);
        assert!(quota.is_over(), "so something is evicted");
        quota.reopen(100, 0);
        assert!(quota.try_take(40), "counted anew at the next start");
    }
}
