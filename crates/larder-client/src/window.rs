// SPDX-License-Identifier: Apache-2.0
//! Extents that were handed out lately, so that a read that comes again there asks nobody.
//!
//! A window is 4 MiB of one content, as the worker last said where it lies. It pins nothing: the
//! bytes are read from where they were, each compared with a checksum, and afterwards the page
//! store's own word ([`Validity`]) says whether they were still in their place. If not, or if
//! anything else is odd, the read goes the usual way, as if there were no window. The worker ends
//! what is valid once a second even where nothing changes, so that it knows what is being read.
//!
//! A window's file is not kept open by it: a file that was evicted gives its blocks back at once.
//!
//! What was derived of pages (`part`) stays when a window is replaced by the next: it belongs to
//! the content, which never changes. All of it is a bounded part of the memory budget.

use std::{
    fs::File,
    sync::{Arc, Weak},
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
    pub(crate) blocks: Arc<Blocks>,
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
        if !self.range.contains(part) {
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
        let known = self.cache.get(&place).map(|window| Arc::clone(&window.blocks));
        let known = known.filter(|blocks| {
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
            blocks,
        });
        self.cache.insert(place, Arc::clone(&window));
        Some(window)
    }
}
