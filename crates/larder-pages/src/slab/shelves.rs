// SPDX-License-Identifier: Apache-2.0
//! All slabs of all directories with what lies in them: which slot a new small file goes to, and
//! what slabs take.
//!
//! A small file is known by its [`Number`], which says the slab and the slot, so what is kept for
//! it lies in an array of its slab: 24 bytes. Free slots are found where one was freed lately,
//! then in the slab of the class with the lowest number; so slabs made later empty first and go
//! as a whole.

use std::{collections::BTreeSet, ops::Range};

use larder_core::ContentId;

use super::{
    class::{CLASSES, Class, SLOTS_MAX},
    entry::{Entry, Header, Stamp},
    names::{Key, Names},
    slots::Slots,
};
use crate::{
    catalogue::Incarnation,
    class::{Admitted, ClassNumber},
    evict::LaneIndex,
    page_set::BLOCK,
};

/// What a block of a slab is charged: itself, and its part of the file system's own map, were
/// every block an extent of its own and the map's blocks half full.
pub(super) const BLOCK_CHARGE: u64 = BLOCK + 32;
/// The first block of the file system's own map.
const MAP_CHARGE: u64 = BLOCK;
/// What a slab is charged in which nothing lies.
pub(super) const EMPTY_CHARGE: u64 = MAP_CHARGE + BLOCK_CHARGE;
/// So many freed slots of a class are remembered; others are found by looking through a slab.
const FREED_MAX: usize = 1024;
/// So many slabs at most: numbers have 31 bits, and the last of them all stands for none.
const SLABS_MAX: u32 = (1 << (31 - SLOTS_MAX.ilog2())) - 1;

/// Who a small file is: the number of its slab in memory, and the slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(pub(crate) u32);

impl Number {
    pub(super) fn new(slab: u32, slot: u32) -> Self {
        Self(slab * SLOTS_MAX + slot)
    }

    pub(crate) fn slab(self) -> u32 {
        self.0 / SLOTS_MAX
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 % SLOTS_MAX
    }
}

/// What is kept for a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    content: Key,
    checksum: u32,
    length_less_one: u16,
    /// Who holds it, and the flags.
    holds: u16,
}

/// Set until the file is taken out.
const LISTED: u16 = 1 << 15;
/// Set when a removed file's entry is cleared and only readers keep the slot.
const WAITING: u16 = 1 << 14;
const HOLDS_MAX: u16 = WAITING - 1;

impl Small {
    const NONE: Self = Self { content: [0; 2], checksum: 0, length_less_one: 0, holds: 0 };

    pub(super) fn content(&self) -> Key {
        self.content
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            content: Names::content(self.content),
            length: u32::from(self.length_less_one) + 1,
            checksum: self.checksum,
            origin: Stamp::default(),
        }
    }

    /// Whether a file lies here that was not taken out.
    pub(super) fn is_listed(&self) -> bool {
        self.holds & LISTED != 0
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.holds & WAITING != 0
    }

    pub(super) fn is_held(&self) -> bool {
        self.holds & HOLDS_MAX != 0
    }

    /// One holder more; `false` when there are too many already.
    pub(super) fn hold(&mut self) -> bool {
        let fits = self.holds & HOLDS_MAX < HOLDS_MAX;
        self.holds += u16::from(fits);
        fits
    }

    pub(super) fn let_go(&mut self) {
        self.holds -= 1;
    }

    pub(super) fn wait_for_readers(&mut self) {
        self.holds |= WAITING;
    }

    pub(super) fn stop_waiting(&mut self) {
        self.holds &= !WAITING;
    }
}

/// One slab.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) directory: LaneIndex,
    /// The number in its name.
    pub(super) name: u64,
    pub(super) header: Header,
    pub(super) incarnation: Incarnation,
    pub(super) slots: Slots,
    pub(super) files: Box<[Small]>,
    /// The class of each file, once one has a class.
    classes: Option<Box<[(ClassNumber, Admitted)]>>,
    /// Holds of readers, and whoever writes or frees slots.
    pub(super) busy: u32,
    /// Its file is gone, or about to: nobody is given a slot.
    pub(super) leaving: bool,
}

impl Slab {
    pub(super) fn class(&self) -> Class {
        self.header.class
    }

    /// Whether any file here has, or had, a class.
    pub(super) fn has_classes(&self) -> bool {
        self.classes.is_some()
    }

    pub(super) fn charge(&self) -> u64 {
        MAP_CHARGE + u64::from(self.slots.charged_blocks()) * BLOCK_CHARGE
    }
}

/// A slab that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSlab {
    pub(crate) directory: LaneIndex,
    pub(crate) name: u64,
    pub(crate) header: Header,
    pub(crate) incarnation: Incarnation,
}

/// The slabs of one directory.
#[derive(Debug)]
struct LaneSlabs {
    /// Slabs with a free slot, by class.
    open: [BTreeSet<u32>; CLASSES],
    freed: [Vec<Number>; CLASSES],
    /// What they are charged.
    taken: u64,
    /// The highest number in a name.
    name: u64,
}

impl LaneSlabs {
    fn new() -> Self {
        Self {
            open: std::array::from_fn(|_| BTreeSet::new()),
            freed: std::array::from_fn(|_| Vec::new()),
            taken: 0,
            name: 0,
        }
    }
}

/// The slabs of all directories.
#[derive(Debug, Default)]
pub(crate) struct Shelves {
    slabs: Vec<Option<Slab>>,
    slabs_free: Vec<u32>,
    /// Slabs that left and are still used.
    leaving: u32,
    lanes: Vec<LaneSlabs>,
    names: Names,
    /// Slots whose last reader is done.
    pub(super) vacated: Vec<Number>,
}

impl Shelves {
    /// One more directory, at the end.
    pub(crate) fn add_lane(&mut self) {
        self.lanes.push(LaneSlabs::new());
    }

    pub(super) fn get(&self, at: u32) -> Option<&Slab> {
        self.slabs.get(at as usize)?.as_ref()
    }

    pub(super) fn slab(&self, at: u32) -> &Slab {
        self.slabs[at as usize].as_ref().expect("a slab stays while anything lies in it")
    }

    pub(super) fn slab_mut(&mut self, at: u32) -> &mut Slab {
        self.slabs[at as usize].as_mut().expect("a slab stays while anything lies in it")
    }

    pub(super) fn small(&self, number: Number) -> &Small {
        &self.slab(number.slab()).files[number.slot() as usize]
    }

    pub(super) fn small_mut(&mut self, number: Number) -> &mut Small {
        &mut self.slab_mut(number.slab()).files[number.slot() as usize]
    }

    /// The class of a file, and when it came in if it has one.
    pub(super) fn class_of(&self, number: Number) -> (ClassNumber, Admitted) {
        let classes = self.slab(number.slab()).classes.as_ref();
        classes.map_or((ClassNumber::NONE, Admitted::default()), |classes| {
            classes[number.slot() as usize]
        })
    }

    pub(super) fn set_class_of(&mut self, number: Number, class: (ClassNumber, Admitted)) {
        let slab = self.slab_mut(number.slab());
        if slab.classes.is_none() && class.0 != ClassNumber::NONE {
            let none = (ClassNumber::NONE, Admitted::default());
            slab.classes = Some(vec![none; slab.files.len()].into());
        }
        if let Some(classes) = &mut slab.classes {
            classes[number.slot() as usize] = class;
        }
    }

    /// Whether a reader has the file.
    pub(crate) fn is_held(&self, number: Number) -> bool {
        self.small(number).is_held()
    }

    /// The small file with this content.
    pub(super) fn find(&self, content: ContentId) -> Option<Number> {
        self.names
            .find(Names::key(content), |number| self.small(Number(number)).content)
            .map(Number)
    }

    /// Slabs of a directory whose files are there, at or behind `from`.
    pub(super) fn next_of(&self, directory: LaneIndex, from: u32) -> Option<u32> {
        let here = |slab: &Slab| slab.directory == directory && !slab.leaving;
        (from..)
            .zip(self.slabs.get(from as usize..)?)
            .find_map(|(at, slab)| slab.as_ref().is_some_and(here).then_some(at))
    }

    /// Whether a slab of this name left while readers still hold it.
    pub(super) fn is_leaving(&self, directory: LaneIndex, name: u64) -> bool {
        let it = |slab: &Slab| slab.leaving && slab.directory == directory && slab.name == name;
        self.leaving > 0 && self.slabs.iter().flatten().any(it)
    }

    /// What the slabs of a directory are charged.
    pub(crate) fn taken(&self, directory: LaneIndex) -> u64 {
        self.lanes[directory.0 as usize].taken
    }

    /// This name is taken, by whatever.
    pub(super) fn note_name(&mut self, directory: LaneIndex, name: u64) {
        let known = &mut self.lanes[directory.0 as usize].name;
        *known = (*known).max(name);
    }

    /// A name for a new slab.
    pub(super) fn name(&mut self, directory: LaneIndex) -> u64 {
        let name = &mut self.lanes[directory.0 as usize].name;
        *name += 1;
        *name
    }

    /// Enters a slab in which nothing lies yet; `None` when there are too many.
    pub(super) fn add(&mut self, new: NewSlab) -> Option<u32> {
        fail::fail_point!("pages::slabs_max", |_| None);
        let at = match self.slabs_free.pop() {
            Some(at) => at,
            None => u32::try_from(self.slabs.len()).ok().filter(|at| *at < SLABS_MAX)?,
        };
        let class = new.header.class;
        let slab = Slab {
            directory: new.directory,
            name: new.name,
            header: new.header,
            incarnation: new.incarnation,
            slots: Slots::new(class),
            files: vec![Small::NONE; class.slots() as usize].into(),
            classes: None,
            busy: 0,
            leaving: false,
        };
        let lane = &mut self.lanes[new.directory.0 as usize];
        lane.name = lane.name.max(new.name);
        lane.taken += slab.charge();
        lane.open[usize::from(class.number())].insert(at);
        match self.slabs.get_mut(at as usize) {
            Some(free) => *free = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        Some(at)
    }

    /// A free slot of the class, and what giving it out would charge.
    pub(super) fn find_free(
        &mut self,
        directory: LaneIndex,
        class: Class,
    ) -> Option<(Number, u64)> {
        let of = usize::from(class.number());
        while let Some(number) = self.lanes[directory.0 as usize].freed[of].pop() {
            // The slab may have gone and its number may be another's by now.
            let slab = self.get(number.slab()).filter(|slab| {
                slab.directory == directory && slab.class() == class && !slab.leaving
            });
            let is_ready = |slab: &Slab| {
                slab.slots.is_free(number.slot()) && slab.slots.cost(number.slot()) == 0
            };
            if slab.is_some_and(is_ready) {
                return Some((number, 0));
            }
        }
        while let Some(at) = self.lanes[directory.0 as usize].open[of].first().copied() {
            let slots = &mut self.slab_mut(at).slots;
            if let Some(slot) = slots.first_free() {
                let cost = u64::from(slots.cost(slot)) * BLOCK_CHARGE;
                return Some((Number::new(at, slot), cost));
            }
            self.lanes[directory.0 as usize].open[of].remove(&at);
        }
        None
    }

    /// Gives out a slot; returns what that charges.
    pub(super) fn take(&mut self, number: Number) -> u64 {
        let before = self.slab(number.slab()).charge();
        self.change(number.slab(), |slots| slots.take(number.slot()));
        self.slab(number.slab()).charge() - before
    }

    /// Takes slots back; their blocks stay charged.
    pub(super) fn vacate(&mut self, at: u32, range: Range<u32>) {
        self.change(at, |slots| slots.vacate(range.clone()));
        let slab = self.slab_mut(at);
        let (lane, of) = (slab.directory.0 as usize, usize::from(slab.class().number()));
        for slot in range {
            self.slab_mut(at).files[slot as usize] = Small::NONE;
            let freed = &mut self.lanes[lane].freed[of];
            if freed.len() < FREED_MAX {
                freed.push(Number::new(at, slot));
            }
        }
    }

    /// Changes the slots of a slab and keeps the sums of its directory.
    pub(super) fn change<T>(&mut self, at: u32, change: impl FnOnce(&mut Slots) -> T) -> T {
        let slab = self.slabs[at as usize].as_mut().expect("a slab stays while it is used");
        let before = slab.charge();
        let changed = change(&mut slab.slots);
        let lane = &mut self.lanes[slab.directory.0 as usize];
        lane.taken = lane.taken + slab.charge() - before;
        let open = &mut lane.open[usize::from(slab.class().number())];
        if slab.slots.is_full() {
            open.remove(&at);
        } else if !slab.leaving {
            open.insert(at);
        }
        changed
    }

    /// Bytes of blocks that are no longer charged.
    pub(super) fn uncharge(&mut self, at: u32, blocks: Range<u32>) -> u64 {
        u64::from(self.change(at, |slots| slots.uncharge(blocks))) * BLOCK_CHARGE
    }

    /// A file lies in this slot from now on; it is not found by its content yet.
    pub(super) fn note(&mut self, number: Number, entry: Entry) {
        let length_less_one = u16::try_from(entry.length.saturating_sub(1));
        *self.small_mut(number) = Small {
            content: Names::key(entry.content),
            checksum: entry.checksum,
            length_less_one: length_less_one.expect("a small file has at most 64 KiB"),
            holds: LISTED,
        };
    }

    /// A file is found by its content from now on; no other has that content.
    pub(super) fn list(&mut self, number: Number) {
        self.list_as(self.small(number).content, number);
    }

    /// The same for who knows the content, which lies far away.
    pub(super) fn list_as(&mut self, content: Key, number: Number) {
        let slabs = &self.slabs;
        self.names.insert(content, number.0, |number| content_in(slabs, number));
    }

    /// Makes room in some tables for their part of so many more that are found by their contents.
    pub(super) fn reserve_names(&mut self, tables: Range<usize>, more: usize) {
        let slabs = &self.slabs;
        self.names.reserve(tables, more, |number| content_in(slabs, number));
    }

    /// A slot's file is not found any more.
    pub(super) fn unlist(&mut self, number: Number) {
        let small = self.small_mut(number);
        small.holds &= !LISTED;
        let content = small.content;
        self.names.remove(content, number.0);
    }

    /// Nobody is given a slot of this slab any more.
    pub(super) fn leave(&mut self, at: u32) {
        let slab = self.slab_mut(at);
        slab.leaving = true;
        let (lane, of) = (slab.directory.0 as usize, usize::from(slab.class().number()));
        self.lanes[lane].open[of].remove(&at);
        self.leaving += 1;
    }

    /// A slab that was left and that nobody uses is forgotten; returns the bytes it was charged.
    pub(super) fn forget(&mut self, at: u32) -> u64 {
        let Some(gone) = self.slabs[at as usize].take() else { return 0 };
        let bytes = gone.charge();
        self.slabs_free.push(at);
        self.leaving -= u32::from(gone.leaving);
        self.lanes[gone.directory.0 as usize].taken -= bytes;
        bytes
    }
}

fn content_in(slabs: &[Option<Slab>], number: u32) -> Key {
    let number = Number(number);
    let slab = slabs[number.slab() as usize].as_ref().expect("a listed file's slab is there");
    slab.files[number.slot() as usize].content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_takes_24_bytes_in_its_slab() {
        assert_eq!(size_of::<Small>(), 24);
    }

    fn shelves(class: Class) -> Shelves {
        let mut shelves = Shelves::default();
        shelves.add_lane();
        let directory = LaneIndex(0);
        let name = shelves.name(directory);
        let header = Header { class, random: 1 };
        shelves.add(NewSlab { directory, name, header, incarnation: Incarnation(1) }).unwrap();
        shelves
    }

    #[test]
    fn a_freed_slot_that_costs_nothing_is_given_out_first() {
        let class = Class::of(1000).unwrap();
        let mut shelves = shelves(class);
        for slot in 0..6 {
            let (number, cost) = shelves.find_free(LaneIndex(0), class).unwrap();
            assert_eq!((number.slab(), number.slot()), (0, slot));
            assert_eq!(shelves.take(number), cost);
        }
        assert_eq!(shelves.taken(LaneIndex(0)), EMPTY_CHARGE + 2 * BLOCK_CHARGE);
        shelves.vacate(0, 0..1);
        shelves.vacate(0, 4..5);
        assert_eq!(shelves.find_free(LaneIndex(0), class), Some((Number::new(0, 4), 0)));
        shelves.leave(0);
        assert_eq!(shelves.find_free(LaneIndex(0), class), None);
        assert_eq!(shelves.forget(0), EMPTY_CHARGE + 2 * BLOCK_CHARGE);
        assert_eq!(shelves.taken(LaneIndex(0)), 0);
    }

    #[test]
    fn files_are_found_by_content_while_they_are_listed() {
        let class = Class::of(600).unwrap();
        let mut shelves = shelves(class);
        let entry = |content| Entry {
            content: ContentId(content),
            length: 600,
            checksum: 7,
            origin: Stamp::default(),
        };
        let numbers: Vec<Number> = (0..3_000_u32).map(|slot| Number::new(0, slot)).collect();
        for (content, number) in (1..).zip(&numbers) {
            shelves.take(*number);
            shelves.note(*number, entry(content));
            shelves.list(*number);
        }
        for (content, number) in (1..).zip(&numbers) {
            assert_eq!(shelves.find(ContentId(content)), Some(*number));
            assert_eq!(shelves.small(*number).entry(), entry(content));
        }
        shelves.unlist(numbers[0]);
        assert_eq!(shelves.find(ContentId(1)), None);
        assert_eq!(shelves.find(ContentId(2)), Some(numbers[1]));
        let small = shelves.small_mut(numbers[1]);
        assert!(small.hold() && small.is_held() && small.is_listed());
        small.let_go();
        assert!(!small.is_held());
    }
}
