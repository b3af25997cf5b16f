// SPDX-License-Identifier: Apache-2.0
//! The scrubber: reads what is resident again at a set rate, so that rot is found before a reader
//! meets it, and dropped (the next read fetches those pages anew).
//!
//! One thread per directory. A pass goes through the contents by their names and the slabs by
//! their numbers, in 256 shares; the share reached and the time of the last whole pass are kept in
//! the directory, so a restart repeats a share at most. Pages are read from the medium past the
//! page cache: what lies in memory would hide rot, and what readers have there stays. A page that
//! is not what its record says is only suspect, for it may just be changing; [`scrub::verify`]
//! then judges it under its content's lock.
//!
//! Readers and fills go first: while there are any, each step is followed by a longer rest, but
//! only so much longer, so that a pass takes at most [`YIELD_FACTOR`] and one times as long as it
//! takes alone. Nothing is scrubbed where nothing is written: on a directory out of service, being
//! drained, or being compared with its records.

use std::{
    io::{self, ErrorKind},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use larder_core::{ByteSize, ContentId, PAGE_SIZE, PageIndex, Result, UnixMillis, crc32c};

use crate::{
    IndexKey, backing,
    evict::LaneIndex,
    open,
    page_set::PageSet,
    pin::Pin,
    record::Record,
    scrub,
    shelf::{Shelf, Trouble},
    slab::{SmallPlace, Visit},
};

/// Contents are visited in so many shares, by the first byte of their names, and slabs by their
/// numbers.
const SHARES: u16 = 256;
/// Contents are gathered in batches of this many slots of the catalogue.
const WINDOW: usize = 1024;
/// The most pages read in one step: 1 MiB.
const STEP_PAGES: u32 = 16;
/// While others use the disk, a step's rest is at most so many times longer.
const YIELD_FACTOR: u32 = 3;
/// How long to wait before looking again whether others still use the disk.
const YIELD_STEP: Duration = Duration::from_millis(50);
/// How often a directory that can't be scrubbed now is looked at.
const IDLE_REST: Duration = Duration::from_secs(1);
/// How far the scrubber is, is written down at most so often.
const NOTE_INTERVAL: Duration = Duration::from_secs(30);

/// How pages that nobody reads are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrub {
    /// Bytes read again from each directory in a second; 0: none.
    pub bytes_per_second: ByteSize,
    /// From the beginning of one pass to that of the next at least.
    pub pass_interval: Duration,
}

impl Default for Scrub {
    /// Off.
    fn default() -> Self {
        Self { bytes_per_second: ByteSize(0), pass_interval: Duration::from_secs(3600) }
    }
}

impl Scrub {
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_per_second.0 > 0
    }

    /// How long to rest after reading `bytes`. A small read costs a disk about as much as a page.
    fn rest(&self, bytes: u64) -> Duration {
        let bytes = bytes.max(PAGE_SIZE);
        let seconds = bytes as f64 / self.bytes_per_second.0.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// How far the scrubber of one directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// How much of the present pass is done, in 256ths.
    pub shares_done: u16,
    /// When the last whole pass ended.
    pub passed: Option<UnixMillis>,
    /// Pages found rotten and dropped since the process started.
    pub rotten: u64,
}

/// Starts the scrubber of a directory, unless it is off.
pub(crate) fn spawn(shelf: &Arc<Shelf>, lane: LaneIndex) -> Result<()> {
    if !shelf.scrub.is_on() {
        return Ok(());
    }
    open::spawn(shelf, "larder-scrub", move |shelf| Scrubber::new(shelf, lane).run())
}

/// Why a pass stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The store closes.
    Closing,
    /// The directory can't be scrubbed now.
    Unusable,
}

struct Scrubber<'a> {
    shelf: &'a Shelf,
    lane: LaneIndex,
    buffer: backing::AlignedBuffer,
    /// Reads seen in the catalogue so far.
    reads_seen: u64,
    /// When the progress was last written down.
    noted: Duration,
}

impl<'a> Scrubber<'a> {
    fn new(shelf: &'a Shelf, lane: LaneIndex) -> Self {
        let buffer = backing::AlignedBuffer::new(STEP_PAGES as usize * PAGE_SIZE as usize);
        let noted = shelf.clock.elapsed();
        Self { shelf, lane, buffer, reads_seen: 0, noted }
    }

    /// Works until the store closes.
    fn run(mut self) {
        let mut stopped = Stop::Unusable;
        while stopped != Stop::Closing {
            if self.shelf.queue.rest(IDLE_REST.min(self.shelf.scrub.pass_interval)) {
                return;
            }
            if self.is_usable() {
                self.recall();
                stopped = self.passes();
                self.note();
            }
        }
    }

    /// One pass after the other while the directory can be used.
    fn passes(&mut self) -> Stop {
        loop {
            let begun = self.shelf.clock.elapsed();
            if let Err(stop) = self.pass() {
                return stop;
            }
            let took = self.shelf.clock.elapsed().saturating_sub(begun);
            let mut left = self.shelf.scrub.pass_interval.saturating_sub(took);
            while !left.is_zero() {
                let rest = left.min(IDLE_REST);
                left -= rest;
                if let Err(stop) = self.rest(rest) {
                    return stop;
                }
            }
        }
    }

    /// What is left of a pass.
    fn pass(&mut self) -> std::result::Result<(), Stop> {
        while self.progress(|scrubbed| scrubbed.shares_done) < SHARES {
            let share = self.progress(|scrubbed| scrubbed.shares_done);
            for content in self.contents(share)? {
                self.content(content)?;
            }
            self.slabs(share)?;
            self.progress(|scrubbed| scrubbed.shares_done = share + 1);
            if self.shelf.clock.elapsed().saturating_sub(self.noted) >= NOTE_INTERVAL {
                self.note();
            }
        }
        let now = self.shelf.clock.now();
        self.progress(|scrubbed| {
            *scrubbed = Scrubbed { shares_done: 0, passed: Some(now), ..*scrubbed };
        });
        self.note();
        Ok(())
    }

    /// The contents of the directory in one share of the names.
    fn contents(&self, share: u16) -> std::result::Result<Vec<ContentId>, Stop> {
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            self.go_on()?;
            let window = start..start + WINDOW;
            let (contents, more) = self.shelf.catalogue().contents(self.lane, window);
            found.extend(contents.into_iter().filter(|content| share_of(*content) == share));
            if !more {
                return Ok(found);
            }
            start += WINDOW;
        }
    }

    /// The small files of one share of the slabs, by their numbers.
    fn slabs(&mut self, share: u16) -> std::result::Result<(), Stop> {
        let shelf = self.shelf;
        let mut from = u32::from(share);
        loop {
            self.go_on()?;
            let Some(visit) = Visit::begin(shelf, self.lane, from) else { return Ok(()) };
            let at = visit.file.at;
            let (shares, share) = (u32::from(SHARES), u32::from(share));
            if at % shares == share {
                self.slab(&visit)?;
            }
            // The next number of this share.
            from = at + 1 + (share + shares - (at + 1) % shares) % shares;
        }
    }

    fn slab(&mut self, visit: &Visit<'_>) -> std::result::Result<(), Stop> {
        for run in visit.runs(u64::from(STEP_PAGES) * PAGE_SIZE) {
            let all = visit.files[run.clone()].to_vec();
            let (bytes, suspects) = match visit.read(run, self.buffer.bytes()) {
                Ok(read) => read,
                Err(error) if is_of_the_moment(&error) => (0, Vec::new()),
                Err(_) => (0, all),
            };
            self.shelf.metrics.pages_scrubbed_bytes.inc_by(bytes);
            for suspect in &suspects {
                let SmallPlace { content, length, .. } = *suspect;
                visit.forget_cached(suspect);
                self.drop_bad(content, length, &[PageIndex(0)]);
            }
            self.pace(bytes)?;
        }
        Ok(())
    }

    fn content(&mut self, content: ContentId) -> std::result::Result<(), Stop> {
        let segments = self.shelf.catalogue().segments(content);
        for (segment, pages) in segments {
            for run in pages.runs(STEP_PAGES) {
                self.step(IndexKey { content, segment }, run)?;
            }
        }
        Ok(())
    }

    /// Reads a few pages, has the suspects judged, and rests.
    fn step(&mut self, key: IndexKey, run: Range<u32>) -> std::result::Result<(), Stop> {
        let Some((length, bytes, suspects)) = self.read(key, run) else { return self.go_on() };
        self.shelf.metrics.pages_scrubbed_bytes.inc_by(bytes);
        if !suspects.is_empty() {
            self.judge(key, length, &suspects);
        }
        self.pace(bytes)
    }

    /// Reads those of the pages that are still here: the content's length, the bytes read, and
    /// the pages that are not what they should be.
    fn read(&mut self, key: IndexKey, run: Range<u32>) -> Option<(u64, u64, PageSet)> {
        let (length, pinned) = {
            let mut catalogue = self.shelf.catalogue();
            let found = catalogue.find(key.content)?;
            if found.directory != self.lane || !catalogue.lane(self.lane).takes_pages() {
                return None;
            }
            (found.length, catalogue.hold(key, run)?)
        };
        // So it is not evicted meanwhile, and a directory is not drained before we let go of it.
        let _hold = Pin::new(self.shelf, pinned.slot);
        let pages = pinned.pages;
        let record = match self.shelf.index.get(&key) {
            Ok(record) => record.and_then(|bytes| Record::parse(&key, &bytes)),
            Err(error) => {
                tracing::warn!(%error, "could not read a segment's record; it is not scrubbed");
                return None;
            }
        };
        let first = key.segment.first_page().0;
        let (mut bytes, mut suspects) = (0, PageSet::default());
        for run in pages.runs(STEP_PAGES) {
            let offset = PageIndex(first + run.start).start();
            let room = run.len() * PAGE_SIZE as usize;
            let buffer = &mut self.buffer.bytes()[..room];
            let path = backing::path(self.shelf.root(self.lane), key.content);
            let got = match backing::read_medium(&path, offset, buffer) {
                Ok(got) => got,
                Err(error) if is_of_the_moment(&error) => return None,
                // Whatever it is, it is met again and judged where suspects are.
                Err(_) => 0,
            };
            bytes += got as u64;
            for page in run.clone() {
                let range = PageIndex(first + page).range(length);
                let at = (range.start - offset) as usize;
                let page_bytes = self.buffer.bytes()[..got].get(at..at + range.length() as usize);
                let sum = record.as_ref().and_then(|record| record.checksum(page));
                if sum.is_none() || page_bytes.map(crc32c) != sum {
                    suspects.insert(page);
                }
            }
        }
        Some((length, bytes, suspects))
    }

    fn judge(&self, key: IndexKey, length: u64, suspects: &PageSet) {
        let first = key.segment.first_page().0;
        let pages: Vec<PageIndex> = suspects.iter().map(|page| PageIndex(first + page)).collect();
        // Else a sound copy in memory would speak for what rotted on the disk.
        let ranges: Vec<Range<u64>> =
            pages.iter().map(|page| page.start()..page.start() + PAGE_SIZE).collect();
        let path = backing::path(self.shelf.root(self.lane), key.content);
        backing::forget_cached(&path, &ranges);
        self.drop_bad(key.content, length, &pages);
    }

    fn drop_bad(&self, content: ContentId, length: u64, pages: &[PageIndex]) {
        match scrub::verify(self.shelf, content, length, pages) {
            Ok(0) => {}
            Ok(dropped) => {
                let dropped = u64::from(dropped);
                self.shelf.metrics.pages_rotten.inc_by(dropped);
                self.progress(|scrubbed| scrubbed.rotten += dropped);
                let directory = self.shelf.root(self.lane).display();
                tracing::warn!(%directory, pages = dropped, "the scrubber found rot");
            }
            Err(error) => tracing::warn!(%error, "could not judge pages that look rotten"),
        }
    }

    /// Rests after a step as the rate asks, and longer while others use the disk.
    fn pace(&mut self, bytes: u64) -> std::result::Result<(), Stop> {
        let rest = self.shelf.scrub.rest(bytes);
        self.rest(rest)?;
        let mut yielding = Yielding { left: rest.saturating_mul(YIELD_FACTOR) };
        while let Some(rest) = yielding.next(self.others_use_the_disk()) {
            self.rest(rest)?;
        }
        Ok(())
    }

    fn others_use_the_disk(&mut self) -> bool {
        let reads = self.shelf.catalogue().reads;
        let read = std::mem::replace(&mut self.reads_seen, reads) != reads;
        read || self.shelf.queue.is_busy()
    }

    fn rest(&self, rest: Duration) -> std::result::Result<(), Stop> {
        if self.shelf.queue.rest(rest) {
            return Err(Stop::Closing);
        }
        self.go_on()
    }

    fn go_on(&self) -> std::result::Result<(), Stop> {
        if self.shelf.queue.is_closed() {
            return Err(Stop::Closing);
        }
        if self.is_usable() { Ok(()) } else { Err(Stop::Unusable) }
    }

    fn is_usable(&self) -> bool {
        let mut catalogue = self.shelf.catalogue();
        let loading = catalogue.loading;
        let lane = catalogue.lane(self.lane);
        !loading && !lane.comparing && lane.takes_pages()
    }

    fn progress<T>(&self, change: impl FnOnce(&mut Scrubbed) -> T) -> T {
        change(&mut self.shelf.catalogue().lane(self.lane).scrubbed)
    }

    /// Goes on where the directory says that a scrubber was.
    fn recall(&self) {
        let directory = &self.shelf.directories[usize::from(self.lane.0)];
        let (shares_done, passed) =
            directory.scrub_note().as_deref().and_then(parse_note).unwrap_or_default();
        self.progress(|scrubbed| *scrubbed = Scrubbed { shares_done, passed, ..*scrubbed });
    }

    /// Writes down how far it is, for the next process.
    fn note(&mut self) {
        self.noted = self.shelf.clock.elapsed();
        // Under this a directory is not let go of, so nothing is written to what was taken away.
        let _change = self.shelf.directories.change();
        if !self.is_usable() {
            return;
        }
        let Scrubbed { shares_done, passed, .. } = self.progress(|scrubbed| *scrubbed);
        let directory = &self.shelf.directories[usize::from(self.lane.0)];
        let passed = passed.unwrap_or_default().0;
        if let Err(error) = directory.keep_scrub_note(&format!("{shares_done} {passed}\n")) {
            tracing::debug!(%error, "could not write down how far the scrubber is");
        }
    }
}

/// Grants rests to others, but only so long in all.
struct Yielding {
    left: Duration,
}

impl Yielding {
    fn next(&mut self, others: bool) -> Option<Duration> {
        let rest = self.left.min(YIELD_STEP);
        self.left -= rest;
        (others && !rest.is_zero()).then_some(rest)
    }
}

fn share_of(content: ContentId) -> u16 {
    (content.0 >> 120) as u16
}

fn is_of_the_moment(error: &io::Error) -> bool {
    error.kind() != ErrorKind::NotFound && Trouble::of(error) == Trouble::Passing
}

/// Shares done and the end of the last whole pass; `None` when it is not what [`Scrubber::note`]
/// writes.
fn parse_note(text: &str) -> Option<(u16, Option<UnixMillis>)> {
    let (shares, passed) = text.trim_end().split_once(' ')?;
    let shares = shares.parse().ok().filter(|shares| *shares < SHARES)?;
    let passed: u64 = passed.parse().ok()?;
    Some((shares, (passed > 0).then_some(UnixMillis(passed))))
}

#[cfg(test)]
mod tests {
    use larder_core::Metrics;

    use super::*;
    use crate::{
        Class, DirectoryOptions, MemoryIndex, NewPage, Options, PageBytes,
        fill::{Done, Queued},
    };

    #[test]
    fn a_rest_follows_the_rate_and_a_small_read_counts_as_a_page() {
        let scrub = Scrub { bytes_per_second: ByteSize(8 << 20), ..Scrub::default() };
        assert_eq!(scrub.rest(1 << 20), Duration::from_millis(125));
        assert_eq!(scrub.rest(1), scrub.rest(PAGE_SIZE));
        let slowest = Scrub { bytes_per_second: ByteSize(1), ..scrub };
        assert_eq!(slowest.rest(PAGE_SIZE), Duration::from_secs(PAGE_SIZE));
    }

    #[test]
    fn others_go_first_for_a_bounded_time() {
        let rest = Duration::from_millis(125);
        let mut busy = Yielding { left: rest * YIELD_FACTOR };
        let yielded: Duration = std::iter::from_fn(|| busy.next(true)).sum();
        assert_eq!(yielded, rest * YIELD_FACTOR);
        let mut idle = Yielding { left: rest * YIELD_FACTOR };
        assert_eq!(idle.next(false), None);
    }

    #[test]
    fn reads_and_fills_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_path_buf();
        let capacity = ByteSize(1 << 20);
        let directories = vec![DirectoryOptions { path, capacity }];
        let options = Options { directories, ..Options::default() };
        let index = Arc::new(MemoryIndex::new());
        let shelf = open::open(&options, index, Arc::new(Metrics::new())).unwrap();
        let mut scrubber = Scrubber::new(&shelf, LaneIndex(0));
        assert!(!scrubber.others_use_the_disk());
        shelf.catalogue().reads += 1;
        assert!(scrubber.others_use_the_disk(), "somebody reads");
        assert!(!scrubber.others_use_the_disk(), "nobody has read since");
        let (content, index) = (ContentId(1), PageIndex(0));
        let bytes = PageBytes::from(bytes::Bytes::from_static(b"x"));
        let page = NewPage {
            content,
            length: 1,
            index,
            bytes,
            checksum: 0,
            class: Class::NONE,
            hold: None,
        };
        let queued = Queued { page, done: Done::new(drop) };
        assert!(shelf.queue.push(queued).is_ok());
        assert!(scrubber.others_use_the_disk(), "a page waits to be written");
    }

    #[test]
    fn a_note_reads_back_or_is_nothing() {
        assert_eq!(parse_note("7 1800\n"), Some((7, Some(UnixMillis(1800)))));
        assert_eq!(parse_note("0 0\n"), Some((0, None)));
        for wrong in ["", "7", "256 1", "-1 1", "x 1", "1 1 1"] {
            assert_eq!(parse_note(wrong), None, "{wrong}");
        }
    }
}
