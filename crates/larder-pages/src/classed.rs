// SPDX-License-Identifier: Apache-2.0
//! The catalogue by classes: which queues a segment stands in, what leaves next when a directory
//! or a class is full, whose time is over, and how a content changes its class.

use larder_core::ContentId;

use crate::{
    Class, ClassRule, IndexKey,
    catalogue::{Catalogue, Resident, hash},
    class::{Admitted, ClassNumber, Origin},
    evict::{Admission, LaneIndex, Slot},
    lane::Standing,
    page_set::BLOCK,
    record::Record,
    segment::{Candidate, Found, NewSegment},
    slab::Number,
};

impl Catalogue {
    /// The queues that the segment in `slot` stands in.
    pub(crate) fn lane_of(&self, slot: u32) -> LaneIndex {
        let resident = self.resident_of(slot);
        let lane = self.classes.lane(resident.class, resident.directory);
        lane.expect("a class has queues wherever it has a segment")
    }

    /// What the queues are told of a segment.
    pub(crate) fn admission(&self, slot: u32, weight: u64) -> Admission {
        Admission { lane: self.lane_of(slot), hash: hash(self.key_of(slot)), weight }
    }

    /// Makes queues for a class in a directory, unless it has some.
    pub(crate) fn make_lane(&mut self, class: ClassNumber, directory: LaneIndex) {
        if self.classes.lane(class, directory).is_none() {
            let capacity = self.lane(directory).quota.capacity();
            let most = self.classes.rule(class).quota_bytes.unwrap_or(capacity).min(capacity);
            let lane = self.policy.add_class_lane(most);
            self.classes.set_lane(class, directory, lane);
        }
    }

    /// What its record shall say of where a content comes from.
    pub(crate) fn origin(&self, resident: &Resident) -> Origin {
        let class = self.classes.rule(resident.class).class;
        Origin { class, admitted: resident.admitted }
    }

    /// Whether a content is not given out any more.
    pub(crate) fn is_expired(&self, found: &Found) -> bool {
        self.classes.is_expired(found.class, found.origin.admitted, || self.clock.now())
    }

    /// Enters a segment that a record claims, as found at start; see [`Catalogue::restore`]. A
    /// content came in when the first of its segments did.
    pub(crate) fn restore_record(
        &mut self,
        key: IndexKey,
        directory: LaneIndex,
        record: &Record,
    ) -> bool {
        let mut origin = record.origin;
        if origin.admitted == Admitted::default() {
            origin.admitted = Admitted::at(self.clock.now());
        }
        let new = NewSegment { key, length: record.length, directory, origin };
        let restored = self.restore(new, record.pages());
        if let Some(at) = self.by_content.get(&key.content).filter(|_| restored) {
            let resident = &mut self.residents[*at as usize];
            resident.admitted = resident.admitted.min(origin.admitted);
        }
        restored
    }

    /// From now on the content belongs to this class. Its record says so when it is next written.
    pub(crate) fn classify(&mut self, content: ContentId, class: Class) {
        self.outdate(content);
        if self.classify_small(content, class) {
            return;
        }
        let number = self.classes.number(class);
        let Some(at) = self.by_content.get(&content).copied() else { return };
        let Resident { class: before, directory, .. } = self.residents[at as usize];
        if before == number {
            return;
        }
        self.make_lane(number, directory);
        let segments = self.segments(content);
        let slots: Vec<u32> = segments
            .iter()
            .filter_map(|(segment, _)| self.slot_of(IndexKey { content, segment: *segment }))
            .collect();
        for slot in &slots {
            let weight = self.weight(*slot);
            let lane = self.lane_of(*slot);
            self.policy.forget(Slot(*slot), lane);
            self.classes.weigh(before, weight, 0);
        }
        self.classes.file_goes(before);
        self.residents[at as usize].class = number;
        self.classes.file_comes(number);
        for slot in slots {
            let weight = self.weight(slot);
            self.classes.weigh(number, 0, weight);
            // It was here before and is not read now: no newcomer.
            let admission = Admission { lane: self.lane_of(slot), hash: 0, weight };
            self.policy.restore(Slot(slot), admission);
        }
    }

    /// What should leave `directory` next; it stays until [`Catalogue::evict`] or its like. The
    /// segment that room is made for goes last, if it is here already.
    pub(crate) fn candidate(
        &mut self,
        directory: LaneIndex,
        growing: Option<IndexKey>,
    ) -> Option<Candidate> {
        let growing = growing.and_then(|key| self.slot_of(key)).map(Slot);
        let lanes = self.classes.by_turn(directory, |lane| self.policy.weight(lane));
        let mut kept_by_pins = None;
        for (class, lane) in lanes {
            if !self.classes.may_lose(class, 1) && !self.all_goes(directory) {
                continue;
            }
            let Some(slot) = self.victim(lane, growing) else { continue };
            if self.classes.may_lose(class, self.loss(slot)) {
                return Some(self.as_candidate(slot));
            }
            kept_by_pins.get_or_insert(slot);
        }
        let slot = kept_by_pins.filter(|_| self.all_goes(directory))?;
        Some(self.as_candidate(slot))
    }

    /// Whether the pins of rules hold nothing there: it is drained, or has more than it may.
    fn all_goes(&mut self, directory: LaneIndex) -> bool {
        let lane = self.lane(directory);
        lane.standing != Standing::Serving || lane.quota.is_over()
    }

    /// What should leave these queues next.
    fn victim(&mut self, lane: LaneIndex, growing: Option<Slot>) -> Option<Slot> {
        let (segments, smalls) = (&self.segments, &self.smalls);
        let is_pinned = |slot: Slot| match slot.as_small() {
            Some(number) => smalls.is_held(Number(number)),
            None => segments[slot.0 as usize].pins > 0,
        };
        self.policy.victim(lane, is_pinned, growing)
    }

    /// What a class loses at most when this is evicted: a small file may take those of its class
    /// along that share a block with it.
    fn loss(&self, slot: Slot) -> u64 {
        match slot.as_small() {
            Some(number) => self.small_weight(Number(number)) + 2 * BLOCK,
            None => self.weight(slot.0),
        }
    }

    fn as_candidate(&self, slot: Slot) -> Candidate {
        match slot.as_small() {
            Some(number) => Candidate::Small(Number(number)),
            None => Candidate::Segment(self.key_of(slot.0)),
        }
    }

    /// What a class should lose next for its own quota, wherever most of it lies. A directory whose
    /// slabs are being read loses nothing: what lies there is not all known yet. The segment that
    /// room is made for goes last.
    pub(crate) fn candidate_of(
        &mut self,
        class: ClassNumber,
        growing: Option<IndexKey>,
    ) -> Option<Candidate> {
        let growing = growing.and_then(|key| self.slot_of(key)).map(Slot);
        let is_ready = |directory: LaneIndex| !self.lanes[usize::from(directory.0)].loading;
        let lanes = self.classes.lanes(class).filter(|(directory, _)| is_ready(*directory));
        let mut lanes: Vec<LaneIndex> = lanes.map(|(_, lane)| lane).collect();
        lanes.sort_by_key(|lane| std::cmp::Reverse(self.policy.weight(*lane)));
        let slot = lanes.into_iter().find_map(|lane| self.victim(lane, growing))?;
        Some(self.as_candidate(slot))
    }

    /// From now on these rules hold.
    pub(crate) fn set_classes(&mut self, rules: &[ClassRule]) -> larder_core::Result<()> {
        self.generations.end_all();
        self.classes.set(rules)
    }
}
