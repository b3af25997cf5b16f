// SPDX-License-Identifier: Apache-2.0
//! What is resident, in memory: contents, their segments, who is pinned, what each directory has
//! taken.
//!
//! No I/O; the owner keeps it behind one mutex that is held for a look-up or a change, never
//! across a system call. Per resident segment it keeps 52 bytes, 12 more for its place in the
//! queues, and an entry of 12 bytes in a map; per content 48 bytes and a map entry of 32.
//! Checksums are not here but in the segment's record.
//!
//! A *pin* ([`crate::pin`]) keeps a segment from eviction while a reader holds an extent of it, or
//! a fill writes into it. Removing a content does not wait for pins: its file is unlinked at once,
//! and what it took is given back when the last pin goes, because only then are the blocks free.

use std::{collections::HashMap, ops::Range, sync::Arc};

use larder_core::{Clock, ContentId, Generations, Metrics, SegmentIndex};

use crate::{
    IndexKey,
    class::{Admitted, ClassNumber, Classes},
    evict::{LaneIndex, Policy, Slot},
    lane::Lane,
    page_set::{BLOCK, PageSet},
    segment::{Begun, Evicted, Filled, Found, NewSegment, Pinned, Removed},
    slab::Shelves,
};

/// Each segment is charged one block more than its pages: the file system's map of a scattered
/// file takes blocks too, at most one for each segment (340 extents to a block on ext4).
pub(crate) const SEGMENT_OVERHEAD: u64 = BLOCK;

/// Groups of contents that have a generation each: an eviction ends what readers of one in so
/// many contents hold.
const GENERATIONS: usize = 256;

const NONE: u32 = u32::MAX;

/// Tells apart the files that a content has had one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Incarnation(pub(crate) u64);

/// A content with at least one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    content: ContentId,
    length: u64,
    incarnation: Incarnation,
    first: u32,
    segments: u32,
    pub(crate) admitted: Admitted,
    pub(crate) directory: LaneIndex,
    pub(crate) class: ClassNumber,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) resident: u32,
    index: u32,
    pub(crate) pages: PageSet,
    /// The next and the previous segment of the same content, in no order.
    next: u32,
    previous: u32,
    pub(crate) pins: u32,
}

/// A content that was removed while it was pinned: what it still takes on disk.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) directory: LaneIndex,
    pub(crate) bytes: u64,
    /// Pins, and one more until the file is unlinked.
    waits: u32,
}

/// What is resident.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) lanes: Vec<Lane>,
    /// Records are still being read; what is not found here may yet be in the index.
    pub(crate) loading: bool,
    /// Slabs are still being read; small files that are not found here may yet be there.
    pub(crate) loading_slabs: bool,
    pub(crate) classes: Classes,
    pub(crate) residents: Vec<Resident>,
    residents_free: Vec<u32>,
    pub(crate) by_content: HashMap<ContentId, u32>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) segments_free: Vec<u32>,
    by_segment: HashMap<(u32, u32), u32>,
    pub(crate) leaving: HashMap<u32, Leaving>,
    pub(crate) policy: Policy,
    pub(crate) smalls: Shelves,
    incarnations: u64,
    /// Segments that were ever read, each time counted.
    pub(crate) reads: u64,
    /// What tells readers who look no more that something left. Each change here that takes
    /// anything out ends it first.
    pub(crate) generations: Arc<Generations>,
    /// The store closes: from now on nobody would end a generation.
    pub(crate) closing: bool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
}

impl Catalogue {
    pub(crate) fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            lanes: Vec::new(),
            loading: true,
            loading_slabs: true,
            classes: Classes::new(),
            residents: Vec::new(),
            residents_free: Vec::new(),
            by_content: HashMap::new(),
            segments: Vec::new(),
            segments_free: Vec::new(),
            by_segment: HashMap::new(),
            leaving: HashMap::new(),
            policy: Policy::new(&[]),
            smalls: Shelves::default(),
            incarnations: 0,
            reads: 0,
            generations: Arc::new(Generations::new(GENERATIONS)),
            closing: false,
            metrics,
            clock,
        }
    }

    /// One more directory, at the end.
    pub(crate) fn add_lane(&mut self, lane: Lane) {
        self.policy.add_lane(lane.quota.capacity());
        self.smalls.add_lane();
        self.lanes.push(lane);
    }

    pub(crate) fn lane(&mut self, directory: LaneIndex) -> &mut Lane {
        &mut self.lanes[directory.0 as usize]
    }

    /// The content, wherever it lies, even on a faulty directory.
    pub(crate) fn find(&self, content: ContentId) -> Option<Found> {
        let resident = self.residents[*self.by_content.get(&content)? as usize];
        Some(Found {
            directory: resident.directory,
            incarnation: resident.incarnation,
            length: resident.length,
            segments: resident.segments,
            class: resident.class,
            origin: self.origin(&resident),
        })
    }

    /// The content, if its pages can be read, it has this length and its time is not over.
    pub(crate) fn find_readable(&self, content: ContentId, length: u64) -> Option<Found> {
        let found = self.find(content)?;
        let healthy = self.lanes[found.directory.0 as usize].fault.is_none();
        (healthy && found.length == length && !self.is_expired(&found)).then_some(found)
    }

    /// The pages of one segment, without pinning it.
    pub(crate) fn pages(&self, key: IndexKey) -> PageSet {
        self.slot_of(key).map_or(PageSet::default(), |slot| self.segments[slot as usize].pages)
    }

    /// The segments of a content, in no order.
    pub(crate) fn segments(&self, content: ContentId) -> Vec<(SegmentIndex, PageSet)> {
        let Some(resident) = self.by_content.get(&content) else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = self.residents[*resident as usize].first;
        while at != NONE {
            let segment = &self.segments[at as usize];
            found.push((SegmentIndex(segment.index), segment.pages));
            at = segment.next;
        }
        found
    }

    /// Contents of `directory` among the slots of `window`, and whether slots go on behind it:
    /// a way to visit all of them without holding the lock.
    pub(crate) fn contents(
        &self,
        directory: LaneIndex,
        window: Range<usize>,
    ) -> (Vec<ContentId>, bool) {
        let end = window.end.min(self.residents.len());
        let slots = &self.residents[window.start.min(end)..end];
        let here = slots
            .iter()
            .filter(|resident| resident.segments > 0 && resident.directory == directory);
        (here.map(|resident| resident.content).collect(), end < self.residents.len())
    }

    /// Whether the file of this incarnation is still the content's file.
    pub(crate) fn is_current(&self, content: ContentId, incarnation: Incarnation) -> bool {
        self.find(content).is_some_and(|found| found.incarnation == incarnation)
    }

    /// Enters a segment that a record claims, as found at start. `false` when the content lies
    /// in another directory or has another length already.
    pub(crate) fn restore(&mut self, new: NewSegment, pages: PageSet) -> bool {
        let key = new.key;
        if let Some(found) = self.find(key.content)
            && (found.directory != new.directory || found.length != new.length)
        {
            return false;
        }
        if self.slot_of(key).is_some() {
            return true;
        }
        let slot = self.insert(new, pages);
        let weight = self.weight(slot);
        let admission = self.admission(slot, weight);
        self.policy.restore(Slot(slot), admission);
        self.count(new.directory, weight);
        true
    }

    /// Finds or makes the segment for a fill into `directory`, and pins it.
    pub(crate) fn begin(&mut self, new: NewSegment) -> Begun {
        if self.small(new.key.content).is_some() {
            return Begun::OtherLength;
        }
        if let Some(found) = self.find(new.key.content) {
            if found.length != new.length {
                return Begun::OtherLength;
            }
            if found.directory != new.directory {
                return Begun::Elsewhere;
            }
            // The newer word about its class counts.
            self.classify(new.key.content, new.origin.class);
        } else {
            let class = self.classes.number(new.origin.class);
            if !self.classes.has_room_for_file(class) {
                return Begun::TooMany(class);
            }
        }
        let known = self.slot_of(new.key);
        let slot = known.unwrap_or_else(|| {
            let slot = self.insert(new, PageSet::default());
            let admission = self.admission(slot, SEGMENT_OVERHEAD);
            self.policy.admit(Slot(slot), admission);
            slot
        });
        let segment = &mut self.segments[slot as usize];
        segment.pins += 1;
        let pages = segment.pages;
        let pinned = Pinned { slot: Slot(slot), directory: new.directory, pages };
        Begun::Ready { pinned, fresh: known.is_none() }
    }

    /// Ends a fill that wrote `added`: what was taken beyond that is given back.
    pub(crate) fn finish(&mut self, filled: Filled) {
        let slot = filled.slot.0;
        let weighed = self.weight(slot);
        let before = if filled.fresh { 0 } else { weighed };
        let segment = &mut self.segments[slot as usize];
        segment.pages = segment.pages.union(&filled.added);
        let Resident { directory, class, .. } = self.residents[segment.resident as usize];
        let weight = self.weight(slot);
        if self.is_listed(slot) {
            let lane = self.lane_of(slot);
            let name = hash(self.key_of(slot));
            self.policy.resize(filled.slot, lane, (name, weight));
            self.classes.weigh(class, weighed, weight);
        }
        self.classes.unreserve(filled.class, filled.taken);
        self.give_back(directory, (filled.taken + before).saturating_sub(weight));
        self.unpin(filled.slot);
    }

    /// Takes a segment out, unless it is pinned or gone. Its bytes stay taken until the caller
    /// has freed them on disk and says so by [`Catalogue::give_back`].
    pub(crate) fn evict(&mut self, key: IndexKey) -> Option<Evicted> {
        let slot = self.slot_of(key)?;
        let segment = self.segments[slot as usize];
        if segment.pins > 0 {
            return None;
        }
        self.outdate(key.content);
        let resident = self.residents[segment.resident as usize];
        let bytes = self.weight(slot);
        let lane = self.lane_of(slot);
        self.policy.evicted(Slot(slot), lane, hash(key));
        self.unlist(slot);
        self.segments_free.push(slot);
        let last = resident.segments == 1;
        if last {
            self.by_content.remove(&key.content);
            self.residents_free.push(segment.resident);
            self.classes.file_goes(resident.class);
        }
        let (directory, incarnation) = (resident.directory, resident.incarnation);
        Some(Evicted { key, directory, incarnation, pages: segment.pages, bytes, last })
    }

    /// Takes a content out, pinned or not. The caller unlinks its file and says so by
    /// [`Catalogue::unlinked`]; until then, and until the last pin goes, its bytes stay taken.
    pub(crate) fn remove(&mut self, content: ContentId) -> Option<Removed> {
        let at = self.by_content.remove(&content)?;
        self.outdate(content);
        let resident = self.residents[at as usize];
        let mut removed = Removed {
            directory: resident.directory,
            incarnation: resident.incarnation,
            segments: Vec::new(),
            bytes: 0,
            resident: at,
        };
        let mut waits = 1;
        self.classes.file_goes(resident.class);
        while self.residents[at as usize].first != NONE {
            let slot = self.residents[at as usize].first;
            let segment = self.segments[slot as usize];
            removed.segments.push(SegmentIndex(segment.index));
            removed.bytes += self.weight(slot);
            let lane = self.lane_of(slot);
            self.policy.forget(Slot(slot), lane);
            self.unlist(slot);
            if segment.pins > 0 {
                waits += 1;
            } else {
                self.segments_free.push(slot);
            }
        }
        let directory = resident.directory;
        self.leaving.insert(at, Leaving { directory, bytes: removed.bytes, waits });
        Some(removed)
    }

    /// The file of a removed content is unlinked.
    pub(crate) fn unlinked(&mut self, removed: &Removed) {
        self.wait_less(removed.resident);
    }

    /// Takes single pages out. Their bytes stay taken until the caller has freed them on disk
    /// and gives back what this returns.
    pub(crate) fn drop_pages(&mut self, key: IndexKey, pages: &PageSet) -> u64 {
        let Some(slot) = self.slot_of(key) else { return 0 };
        self.outdate(key.content);
        let before = self.weight(slot);
        let segment = &mut self.segments[slot as usize];
        segment.pages = segment.pages.minus(pages);
        let class = self.residents[segment.resident as usize].class;
        let after = self.weight(slot);
        let lane = self.lane_of(slot);
        self.policy.resize(Slot(slot), lane, (hash(key), after));
        self.classes.weigh(class, before, after);
        before - after
    }

    fn insert(&mut self, new: NewSegment, pages: PageSet) -> u32 {
        let resident = match self.by_content.get(&new.key.content) {
            Some(resident) => *resident,
            None => self.insert_resident(new),
        };
        let owner = &mut self.residents[resident as usize];
        let next = std::mem::replace(&mut owner.first, NONE);
        owner.segments += 1;
        let index = new.key.segment.0;
        let segment = Segment { resident, index, pages, next, previous: NONE, pins: 0 };
        let slot = place(&mut self.segments, &mut self.segments_free, segment);
        self.residents[resident as usize].first = slot;
        if next != NONE {
            self.segments[next as usize].previous = slot;
        }
        self.by_segment.insert((resident, index), slot);
        self.lane(new.directory).segments += 1;
        let class = self.residents[resident as usize].class;
        let weight = self.weight(slot);
        self.classes.weigh(class, 0, weight);
        self.make_lane(class, new.directory);
        slot
    }

    /// A name for a file that nobody had before.
    pub(crate) fn next_incarnation(&mut self) -> Incarnation {
        self.incarnations += 1;
        Incarnation(self.incarnations)
    }

    fn insert_resident(&mut self, new: NewSegment) -> u32 {
        let incarnation = self.next_incarnation();
        let class = self.classes.number(new.origin.class);
        self.classes.file_comes(class);
        let resident = Resident {
            content: new.key.content,
            length: new.length,
            incarnation,
            first: NONE,
            segments: 0,
            admitted: new.origin.admitted,
            directory: new.directory,
            class,
        };
        let at = place(&mut self.residents, &mut self.residents_free, resident);
        self.by_content.insert(new.key.content, at);
        at
    }

    /// Takes a segment out of the map and out of its content's list. Its slot stays taken.
    fn unlist(&mut self, slot: u32) {
        let Segment { resident, index, next, previous, .. } = self.segments[slot as usize];
        let weight = self.weight(slot);
        self.classes.weigh(self.residents[resident as usize].class, weight, 0);
        self.by_segment.remove(&(resident, index));
        if previous == NONE {
            self.residents[resident as usize].first = next;
        } else {
            self.segments[previous as usize].next = next;
        }
        if next != NONE {
            self.segments[next as usize].previous = previous;
        }
        self.residents[resident as usize].segments -= 1;
        let directory = self.residents[resident as usize].directory;
        self.lane(directory).segments -= 1;
    }

    pub(crate) fn is_listed(&self, slot: u32) -> bool {
        let segment = &self.segments[slot as usize];
        self.by_segment.get(&(segment.resident, segment.index)) == Some(&slot)
    }

    pub(crate) fn wait_less(&mut self, resident: u32) {
        let Some(leaving) = self.leaving.get_mut(&resident) else { return };
        leaving.waits -= 1;
        if leaving.waits == 0 {
            let (directory, bytes) = (leaving.directory, leaving.bytes);
            self.leaving.remove(&resident);
            self.residents_free.push(resident);
            self.give_back(directory, bytes);
        }
    }

    pub(crate) fn resident_of(&self, slot: u32) -> &Resident {
        &self.residents[self.segments[slot as usize].resident as usize]
    }

    pub(crate) fn slot_of(&self, key: IndexKey) -> Option<u32> {
        let resident = self.by_content.get(&key.content)?;
        self.by_segment.get(&(*resident, key.segment.0)).copied()
    }

    pub(crate) fn key_of(&self, slot: u32) -> IndexKey {
        let segment = &self.segments[slot as usize];
        let content = self.residents[segment.resident as usize].content;
        IndexKey { content, segment: SegmentIndex(segment.index) }
    }

    pub(crate) fn weight(&self, slot: u32) -> u64 {
        let segment = &self.segments[slot as usize];
        let length = self.residents[segment.resident as usize].length;
        segment.pages.cost(SegmentIndex(segment.index), length) + SEGMENT_OVERHEAD
    }
}

/// Names are hashes already; the segment only has to be mixed in.
pub(crate) fn hash(key: IndexKey) -> u64 {
    let content = (key.content.0 >> 64) as u64 ^ key.content.0 as u64;
    content ^ u64::from(key.segment.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Puts `item` into a free place, or at the end.
fn place<T>(items: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    if let Some(at) = free.pop() {
        items[at as usize] = item;
        return at;
    }
    items.push(item);
    u32::try_from(items.len() - 1).expect("fewer than four billion segments fit in memory")
}

#[cfg(test)]
mod tests {
    use super::{Resident, Segment};

    #[test]
    fn memory_per_segment_stays_small() {
        assert!(size_of::<Segment>() <= 56, "{}", size_of::<Segment>());
        assert!(size_of::<Resident>() <= 48, "{}", size_of::<Resident>());
    }
}
