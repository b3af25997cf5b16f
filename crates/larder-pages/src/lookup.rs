// SPDX-License-Identifier: Apache-2.0
//! How a range is answered: which of its bytes lie here, as extents, and which do not.
//!
//! Segment by segment: pin (one short lock), fetch the decoded record and the descriptor (both
//! cached), join consecutive pages. Whatever goes wrong on the way is a gap, never an error; the
//! fill threads are asked for a second look.

use std::{any::Any, fs::File, ops::Range, sync::Arc};

use larder_core::{
    ByteRange, ContentId, Extent, PAGE_SIZE, SEGMENT_PAGES, SEGMENT_SIZE, SegmentIndex, Validity,
    page::{EXTENT_PAGES, FILE_LENGTH_MAX, pages_of},
};

use crate::{
    IndexKey, Piece, Presence,
    page_set::PageSet,
    pin::Pin,
    record::Record,
    recover,
    segment::Found,
    shelf::{Shelf, Trouble},
    slab,
};

/// Why a range is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Somebody reads it.
    Read,
    /// Somebody wants to know what is here: that is no use of it.
    Look,
}

/// Answers one range.
pub(crate) fn get(
    shelf: &Shelf,
    (content, length): (ContentId, u64),
    range: ByteRange,
    purpose: Purpose,
) -> Vec<Piece> {
    let mut answer = Answer::default();
    let Some(range) = range.overlap(ByteRange { start: 0, end: length }) else {
        return answer.pieces;
    };
    if shelf.is_closed() || length > FILE_LENGTH_MAX {
        answer.gap(range);
        return answer.pieces;
    }
    if let Some(piece) = slab::get(shelf, (content, length), range, purpose) {
        return vec![piece];
    }
    let pages = pages_of(range);
    let segments = pages.start / SEGMENT_PAGES..(pages.end - 1) / SEGMENT_PAGES + 1;
    for segment in segments {
        let first = segment * SEGMENT_PAGES;
        let window = pages.start.max(first) - first..(pages.end - first).min(SEGMENT_PAGES);
        let key = IndexKey { content, segment: SegmentIndex(segment) };
        let whole = bytes_of(first, &window, length);
        let asked = whole.overlap(range).unwrap_or(whole);
        let wanted = Wanted { key, length, window, asked };
        match wanted.pin(shelf, purpose) {
            Ok(resident) => answer.segment(&wanted, &resident),
            Err(Absent::Segment) => answer.gap(asked),
            Err(Absent::Content) => {
                answer.gap(ByteRange { start: asked.start, end: range.end });
                break;
            }
        }
    }
    answer.pieces
}

/// What is asked of one segment.
struct Wanted {
    key: IndexKey,
    length: u64,
    /// Pages of the segment.
    window: Range<u32>,
    /// Bytes of the content.
    asked: ByteRange,
}

/// How much is surely not here.
enum Absent {
    Segment,
    Content,
}

/// A pinned segment with all that it takes to read it.
struct Resident {
    file: Arc<File>,
    record: Arc<Record>,
    hold: Arc<dyn Any + Send + Sync>,
    validity: Option<Validity>,
    pages: PageSet,
}

impl Wanted {
    fn pin(&self, shelf: &Shelf, purpose: Purpose) -> Result<Resident, Absent> {
        let key = self.key;
        let mut catalogue = shelf.catalogue();
        if catalogue.loading && catalogue.pages(key).is_empty() {
            drop(catalogue);
            recover::load_one(shelf, key);
            catalogue = shelf.catalogue();
        }
        let loading = catalogue.loading;
        let Some(found) = catalogue.find_readable(key.content, self.length) else {
            return Err(if loading { Absent::Segment } else { Absent::Content });
        };
        let pinned = catalogue.pin(key, self.window.clone(), purpose).ok_or(Absent::Segment)?;
        let validity = catalogue.validity(key.content, found.class);
        drop(catalogue);
        let hold = Pin::new(shelf, pinned.slot);
        let file = self.file(shelf, found)?;
        let record = shelf.record(key, &pinned.pages).unwrap_or_else(|error| {
            tracing::warn!(%error, "could not read a segment's record; taking it for a miss");
            None
        });
        let record = record.filter(|record| record.length == self.length);
        let Some(record) = record else {
            shelf.queue.check(key);
            return Err(Absent::Segment);
        };
        let pages = pinned.pages.and(&record.pages());
        if pages != pinned.pages {
            shelf.queue.check(key);
        }
        Ok(Resident { file, record, hold: Arc::new(hold), validity, pages })
    }

    fn file(&self, shelf: &Shelf, found: Found) -> Result<Arc<File>, Absent> {
        shelf.descriptor(self.key.content, found).map_err(|error| {
            if Trouble::of(&error) == Trouble::Broken {
                shelf.fault(found.directory, &error);
            } else {
                tracing::debug!(%error, "could not open a backing file; taking it for a miss");
                shelf.queue.check(self.key);
            }
            Absent::Segment
        })
    }
}

/// The pieces so far.
#[derive(Default)]
struct Answer {
    pieces: Vec<Piece>,
}

impl Answer {
    fn segment(&mut self, wanted: &Wanted, resident: &Resident) {
        let first = wanted.key.segment.first_page().0;
        let mut at = wanted.asked.start;
        for run in resident.pages.runs(EXTENT_PAGES) {
            let range = bytes_of(first, &run, wanted.length);
            let Some(part) = range.overlap(wanted.asked) else { continue };
            self.gap(ByteRange { start: at, end: part.start });
            at = part.end;
            let extent = Extent {
                file: Arc::clone(&resident.file),
                offset: range.start,
                range,
                checksums: resident.record.checksums(run).into(),
                hold: Some(Arc::clone(&resident.hold)),
                validity: resident.validity.clone(),
            };
            self.pieces.push(Piece::Resident { extent, part });
        }
        self.gap(ByteRange { start: at, end: wanted.asked.end });
    }

    /// Adds a gap, joined with one that ends where it starts.
    fn gap(&mut self, gap: ByteRange) {
        if gap.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Gap(before)) if before.end == gap.start => before.end = gap.end,
            _ => self.pieces.push(Piece::Gap(gap)),
        }
    }
}

/// The bytes of pages of a segment whose first page is `first`, cut at the end of the content.
fn bytes_of(first: u32, pages: &Range<u32>, length: u64) -> ByteRange {
    let start = u64::from(first + pages.start) * PAGE_SIZE;
    let end = (u64::from(first) + u64::from(pages.end)) * PAGE_SIZE;
    ByteRange { start: start.min(length), end: end.min(length) }
}

/// How much of a content is resident.
pub(crate) fn presence(shelf: &Shelf, content: ContentId, length: u64) -> Presence {
    let mut presence = Presence::default();
    if shelf.is_closed() || length > FILE_LENGTH_MAX {
        return presence;
    }
    if slab::is_here(shelf, content, length) {
        return Presence { pages: 1, bytes: length };
    }
    if shelf.catalogue().loading {
        let segments = length.div_ceil(SEGMENT_SIZE) as u32;
        for segment in 0..segments {
            recover::load_one(shelf, IndexKey { content, segment: SegmentIndex(segment) });
        }
    }
    let catalogue = shelf.catalogue();
    if catalogue.find_readable(content, length).is_none() {
        return presence;
    }
    for (segment, pages) in catalogue.segments(content) {
        presence.pages += pages.count();
        for run in pages.runs(SEGMENT_PAGES) {
            presence.bytes += bytes_of(segment.first_page().0, &run, length).length();
        }
    }
    presence
}
