// SPDX-License-Identifier: Apache-2.0
//! Small files on their way into slabs, many at a time: neighbouring slots are written by one
//! call, then their entries by one, and only then are they shown to readers.
//!
//! A slot that is written again keeps the entry of what lay there before until the new one is
//! written: should the process die between, that entry's checksum does not fit the new bytes.

use std::{fs::File, io};

use larder_core::{Random, UnixMillis};

use super::{Queued, place};
use crate::{
    NewPage, NotKept, PutOutcome, backing,
    class::Admitted,
    evict::LaneIndex,
    segment::Candidate,
    shelf::{Shelf, lock},
    slab::{
        self, Class, ENTRY_BYTES, Entered, Entry, Header, Number, SlabFile, SlabRoom, Stamp, Taken,
    },
};

/// As for segments.
const EVICTIONS_MAX: u32 = 4096;
/// A content may move under a fill's feet so many times.
const PLACINGS_MAX: u32 = 4;
/// Fills what is left of a slot before the next one, in the same call.
static PADDING: [u8; 8192] = [0; 8192];

/// A slot that goes back unless a file is listed there.
struct Reserved<'a> {
    shelf: &'a Shelf,
    number: Number,
    listed: bool,
    _room: place::ClassRoom<'a>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.listed {
            let freeing = self.shelf.catalogue().give_slot_back(self.number);
            self.shelf.free_slots(freeing);
        }
    }
}

/// A file with the slot it gets.
struct Placed<'a> {
    slot: Reserved<'a>,
    queued: Queued,
}

/// Writes small files. One whose slab went meanwhile is placed again.
pub(super) fn fill(shelf: &Shelf, mut files: Vec<Queued>) {
    for _ in 0..PLACINGS_MAX {
        files = place_and_write(shelf, files);
        if files.is_empty() {
            return;
        }
    }
    files.into_iter().for_each(|queued| tell_not_kept(shelf, queued, NotKept::DiskFault));
}

/// Returns those whose slab went before they were listed there.
fn place_and_write(shelf: &Shelf, files: Vec<Queued>) -> Vec<Queued> {
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(files.len());
    let mut again = Vec::new();
    for queued in files {
        let mut slot = place(shelf, &queued.page);
        // What takes the quota may be those that were placed before it: once they are listed, they
        // can go.
        if matches!(slot, Err(NotKept::QuotaFull)) && !placed.is_empty() {
            again.extend(write_all(shelf, std::mem::take(&mut placed)));
            slot = place(shelf, &queued.page);
        }
        match slot {
            Ok(Some(slot)) => placed.push(Placed { slot, queued }),
            Ok(None) => queued.tell(PutOutcome::Kept),
            Err(reason) => tell_not_kept(shelf, queued, reason),
        }
    }
    again.extend(write_all(shelf, placed));
    again
}

/// Writes files that have their slots; returns as [`place_and_write`].
fn write_all(shelf: &Shelf, mut placed: Vec<Placed<'_>>) -> Vec<Queued> {
    placed.sort_unstable_by_key(|placed| placed.slot.number);
    let mut opened = None;
    let mut again = Vec::new();
    let mut run: Vec<Placed<'_>> = Vec::new();
    for next in placed {
        if run.last().is_some_and(|last| !follows(last.slot.number, next.slot.number)) {
            again.extend(finish(shelf, std::mem::take(&mut run), &mut opened));
        }
        run.push(next);
    }
    again.extend(finish(shelf, run, &mut opened));
    again
}

fn follows(before: Number, next: Number) -> bool {
    before.slab() == next.slab() && before.slot() + 1 == next.slot()
}

fn tell_not_kept(shelf: &Shelf, queued: Queued, reason: NotKept) {
    shelf.metrics.pages_not_kept.inc();
    queued.tell(PutOutcome::NotKept(reason));
}

/// Finds a slot for a file; `None` when it is here already.
fn place<'a>(shelf: &'a Shelf, page: &NewPage) -> Result<Option<Reserved<'a>>, NotKept> {
    let class = Class::of(page.length).ok_or(NotKept::Invalid)?;
    for _ in 0..PLACINGS_MAX {
        match standing(shelf, page) {
            Standing::Here => return Ok(None),
            Standing::InTheWay => clear_the_way(shelf, page),
            Standing::New(None) => return Err(NotKept::DiskFault),
            Standing::New(Some(directory)) => {
                let room = place::reserve_class(shelf, page.class, class.slot_bytes())?;
                let number = reserve(shelf, directory, class)?;
                return Ok(Some(Reserved { shelf, number, listed: false, _room: room }));
            }
        }
    }
    Err(NotKept::NoRoom)
}

/// What is known of a content that is to be kept.
enum Standing {
    Here,
    /// With another length, or where nothing can be read.
    InTheWay,
    /// Nothing; it goes to this directory, if any takes it.
    New(Option<LaneIndex>),
}

fn standing(shelf: &Shelf, page: &NewPage) -> Standing {
    let (content, length) = (page.content, page.length);
    let catalogue = shelf.catalogue();
    // Before there were slabs, a small file had a backing file like any other.
    let has_file = |(_, pages): &(_, crate::page_set::PageSet)| pages.contains(0);
    if catalogue.small_readable(content, length).is_some()
        || (catalogue.find_readable(content, length).is_some()
            && catalogue.segments(content).first().is_some_and(has_file))
    {
        return Standing::Here;
    }
    if catalogue.small(content).is_some() || catalogue.find(content).is_some() {
        return Standing::InTheWay;
    }
    Standing::New(place::choose(shelf, &catalogue, content))
}

/// Takes out what is here of a content: the newer word counts.
fn clear_the_way(shelf: &Shelf, page: &NewPage) {
    let _stripe = shelf.stripe(page.content);
    let on_faulty = {
        let mut catalogue = shelf.catalogue();
        let found = catalogue.find(page.content);
        found.is_some_and(|found| catalogue.lane(found.directory).fault.is_some())
    };
    if on_faulty {
        shelf.forget_content(page.content);
    } else if let Err(error) = shelf.remove_content(page.content) {
        tracing::warn!(%error, "could not remove what was there of a content");
    }
}

/// Takes a slot in a directory, evicting just enough.
fn reserve(shelf: &Shelf, directory: LaneIndex, class: Class) -> Result<Number, NotKept> {
    for _ in 0..EVICTIONS_MAX {
        let taken = {
            let mut catalogue = shelf.catalogue();
            if !catalogue.lane(directory).takes_pages() {
                return Err(NotKept::DiskFault);
            }
            catalogue.take_slot(directory, class)
        };
        let taken = match taken {
            Taken::NoSlab => make_slab(shelf, directory, class)?,
            taken => taken,
        };
        match taken {
            Taken::Slot(number) => return Ok(number),
            Taken::NoRoom(cost) => {
                if let Some(number) = make_room(shelf, directory, (class, cost))? {
                    return Ok(number);
                }
            }
            Taken::NoSlab => return Err(NotKept::NoRoom),
        }
    }
    Err(NotKept::NoRoom)
}

/// Evicts what should go next. If that is a file of the same class, its slot is the one.
fn make_room(
    shelf: &Shelf,
    directory: LaneIndex,
    (class, cost): (Class, u64),
) -> Result<Option<Number>, NotKept> {
    let mut catalogue = shelf.catalogue();
    if !catalogue.lane(directory).quota.can_make_room(cost) {
        return Err(NotKept::NoRoom);
    }
    let candidate = catalogue.candidate(directory, None).ok_or(NotKept::NoRoom)?;
    if let Candidate::Small(number) = candidate
        && catalogue.slab_file(number.slab()).header.class == class
    {
        catalogue.reuse_small(number);
        shelf.metrics.pages_evicted.inc();
        return Ok(Some(number));
    }
    drop(catalogue);
    shelf.evict(candidate);
    Ok(None)
}

/// Makes a slab and takes its first slot; another thread may have made one meanwhile.
fn make_slab(shelf: &Shelf, directory: LaneIndex, class: Class) -> Result<Taken, NotKept> {
    let _making = lock(&shelf.directories[usize::from(directory.0)].making);
    let header = Header { class, random: Random::new().next() };
    let new = {
        let mut catalogue = shelf.catalogue();
        // A drain may have come to its end while another slab was made.
        if !catalogue.lane(directory).takes_pages() {
            return Err(NotKept::DiskFault);
        }
        match catalogue.take_slot(directory, class) {
            Taken::NoSlab => {}
            taken => return Ok(taken),
        }
        match catalogue.begin_slab(directory, header) {
            SlabRoom::New(new) => new,
            SlabRoom::NoRoom(cost) => return Ok(Taken::NoRoom(cost)),
        }
    };
    let made = slab::create(shelf.root(directory), new.name, &header);
    let number = shelf.catalogue().finish_slab(new, made.is_ok());
    match (made, number) {
        (Ok(()), Some(number)) => Ok(Taken::Slot(number)),
        (Ok(()), None) => {
            // There are too many already, and nobody knows of this one.
            if let Err(error) = slab::unlink(shelf.root(directory), new.name) {
                shelf.fault(directory, &error);
            }
            Err(NotKept::NoRoom)
        }
        (Err(error), _) => Err(place::judge(shelf, directory, &error, class.slot_bytes())),
    }
}

/// The slab that was opened last.
type Opened = Option<(SlabFile, File)>;

/// Writes files that lie side by side, and shows them. Returns those whose slab went meanwhile:
/// its file is lost, or its directory is being emptied.
fn finish(shelf: &Shelf, mut run: Vec<Placed<'_>>, opened: &mut Opened) -> Vec<Queued> {
    let Some(first) = run.first() else { return Vec::new() };
    let slab = shelf.catalogue().slab_file(first.slot.number.slab());
    let cost = run.len() as u64 * slab.header.class.slot_bytes();
    match write(shelf, slab, &run, opened) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Before anybody takes a slot again, for there it would be met again.
            shelf.drop_lost_slab(&slab);
            return run.into_iter().map(|placed| placed.queued).collect();
        }
        Err(error) => {
            let reason = place::judge(shelf, slab.directory, &error, cost);
            for Placed { slot, queued } in run {
                // First, so that who is told finds the room free.
                drop(slot);
                tell_not_kept(shelf, queued, reason);
            }
            return Vec::new();
        }
    }
    let now = shelf.clock.now();
    let entered: Vec<Entered> = {
        let mut catalogue = shelf.catalogue();
        catalogue.lane(slab.directory).quota.disk_was_fine(cost);
        let enter = |placed: &mut Placed<'_>| {
            let page = &placed.queued.page;
            let entered = catalogue.enter_small(placed.slot.number, entry(page, now), page.class);
            placed.slot.listed = entered == Entered::Listed;
            entered
        };
        run.iter_mut().map(enter).collect()
    };
    let mut again = Vec::new();
    for (Placed { slot, queued }, entered) in run.into_iter().zip(entered) {
        drop(slot);
        match entered {
            Entered::Listed => {
                shelf.metrics.pages_filled.inc();
                queued.tell(PutOutcome::Kept);
            }
            Entered::Twin => queued.tell(PutOutcome::Kept),
            Entered::Gone => again.push(queued),
        }
    }
    again
}

fn write(shelf: &Shelf, slab: SlabFile, run: &[Placed<'_>], opened: &mut Opened) -> io::Result<()> {
    let Some(first) = run.first().map(|placed| placed.slot.number.slot()) else { return Ok(()) };
    if opened.as_ref().is_none_or(|(known, _)| *known != slab) {
        let file = slab::open_for_writing(shelf.root(slab.directory), slab.name)?;
        *opened = Some((slab, file));
    }
    let Some((_, file)) = opened else { return Ok(()) };
    let class = slab.header.class;
    let now = shelf.clock.now();
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut entries = Vec::with_capacity(run.len() * ENTRY_BYTES as usize);
    for (nth, placed) in run.iter().enumerate() {
        let page = &placed.queued.page;
        parts.extend(page.bytes.parts());
        if nth + 1 < run.len() {
            parts.push(&PADDING[..(class.slot_bytes() - page.length) as usize]);
        }
        entries.extend(entry(page, now).encode(&slab.header, placed.slot.number.slot()));
    }
    backing::write(file, class.slot_offset(first), &parts)?;
    slab::write_entries(file, first, &entries)
}

fn entry(page: &NewPage, now: UnixMillis) -> Entry {
    let length = u32::try_from(page.length).expect("a small file has at most 64 KiB");
    let origin = match page.class {
        crate::Class::NONE => Stamp::default(),
        class => Stamp { class: class.end(), admitted: Admitted::at(now) },
    };
    Entry { content: page.content, length, checksum: page.checksum, origin }
}
