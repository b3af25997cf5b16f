// SPDX-License-Identifier: Apache-2.0
//! Extents that were handed out lately, so that a read that comes again there asks nobody.
//!
//! A window is 4 MiB of one content, as the worker last said where it lies. It pins nothing: the
//! bytes are read from where they were, each compared with a checksum, and afterwards the page
//! store's own word ([`Validity`]) says whether they were still in their place. If not, or if
//! anything else is odd, the read goes the usual way, as if there were no window. The worker ends
//! what is valid once a second even where nothing changes, and a page is read through a window only
//! when it was asked for since: so the worker hears of each page that is read, once a second.
//!
//! A window's file is not kept open by it: a file that was evicted gives its blocks back at once.
//!
//! What was derived of pages (`part`) stays when a window is replaced by the next: it belongs to
//! the content, which never changes. All of it is a bounded part of the memory budget.

use std::{
    fs::File,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_core::{
    ByteRange, ContentId, Extent, MemoryBudget, PAGE_SIZE, PageIndex, Validity, page::EXTENT_PAGES,
};
use quick_cache::{Weighter, sync::Cache};

use crate::{
    extent::Verified,
    part::{Blocks, Run},
};

/// Bytes of a window.
pub(crate) const WINDOW: u64 = EXTENT_PAGES as u64 * PAGE_SIZE;
/// Windows take at most one part in so many of the memory budget: 8 KiB for each 4 MiB of data.
const SHARE: u64 = 32;

/// Where a window lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    content: ContentId,
    window: u64,
}

/// A run of pages that was handed out, and what is known of their blocks.
#[derive(Debug)]
pub(crate) struct Window {
    file: Weak<File>,
    offset: u64,
    range: ByteRange,
    checksums: Box<[u32]>,
    validity: Option<Validity>,
    /// A bit for each page that somebody has asked for while this was valid.
    asked: Arc<AtomicU64>,
    pub(crate) blocks: Arc<Blocks>,
}

/// The bits of the pages of `part` in their window.
fn bits(part: ByteRange) -> u64 {
    let first = part.start % WINDOW / PAGE_SIZE;
    let count = (part.end - 1) / PAGE_SIZE - part.start / PAGE_SIZE + 1;
    (u64::MAX >> (u64::from(EXTENT_PAGES) - count.min(u64::from(EXTENT_PAGES)))) << first
}

impl Window {
    /// Its number in the content.
    pub(crate) fn number(&self) -> u64 {
        self.range.start / WINDOW
    }

    /// Reads `part` without asking anybody; `false` when that can't be done, whatever `into` holds.
    pub(crate) fn read(&self, part: ByteRange, into: &mut [u8]) -> bool {
        let Some(validity) = self.validity.as_ref().filter(|validity| validity.holds()) else {
            return false;
        };
        let wanted = if self.range.contains(part) { bits(part) } else { return false };
        if self.asked.load(Ordering::Relaxed) & wanted != wanted {
            return false;
        }
        let Some(file) = self.file.upgrade() else { return false };
        let run = Run {
            file: &file,
            offset: self.offset,
            range: self.range,
            checksums: &self.checksums,
            blocks: Some(&self.blocks),
        };
        matches!(run.read(part, into), Verified::Good) && validity.holds()
    }
}

/// Weighs windows by the memory they take.
#[derive(Debug, Clone)]
struct ByMemory;

impl Weighter<Place, Arc<Window>> for ByMemory {
    fn weight(&self, _place: &Place, window: &Arc<Window>) -> u64 {
        Blocks::size(window.blocks.pages())
    }
}

/// The windows of all contents.
#[derive(Debug)]
pub(crate) struct Windows {
    cache: Cache<Place, Arc<Window>, ByMemory>,
    budget: MemoryBudget,
}

impl Windows {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        let bytes = budget.total() / SHARE;
        let windows = bytes / Blocks::size(EXTENT_PAGES as usize);
        let windows = usize::try_from(windows).unwrap_or(usize::MAX).max(1);
        Self { cache: Cache::with_weighter(windows, bytes, ByMemory), budget: budget.clone() }
    }

    /// The window that `position` of a content lies in.
    pub(crate) fn get(&self, content: ContentId, position: u64) -> Option<Arc<Window>> {
        self.cache.get(&Place { content, window: position / WINDOW })
    }

    /// Keeps what an extent says, for whoever reads there next. `None` when it isn't worth it, or
    /// memory is short.
    pub(crate) fn keep(
        &self,
        (content, length): (ContentId, u64),
        extent: &Extent,
        part: ByteRange,
    ) -> Option<Arc<Window>> {
        let range = extent.range;
        let window = range.start / WINDOW;
        // A single page that is read whole is not likely to be read in parts.
        let is_page = part == range && range.length() <= PAGE_SIZE;
        if range.is_empty() || (range.end - 1) / WINDOW != window || is_page {
            return None;
        }
        let place = Place { content, window };
        let former = self.cache.get(&place);
        let valid = former.as_ref().filter(|it| it.validity.as_ref().is_some_and(Validity::holds));
        let asked = valid.map_or_else(Arc::default, |former| Arc::clone(&former.asked));
        asked.fetch_or(bits(part), Ordering::Relaxed);
        let known = former.map(|window| Arc::clone(&window.blocks)).filter(|blocks| {
            let mut pages = (PageIndex::at(range.start).0..).zip(&extent.checksums);
            pages.all(|(page, checksum)| blocks.fits(PageIndex(page), *checksum))
        });
        let blocks = match known {
            Some(blocks) => blocks,
            None => {
                let bytes = length.saturating_sub(window * WINDOW).min(WINDOW);
                Blocks::new(usize::try_from(bytes.div_ceil(PAGE_SIZE)).ok()?, &self.budget)?
            }
        };
        let window = Arc::new(Window {
            file: Arc::downgrade(&extent.file),
            offset: extent.offset,
            range,
            checksums: extent.checksums.clone(),
            validity: extent.validity.clone(),
            asked,
            blocks,
        });
        self.cache.insert(place, Arc::clone(&window));
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use larder_core::{FileId, Generations, Version, crc32c};

    use super::*;

    #[test]
    fn a_page_is_read_here_once_it_was_asked_for() {
        let page = usize::try_from(PAGE_SIZE).expect("small");
        let bytes: Vec<u8> = (0..3 * page).map(|at| (at % 251) as u8).collect();
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        file.write_all_at(&bytes, 0).expect("written");
        let generations = Arc::new(Generations::new(1));
        let extent = || Extent {
            file: Arc::clone(&file),
            offset: 0,
            range: ByteRange::new(0, 3 * PAGE_SIZE),
            checksums: bytes.chunks(page).map(crc32c).collect(),
            hold: None,
            validity: Some(generations.present(0)),
        };
        let windows = Windows::new(&MemoryBudget::new(64 << 20));
        let content = ContentId::new(FileId::of_uri("file:///a"), &Version::from_etag("v"));
        let asks = |at: u64| {
            let part = ByteRange::new(at * PAGE_SIZE, at * PAGE_SIZE + 10);
            windows.keep((content, 3 * PAGE_SIZE), &extent(), part).expect("kept");
        };
        let reads = |at: u64| {
            let part = ByteRange::new(at * PAGE_SIZE + 5, at * PAGE_SIZE + 105);
            let mut into = [0; 100];
            let read = windows.get(content, 0).is_some_and(|window| window.read(part, &mut into));
            let from = usize::try_from(part.start).expect("small");
            assert!(!read || into == bytes[from..from + 100]);
            read
        };
        asks(0);
        assert_eq!([0, 1, 2].map(reads), [true, false, false]);
        asks(2);
        assert_eq!([0, 1, 2].map(reads), [true, false, true], "what was asked for stays");
        generations.end_all();
        assert_eq!([0, 1, 2].map(reads), [false; 3]);
        asks(1);
        assert_eq!([0, 1, 2].map(reads), [false, true, false], "each second anew");
    }

    #[test]
    fn a_bit_for_each_page() {
        let range = |start, end| ByteRange::new(WINDOW + start, WINDOW + end);
        assert_eq!(bits(range(0, 1)), 1);
        assert_eq!(bits(range(PAGE_SIZE - 1, PAGE_SIZE + 1)), 3);
        assert_eq!(bits(range(2 * PAGE_SIZE, 3 * PAGE_SIZE)), 4);
        assert_eq!(bits(range(WINDOW - 1, WINDOW)), 1 << 63);
        assert_eq!(bits(range(0, WINDOW)), u64::MAX);
    }
}
