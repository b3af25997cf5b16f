// SPDX-License-Identifier: Apache-2.0
//! Reading small files: look-up and verification.

use std::{io, os::unix::fs::FileExt, sync::Arc};

use larder_core::{ByteRange, ContentId, Error, Extent, PageIndex, Result, SegmentIndex, crc32c};

use super::{Number, is_small, resident::Held};
use crate::{
    IndexKey, Piece,
    lookup::Purpose,
    pin::Pin,
    shelf::{Shelf, Trouble},
};

/// The asked part of a small file, if it is here.
pub(crate) fn get(
    shelf: &Shelf,
    (content, length): (ContentId, u64),
    asked: ByteRange,
    purpose: Purpose,
) -> Option<Piece> {
    if !is_small(length) || asked.is_empty() {
        return None;
    }
    let (held, validity) = {
        let mut catalogue = shelf.catalogue();
        let held = catalogue.hold_small(content, length, purpose)?;
        let class = held.slot.as_small().map(|number| catalogue.class_of_small(Number(number)));
        (held, class.and_then(|class| catalogue.validity(content, class)))
    };
    let hold = Pin::new(shelf, held.slot);
    let file = match shelf.slab_descriptor(&held) {
        Ok(file) => file,
        Err(error) => {
            drop(hold);
            missing(shelf, content, &held, &error);
            return None;
        }
    };
    let range = ByteRange { start: 0, end: length };
    let extent = Extent {
        file,
        offset: held.offset,
        range,
        checksums: [held.entry.checksum].into(),
        hold: Some(Arc::new(hold)),
        validity,
    };
    Some(Piece::Resident { extent, part: asked.overlap(range)? })
}

fn missing(shelf: &Shelf, content: ContentId, held: &Held, error: &io::Error) {
    if Trouble::of(error) == Trouble::Broken {
        shelf.fault(held.file.directory, error);
        return;
    }
    tracing::debug!(%error, "could not open a slab; taking it for a miss");
    shelf.queue.check(IndexKey { content, segment: SegmentIndex(0) });
}

/// Whether a small file is resident and can be read.
pub(crate) fn is_here(shelf: &Shelf, content: ContentId, length: u64) -> bool {
    is_small(length) && shelf.catalogue().small_readable(content, length).is_some()
}

/// Reads a small file again and drops it when it is bad; returns how many pages were dropped, or
/// `None` when it is no small file here.
pub(crate) fn verify(
    shelf: &Shelf,
    content: ContentId,
    length: u64,
    pages: &[PageIndex],
) -> Result<Option<u32>> {
    if !is_small(length) {
        return Ok(None);
    }
    let Some(held) = shelf.catalogue().hold_small(content, length, Purpose::Look) else {
        return Ok(None);
    };
    let _hold = Pin::new(shelf, held.slot);
    if !pages.contains(&PageIndex(0)) {
        return Ok(Some(0));
    }
    let mut bytes = vec![0; held.entry.length as usize];
    let read = shelf.slab_descriptor(&held).and_then(|f| f.read_exact_at(&mut bytes, held.offset));
    match read {
        Ok(()) if crc32c(&bytes) == held.entry.checksum => return Ok(Some(0)),
        Ok(()) => {}
        Err(error) => match (error.kind(), Trouble::of(&error)) {
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound, _) => {}
            (_, Trouble::Passing) => {
                return Err(Error::unavailable("a slab could not be opened").with_source(error));
            }
            _ => {
                shelf.fault(held.file.directory, &error);
                return Ok(Some(1));
            }
        },
    }
    tracing::warn!(%content, "dropping a small file that went bad");
    shelf.metrics.pages_corrupt.inc();
    // Should it have been put again meanwhile, a good copy goes too: a plain miss.
    shelf.remove_small(content);
    Ok(Some(1))
}
