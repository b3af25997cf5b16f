// SPDX-License-Identifier: Apache-2.0
//! Classes of contents: what a rule says about those that it covers, and what they take.
//!
//! Which content belongs to which class is somebody else's word, given with each put; paths are
//! unknown here. A class has a name that holds over restarts ([`Class`], kept in the records) and
//! a number for as long as the store is open, so that a content needs one byte for it. Number 0
//! stands for contents without a rule, and for those whose rule is no more until somebody says
//! what they belong to now.
//!
//! Pure bookkeeping, kept in the catalogue under its lock. Bytes are those of resident segments
//! and, beside them, what fills in flight have reserved; files are contents with any segment.

use std::{collections::HashMap, time::Duration};

use larder_core::{Error, Priority, Result, UnixMillis};

use crate::evict::LaneIndex;

/// Classes at most, as one byte numbers them.
const CLASSES_MAX: usize = 255;

/// The name of a class: the same after a restart, and never that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Class(pub u64);

impl Class {
    /// No rule.
    pub const NONE: Self = Self(0);

    /// The end of the name; 0 for no class alone.
    pub(crate) fn end(self) -> u16 {
        if self == Self::NONE { 0 } else { (self.0 as u16).max(1) }
    }
}

/// What holds for the contents of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassRule {
    /// Which class.
    pub class: Class,
    /// So many of its bytes are never evicted; 0: none.
    pub pin_bytes: u64,
    /// When it is evicted, beside others.
    pub priority: Priority,
    /// How long a content is given out after its first page was kept. Not set: for ever.
    pub ttl: Option<Duration>,
    /// The most bytes it may take; then it evicts its own.
    pub quota_bytes: Option<u64>,
    /// The most contents it may have; then it drops its own.
    pub quota_files: Option<u64>,
}

/// What a class takes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassUsage {
    /// Which class.
    pub class: Class,
    /// Bytes of its resident pages, as allocated on disk.
    pub bytes: u64,
    /// Its resident contents.
    pub files: u64,
}

/// The number of a class while the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ClassNumber(pub(crate) u8);

impl ClassNumber {
    pub(crate) const NONE: Self = Self(0);
}

/// Where a content comes from: its class and when its first page was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    pub(crate) class: Class,
    pub(crate) admitted: Admitted,
}

/// When a content came in, in Unix seconds; 0: nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Admitted(pub(crate) u32);

impl Admitted {
    pub(crate) fn at(now: UnixMillis) -> Self {
        Self(u32::try_from(now.0 / 1000).unwrap_or(u32::MAX))
    }

    fn age(self, now: UnixMillis) -> Duration {
        now.since(UnixMillis(u64::from(self.0) * 1000))
    }
}

#[derive(Debug, Default)]
struct Entry {
    rule: ClassRule,
    /// Whether the rule holds; else the number is free once nothing has it.
    current: bool,
    bytes: u64,
    reserved: u64,
    files: u64,
    reserved_files: u64,
    /// Its queues, by directory, where it has had any content.
    lanes: Vec<Option<LaneIndex>>,
}

impl Entry {
    fn is_free(&self) -> bool {
        let holds = self.files + self.bytes + self.reserved + self.reserved_files;
        !self.current && holds == 0
    }
}

/// All classes.
#[derive(Debug)]
pub(crate) struct Classes {
    /// By number.
    entries: Vec<Entry>,
    by_name: HashMap<Class, ClassNumber>,
    /// Shares evictions out among classes of one priority.
    turn: u64,
}

impl Classes {
    pub(crate) fn new() -> Self {
        let none = Entry { current: true, ..Entry::default() };
        Self { entries: vec![none], by_name: HashMap::new(), turn: 0 }
    }

    /// From now on these rules hold, and no others.
    pub(crate) fn set(&mut self, rules: &[ClassRule]) -> Result<()> {
        let fresh = |rule: &&ClassRule| !self.by_name.contains_key(&rule.class);
        let wanted = rules.iter().filter(fresh).count();
        let kept = rules.len() - wanted;
        let free = CLASSES_MAX + 1 - self.entries.len()
            + self.entries[1..].iter().filter(|entry| entry.is_free()).count();
        // Numbers of rules that go are free only when their contents have gone.
        if wanted > free || kept + wanted > CLASSES_MAX {
            return Err(Error::exhausted(
                "too many rules were changed at once; try again when what the former ones \
                 covered has been sorted out, or restart",
            ));
        }
        let before = std::mem::take(&mut self.by_name);
        for entry in &mut self.entries[1..] {
            entry.current = false;
        }
        let (known, new): (Vec<&ClassRule>, Vec<&ClassRule>) =
            rules.iter().partition(|rule| before.contains_key(&rule.class));
        for rule in known {
            self.enter(before[&rule.class], rule);
        }
        for entry in &mut self.entries[1..] {
            if !entry.current {
                entry.rule = ClassRule::default();
            }
        }
        for rule in new {
            let place = self.entries[1..].iter().position(Entry::is_free).map(|at| at + 1);
            let at = place.unwrap_or_else(|| {
                self.entries.push(Entry::default());
                self.entries.len() - 1
            });
            self.enter(ClassNumber(at as u8), rule);
        }
        Ok(())
    }

    fn enter(&mut self, number: ClassNumber, rule: &ClassRule) {
        let entry = &mut self.entries[usize::from(number.0)];
        entry.rule = *rule;
        entry.current = true;
        self.by_name.insert(rule.class, number);
    }

    /// The number of a class; that of no rule when there is none of this name.
    pub(crate) fn number(&self, class: Class) -> ClassNumber {
        self.by_name.get(&class).copied().unwrap_or(ClassNumber::NONE)
    }

    /// The number of a class whose name ends so, where more of it is not known.
    pub(crate) fn number_ending(&self, end: u16) -> ClassNumber {
        let alike = self.by_name.iter().find(|(class, _)| end != 0 && class.end() == end);
        alike.map_or(ClassNumber::NONE, |(_, number)| *number)
    }

    pub(crate) fn rule(&self, number: ClassNumber) -> &ClassRule {
        &self.entry(number).rule
    }

    fn entry(&self, number: ClassNumber) -> &Entry {
        &self.entries[usize::from(number.0)]
    }

    fn entry_mut(&mut self, number: ClassNumber) -> &mut Entry {
        &mut self.entries[usize::from(number.0)]
    }

    /// What each class with a rule takes.
    pub(crate) fn usage(&self) -> Vec<ClassUsage> {
        let current = self.entries[1..].iter().filter(|entry| entry.current);
        let usage = current.map(|entry| ClassUsage {
            class: entry.rule.class,
            bytes: entry.bytes,
            files: entry.files,
        });
        usage.collect()
    }

    /// The queues of a class in a directory; those of no class are the directory's own.
    pub(crate) fn lane(&self, number: ClassNumber, directory: LaneIndex) -> Option<LaneIndex> {
        if number == ClassNumber::NONE {
            return Some(directory);
        }
        self.entry(number).lanes.get(usize::from(directory.0)).copied().flatten()
    }

    pub(crate) fn set_lane(&mut self, number: ClassNumber, directory: LaneIndex, lane: LaneIndex) {
        let lanes = &mut self.entry_mut(number).lanes;
        let at = usize::from(directory.0);
        lanes.resize(lanes.len().max(at + 1), None);
        lanes[at] = Some(lane);
    }

    /// Which class's queues in a directory should lose something, best first: lower priorities
    /// before higher ones, and among equals each in proportion to its weight there.
    pub(crate) fn by_turn(
        &mut self,
        directory: LaneIndex,
        weight: impl Fn(LaneIndex) -> u64,
    ) -> Vec<(ClassNumber, LaneIndex)> {
        let mut found = Vec::new();
        for at in 0..self.entries.len() {
            let number = ClassNumber(at as u8);
            if let Some(lane) = self.lane(number, directory) {
                found.push((self.rule(number).priority, weight(lane), number, lane));
            }
        }
        if let [(_, _, number, lane)] = found[..] {
            return vec![(number, lane)];
        }
        // A step of the golden ratio spreads turns evenly over the weights.
        self.turn = self.turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut order = Vec::with_capacity(found.len());
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            let mut equals: Vec<_> = found.iter().filter(|found| found.0 == priority).collect();
            let total: u64 = equals.iter().map(|found| found.1).sum();
            let mut point = ((u128::from(total) * u128::from(self.turn)) >> 64) as u64;
            let first = equals.iter().position(|found| {
                let hit = point < found.1;
                point = point.saturating_sub(found.1);
                hit
            });
            equals.rotate_left(first.unwrap_or(0));
            order.extend(equals.iter().map(|found| (found.2, found.3)));
        }
        order
    }

    /// The directories where a class has queues, with these.
    pub(crate) fn lanes(
        &self,
        number: ClassNumber,
    ) -> impl Iterator<Item = (LaneIndex, LaneIndex)> + '_ {
        let all = (0..).map(LaneIndex).zip(&self.entry(number).lanes);
        all.filter_map(|(directory, lane)| Some((directory, (*lane)?)))
    }

    /// Whether the class keeps what is pinned of it when it loses `bytes`.
    pub(crate) fn may_lose(&self, number: ClassNumber, bytes: u64) -> bool {
        let entry = self.entry(number);
        entry.rule.pin_bytes == 0 || entry.bytes >= entry.rule.pin_bytes.saturating_add(bytes)
    }

    /// Whether a content of the class that came in then is not given out any more.
    pub(crate) fn is_expired(
        &self,
        number: ClassNumber,
        admitted: Admitted,
        now: impl Fn() -> UnixMillis,
    ) -> bool {
        self.entry(number).rule.ttl.is_some_and(|ttl| admitted.age(now()) >= ttl)
    }

    /// Whether anything can expire.
    pub(crate) fn any_expires(&self) -> bool {
        self.entries.iter().any(|entry| entry.rule.ttl.is_some() && entry.files > 0)
    }

    /// Sets bytes aside for a fill, if the quota has room for them.
    pub(crate) fn try_reserve(&mut self, number: ClassNumber, bytes: u64) -> bool {
        let entry = self.entry_mut(number);
        let after = entry.bytes + entry.reserved + bytes;
        let fits = entry.rule.quota_bytes.is_none_or(|quota| after <= quota);
        if fits {
            entry.reserved += bytes;
        }
        fits
    }

    /// The fill is over, or never began.
    pub(crate) fn unreserve(&mut self, number: ClassNumber, bytes: u64) {
        let reserved = &mut self.entry_mut(number).reserved;
        debug_assert!(bytes <= *reserved, "more set free than set aside");
        *reserved = reserved.saturating_sub(bytes);
    }

    /// Whether the class could have room for `bytes` at all.
    pub(crate) fn could_hold(&self, number: ClassNumber, bytes: u64) -> bool {
        self.entry(number).rule.quota_bytes.is_none_or(|quota| bytes <= quota)
    }

    /// Whether one content more is within the quota.
    pub(crate) fn has_room_for_file(&self, number: ClassNumber) -> bool {
        let entry = self.entry(number);
        entry.rule.quota_files.is_none_or(|quota| entry.files + entry.reserved_files < quota)
    }

    /// Sets a place aside for a content, if the quota has room for it.
    pub(crate) fn try_reserve_file(&mut self, number: ClassNumber) -> bool {
        let fits = self.has_room_for_file(number);
        self.entry_mut(number).reserved_files += u64::from(fits);
        fits
    }

    /// The content is in, or will not come.
    pub(crate) fn unreserve_file(&mut self, number: ClassNumber) {
        let reserved = &mut self.entry_mut(number).reserved_files;
        debug_assert!(*reserved > 0, "more set free than set aside");
        *reserved = reserved.saturating_sub(1);
    }

    /// Classes that take more than their quotas, as after these were lowered.
    pub(crate) fn over_quota(&self) -> Vec<(ClassNumber, Over)> {
        let numbered = self.entries.iter().enumerate();
        let over = numbered.filter_map(|(at, entry)| {
            let number = ClassNumber(at as u8);
            if entry.rule.quota_files.is_some_and(|quota| entry.files > quota) {
                Some((number, Over::Files))
            } else if entry.rule.quota_bytes.is_some_and(|quota| entry.bytes > quota) {
                Some((number, Over::Bytes))
            } else {
                None
            }
        });
        over.collect()
    }

    /// A content of the class comes in.
    pub(crate) fn file_comes(&mut self, number: ClassNumber) {
        self.entry_mut(number).files += 1;
    }

    /// A content of the class is gone.
    pub(crate) fn file_goes(&mut self, number: ClassNumber) {
        let files = &mut self.entry_mut(number).files;
        debug_assert!(*files > 0, "more contents gone than came");
        *files = files.saturating_sub(1);
    }

    /// A segment of the class weighs `after` now; nothing before it came or after it went.
    pub(crate) fn weigh(&mut self, number: ClassNumber, before: u64, after: u64) {
        let bytes = &mut self.entry_mut(number).bytes;
        debug_assert!(before <= *bytes + after, "more bytes gone than came");
        *bytes = (*bytes + after).saturating_sub(before);
    }
}

/// Which quota is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Bytes,
    Files,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Class = Class(11);
    const B: Class = Class(22);

    fn rule(class: Class) -> ClassRule {
        ClassRule { class, ..ClassRule::default() }
    }

    #[test]
    fn a_number_stays_with_its_class_while_anything_has_it() {
        let mut classes = Classes::new();
        classes.set(&[rule(A), rule(B)]).unwrap();
        let (a, b) = (classes.number(A), classes.number(B));
        classes.file_comes(a);
        classes.set(&[rule(B)]).unwrap();
        assert_eq!((classes.number(A), classes.number(B)), (ClassNumber::NONE, b));
        classes.set(&[rule(B), rule(Class(33))]).unwrap();
        assert_ne!(classes.number(Class(33)), a, "contents of the former rule still have it");
        classes.file_goes(a);
        classes.set(&[rule(B), rule(Class(33)), rule(Class(44))]).unwrap();
        assert_eq!(classes.number(Class(44)), a);
        let many: Vec<ClassRule> = (1..=300).map(|name| rule(Class(name))).collect();
        assert!(classes.set(&many).is_err());
        assert_eq!(classes.number(B), b, "the former rules stay");
    }

    #[test]
    fn a_pin_is_kept_whole() {
        let mut classes = Classes::new();
        classes.set(&[ClassRule { pin_bytes: 100, ..rule(A) }]).unwrap();
        let a = classes.number(A);
        classes.weigh(a, 0, 120);
        assert!(classes.may_lose(a, 20));
        assert!(!classes.may_lose(a, 21));
        assert!(classes.may_lose(ClassNumber::NONE, u64::MAX));
    }

    #[test]
    fn a_quota_counts_what_is_on_its_way() {
        let mut classes = Classes::new();
        let quota = ClassRule { quota_bytes: Some(100), quota_files: Some(1), ..rule(A) };
        classes.set(&[quota]).unwrap();
        let a = classes.number(A);
        assert!(classes.try_reserve(a, 60) && !classes.try_reserve(a, 41));
        classes.weigh(a, 0, 50);
        classes.unreserve(a, 60);
        assert!(classes.try_reserve(a, 50) && !classes.could_hold(a, 101));
        assert!(classes.has_room_for_file(a));
        classes.file_comes(a);
        assert!(!classes.has_room_for_file(a));
        classes.file_comes(a);
        assert_eq!(classes.over_quota(), [(a, Over::Files)]);
        assert!(classes.try_reserve(ClassNumber::NONE, u64::MAX));
    }

    #[test]
    fn lower_priorities_lose_first_and_equals_in_proportion() {
        let mut classes = Classes::new();
        let low = ClassRule { priority: Priority::Low, ..rule(A) };
        let high = ClassRule { priority: Priority::High, ..rule(B) };
        classes.set(&[low, high, rule(Class(33))]).unwrap();
        let directory = LaneIndex(0);
        let weights = [300, 5, 5, 100];
        let mut lanes = vec![directory];
        for (nth, class) in [A, B, Class(33)].into_iter().enumerate() {
            let lane = LaneIndex(64 + nth as u16);
            classes.set_lane(classes.number(class), directory, lane);
            lanes.push(lane);
        }
        let weight = |lane| weights[lanes.iter().position(|known| *known == lane).unwrap()];
        let mut second = 0;
        for _ in 0..4000 {
            let order: Vec<_> =
                classes.by_turn(directory, weight).into_iter().map(|(_, lane)| lane).collect();
            assert_eq!((order[0], order[3]), (lanes[1], lanes[2]));
            second += u32::from(order[1] == lanes[3]);
        }
        assert!((980..1020).contains(&second), "a quarter of the turns: {second}");
    }

    #[test]
    fn contents_expire_by_their_admission() {
        let mut classes = Classes::new();
        classes.set(&[ClassRule { ttl: Some(Duration::from_secs(10)), ..rule(A) }]).unwrap();
        let (a, came) = (classes.number(A), Admitted::at(UnixMillis(5_000)));
        assert!(!classes.is_expired(a, came, || UnixMillis(14_999)));
        assert!(classes.is_expired(a, came, || UnixMillis(15_000)));
        assert!(!classes.is_expired(a, came, || UnixMillis(0)), "clocks may step back");
        assert!(!classes.is_expired(ClassNumber::NONE, came, || UnixMillis(u64::MAX)));
    }
}
