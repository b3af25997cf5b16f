// SPDX-License-Identifier: Apache-2.0
//! Several streams for one reader, where one is the store's limit: what the reader comes to later
//! is brought meanwhile in parts, each by a request of its own.
//!
//! A part is a fetch like any other, which the walk *holds* until it comes there; so whoever reads
//! the same joins it, and it ends when the walk does. Parts are started only while the store would
//! bring more by one more stream ([`Streams`](crate::miss::Streams)), while its budget has room to
//! spare, memory is plenty, and the reader waits for bytes: where the reader or the disk is the
//! limit, more streams are none the quicker. They bring gaps within what is wanted, and no byte
//! more.

use std::collections::VecDeque;

use larder_core::{ByteRange, SEGMENT_SIZE};
use larder_pages::Piece;
use larder_ufs::priority::Class;

use super::Walk;
use crate::{Worker, miss::Attachment, mount::Mount};

/// What one of several streams brings at once. Long enough that the wait for its first byte is a
/// small part of it.
pub(crate) const PART: u64 = 4 << 20;
/// Parts that lie further ahead of the reader than this are not begun: the disk may be slower.
const AHEAD_MAX: u64 = 32 * PART;
/// Parts that one walk has begun and not come to: what pauses for the disk holds its place at the
/// store.
const HELD_MAX: usize = 16;
/// Who waits for a fetch's first bytes may still be slow; who waits so far behind its start has
/// taken all before as fast as it came.
const TAKEN_MIN: u64 = 256 << 10;
/// Who has not had to wait for so many bytes is slower than what comes.
const UNWAITED_MAX: u64 = 2 * PART;

/// The parts that a walk has begun ahead of where it is.
#[derive(Debug, Default)]
pub(super) struct Spread {
    held: VecDeque<Attachment>,
    /// All before is resident or on its way, as far as this walk has seen; zero before it has
    /// begun a part.
    arranged_to: u64,
    /// Where the reader last waited for the store.
    waited_at: Option<u64>,
}

/// What was asked of the store for a walk: from the store, also where the page store is quicker to
/// hand it out.
#[derive(Debug, Default)]
pub(super) struct Fetched(Vec<ByteRange>);

impl Fetched {
    /// This was asked for. What lies before `position` is no longer of interest.
    pub(super) fn add(&mut self, range: ByteRange, position: u64) {
        let (mut start, mut end) = (range.start, range.end);
        self.0.retain(|known| {
            let touches = known.start <= end && start <= known.end;
            if touches {
                (start, end) = (start.min(known.start), end.max(known.end));
            }
            known.end > position && !touches
        });
        self.0.push(ByteRange::new(start, end));
    }

    /// How many bytes of `part` are among it.
    pub(super) fn of(&self, part: ByteRange) -> u64 {
        let overlaps = self.0.iter().filter_map(|known| known.overlap(part));
        overlaps.map(ByteRange::length).sum()
    }
}

impl Spread {
    /// The part that begins at `position`, for a reader that has come there.
    pub(super) fn part_at(&mut self, position: u64) -> Option<Attachment> {
        let mut held = self.held.pop_front_if(|held| held.range().start == position)?;
        held.arrive().then_some(held)
    }

    /// The reader follows a fetch and comes to `position`.
    pub(super) fn comes_to(&mut self, position: u64, followed: &Attachment) {
        let has_taken = position.saturating_sub(followed.range().start) >= TAKEN_MIN;
        if has_taken && followed.owes(position) {
            self.waited_at = Some(position);
        }
    }

    /// Whether the store is what a reader at `position` waits for.
    fn waits_for_store(&self, position: u64) -> bool {
        self.waited_at.is_some_and(|at| position.saturating_sub(at) <= UNWAITED_MAX)
    }

    /// Lets go of parts that a reader has passed who found other ways.
    fn passed(&mut self, position: u64) {
        while self.held.front().is_some_and(|held| held.range().end <= position) {
            self.held.pop_front();
        }
    }
}

/// Where the part ends that begins at `start`: on a multiple of [`PART`], so that readers of the
/// same cut alike, and not a short one first.
fn part_end(start: u64) -> u64 {
    start.saturating_add(PART / 2).next_multiple_of(PART)
}

impl Worker {
    /// Whether a request should leave what follows to others: what it brings itself and a part
    /// beside it are worth their streams, and there is room for both. Else it would be a chain of
    /// short requests, one after the other.
    pub(crate) fn may_split(&self, mount: &Mount, class: Class) -> bool {
        self.has_room_for(2, mount, class)
    }

    /// Whether so many more streams are worth their requests, and there is room for them.
    fn has_room_for(&self, more: u32, mount: &Mount, class: Class) -> bool {
        mount.streams.want(more as usize, self.clock.elapsed())
            && !self.memory_is_short()
            && !(class == Class::Bulk && self.pages.is_behind())
            && mount.storage.has_room(more, class)
    }
}

impl Walk {
    /// Where the next request should end at the latest, if what is wanted is brought in parts.
    pub(super) fn first_part_end(&self, start: u64, wanted_end: u64) -> Option<u64> {
        let is_long = wanted_end.saturating_sub(start) >= 2 * PART;
        // Of a reader that comes from elsewhere nothing is known yet.
        let before = self.attached.as_ref().or(self.opening.as_deref());
        let is_new = before.is_none_or(|before| before.range().end < start);
        let is_quick = is_new || self.spread.waits_for_store(start);
        let may_split =
            is_long && is_quick && self.worker.may_split(&self.source.mount, self.purpose.class());
        may_split.then(|| part_end(start))
    }

    /// Whether one more stream is worth a request.
    fn may_spread(&self) -> bool {
        self.worker.has_room_for(1, &self.source.mount, self.purpose.class())
    }

    /// Starts parts ahead of the reader while they are worth it.
    pub(super) fn spread(&mut self) {
        self.spread.passed(self.rest.start);
        let follows = self.attached.is_some() && !self.elsewhere;
        if !follows && self.spread.held.is_empty() {
            return;
        }
        let wanted_end = self.wanted_end();
        let is_long = wanted_end.saturating_sub(self.rest.start) >= 2 * PART;
        if !is_long || !self.spread.waits_for_store(self.rest.start) {
            return;
        }
        // What lies nearer goes first, also where it waits for memory.
        if self.spread.held.iter().any(Attachment::is_paused) {
            return;
        }
        let width = self.source.mount.streams.wanted(self.worker.clock.elapsed());
        let held_max = HELD_MAX.min(2 * width);
        let limit = wanted_end.min(self.rest.start.saturating_add(AHEAD_MAX));
        while self.spread.arranged_to < limit
            && self.spread.held.len() < held_max
            && self.may_spread()
        {
            let from = self.spread.arranged_to.max(self.followed_to());
            let Some(gap) = self.next_gap(ByteRange::new(from, limit.max(from))) else {
                self.spread.arranged_to = limit;
                return;
            };
            let end = part_end(gap.start);
            let gap = self.gap_up_to(gap, end);
            self.spread.arranged_to = gap.range.end.max(end.min(limit));
            if let Some(held) = self.worker.hold(&self.source, gap) {
                self.spread.arranged_to = held.range().end;
                self.fetched.add(held.range(), self.rest.start);
                self.spread.held.push_back(held);
            }
        }
    }

    /// Up to where the fetch that is followed brings bytes, once it has left to others what they
    /// may bring.
    fn followed_to(&self) -> u64 {
        let start = self.rest.start;
        let attached = self.attached.as_ref().filter(|_| !self.elsewhere);
        attached.map_or(start, |attached| attached.leave_to_others(PART).max(start))
    }

    /// The first gap in a range, up to the end of its segment.
    fn next_gap(&self, range: ByteRange) -> Option<ByteRange> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / SEGMENT_SIZE + 1) * SEGMENT_SIZE);
            let look = ByteRange::new(start, end);
            let pieces = self.worker.pages.look(self.content, self.length, look);
            let gap = pieces.into_iter().find_map(|piece| match piece {
                Piece::Gap(gap) => Some(gap),
                Piece::Resident { .. } => None,
            });
            if gap.is_some() {
                return gap;
            }
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_counts_once() {
        let mut fetched = Fetched::default();
        let range = ByteRange::new;
        fetched.add(range(0, 10), 0);
        fetched.add(range(20, 30), 0);
        fetched.add(range(5, 12), 0);
        assert_eq!(fetched.of(range(0, 100)), 22);
        fetched.add(range(12, 20), 0);
        assert_eq!((fetched.of(range(0, 100)), fetched.0.len()), (30, 1));
        fetched.add(range(50, 60), 30);
        assert_eq!(fetched.of(range(0, 100)), 10, "what was passed is forgotten");
    }

    #[test]
    fn parts_end_where_those_of_other_readers_do() {
        assert_eq!(part_end(0), PART);
        assert_eq!(part_end(PART / 2), PART);
        assert_eq!(part_end(PART / 2 + 1), 2 * PART, "no short one first");
    }
}
