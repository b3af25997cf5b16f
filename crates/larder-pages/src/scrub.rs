// SPDX-License-Identifier: Apache-2.0
//! Reading pages again and dropping those that are not what was put: bits that flipped, files
//! that were cut or lost, bytes that a power cut kept from the disk.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, path::Path};

use larder_core::{
    ContentId, PAGE_SIZE, PageIndex, Result, SegmentIndex, crc32c, page::FILE_LENGTH_MAX,
};

use crate::{
    IndexKey, backing,
    page_set::PageSet,
    record::Record,
    shelf::{Shelf, Trouble},
    slab,
};

/// Reads these pages and drops the bad ones; returns how many were dropped.
pub(crate) fn verify(
    shelf: &Shelf,
    content: ContentId,
    length: u64,
    pages: &[PageIndex],
) -> Result<u32> {
    if length > FILE_LENGTH_MAX {
        return Ok(0);
    }
    if let Some(dropped) = slab::verify(shelf, content, length, pages)? {
        return Ok(dropped);
    }
    let mut segments: BTreeMap<SegmentIndex, PageSet> = BTreeMap::new();
    for page in pages {
        segments.entry(page.segment()).or_default().insert(page.in_segment());
    }
    let mut dropped = 0;
    for (segment, pages) in segments {
        dropped += verify_segment(shelf, IndexKey { content, segment }, length, &pages)?;
    }
    Ok(dropped)
}

fn verify_segment(shelf: &Shelf, key: IndexKey, length: u64, asked: &PageSet) -> Result<u32> {
    // Under the stripe nobody writes the pages while they are read, or frees them.
    let _stripe = shelf.stripe(key.content);
    let (found, pages) = {
        let catalogue = shelf.catalogue();
        let Some(found) = catalogue.find_readable(key.content, length) else { return Ok(0) };
        (found, catalogue.pages(key).and(asked))
    };
    if pages.is_empty() {
        return Ok(0);
    }
    let record = shelf.record(key, &pages)?;
    let root = shelf.root(found.directory);
    let bad = match bad_pages(root, key, record.as_deref(), (length, &pages)) {
        Ok(bad) => bad,
        Err(error) if error.kind() == io::ErrorKind::NotFound => pages,
        Err(error) if Trouble::of(&error) == Trouble::Passing => {
            return Err(larder_core::Error::unavailable("a backing file could not be opened")
                .with_source(error));
        }
        Err(error) => {
            shelf.fault(found.directory, &error);
            return Ok(pages.count());
        }
    };
    if bad.is_empty() {
        return Ok(0);
    }
    tracing::warn!(content = %key.content, pages = bad.count(), "dropping pages that went bad");
    shelf.metrics.pages_corrupt.inc_by(u64::from(bad.count()));
    shelf.drop_pages(key, &bad)?;
    Ok(bad.count())
}

fn bad_pages(
    root: &Path,
    key: IndexKey,
    record: Option<&Record>,
    (length, pages): (u64, &PageSet),
) -> io::Result<PageSet> {
    let Some(record) = record else { return Ok(*pages) };
    let file = backing::open_for_writing(root, key.content)?;
    let mut buffer = vec![0; PAGE_SIZE as usize];
    let mut bad = PageSet::default();
    for page in pages.iter() {
        let range = PageIndex(key.segment.first_page().0 + page).range(length);
        let bytes = &mut buffer[..range.length() as usize];
        let whole = read_whole(&file, bytes, range.start)?;
        if !whole || record.checksum(page) != Some(crc32c(bytes)) {
            bad.insert(page);
        }
    }
    Ok(bad)
}

/// Fills `bytes` from the file; `false` when it ends before.
fn read_whole(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
