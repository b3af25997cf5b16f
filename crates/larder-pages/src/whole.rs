// SPDX-License-Identifier: Apache-2.0
//! A content that lies whole in one local file, handed out as one extent: for readers that read
//! the file without asking here again, such as the kernel.
//!
//! Such an extent keeps every segment of the content from eviction for as long as it lives, and
//! may live as long as some program likes. So all of them together hold at most a part of each
//! directory; beyond that the answer is `None` and the content is read piece by piece.
//!
//! Built on the look-up alone: whatever the layout, pieces that lie at their own offsets in one
//! file of the content's length are that content's exact copy.

use std::{
    any::Any,
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex},
};

use larder_core::{ByteRange, ContentId, Extent, PAGE_SIZE};

use crate::{
    Piece, backing,
    evict::LaneIndex,
    lookup::{self, Purpose},
    shelf::{Shelf, lock},
};

/// Whole extents hold at most this part of a directory's capacity.
const SHARE: u64 = 4;
/// The longest content that is handed out whole: its checksums alone take 4 MiB.
const LENGTH_MAX: u64 = 64 << 30;

/// Bytes held by whole extents, for each directory.
#[derive(Debug, Default)]
pub(crate) struct Wholes(Mutex<HashMap<LaneIndex, u64>>);

/// What a whole extent holds until its last reader drops it.
struct Held {
    _segments: Vec<Arc<dyn Any + Send + Sync>>,
    _share: Share,
}

/// A part of what whole extents may hold.
struct Share {
    wholes: Arc<Wholes>,
    directory: LaneIndex,
    bytes: u64,
}

impl Share {
    fn take(wholes: &Arc<Wholes>, directory: LaneIndex, (bytes, most): (u64, u64)) -> Option<Self> {
        let mut held = lock(&wholes.0);
        let held = held.entry(directory).or_default();
        if *held + bytes > most {
            return None;
        }
        *held += bytes;
        Some(Self { wholes: Arc::clone(wholes), directory, bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(held) = lock(&self.wholes.0).get_mut(&self.directory) {
            *held = held.saturating_sub(self.bytes);
        }
    }
}

/// The content as one extent, if all of it lies here in a file of its own.
pub(crate) fn whole(
    shelf: &Shelf,
    wholes: &Arc<Wholes>,
    content: ContentId,
    length: u64,
) -> Option<Extent> {
    // Up to a page it may lie in a slab, a file that others share.
    if length <= PAGE_SIZE || length > LENGTH_MAX {
        return None;
    }
    if lookup::presence(shelf, content, length).bytes != length {
        return None;
    }
    let (directory, most) = {
        let mut catalogue = shelf.catalogue();
        let directory = catalogue.find_readable(content, length)?.directory;
        (directory, catalogue.lane(directory).quota.capacity() / SHARE)
    };
    let share = Share::take(wholes, directory, (length, most))?;
    let pieces = lookup::get(shelf, (content, length), ByteRange::new(0, length), Purpose::Read);
    join(pieces, length, share)
}

/// Joins pieces into one extent; `None` unless they are the whole of one file.
fn join(pieces: Vec<Piece>, length: u64, share: Share) -> Option<Extent> {
    let mut segments: Vec<Arc<dyn Any + Send + Sync>> = Vec::new();
    let mut checksums = Vec::new();
    let mut whole: Option<Arc<File>> = None;
    let mut end = 0;
    for piece in pieces {
        let Piece::Resident { extent, .. } = piece else { return None };
        let file = whole.get_or_insert_with(|| Arc::clone(&extent.file));
        let at_home = extent.range.start == end && extent.offset == end;
        if !at_home || !Arc::ptr_eq(file, &extent.file) {
            return None;
        }
        end = extent.range.end;
        checksums.extend_from_slice(&extent.checksums);
        // All runs of a segment share one hold.
        if let Some(hold) = extent.hold
            && segments.last().is_none_or(|last| !Arc::ptr_eq(last, &hold))
        {
            segments.push(hold);
        }
    }
    let file = whole.filter(|_| end == length)?;
    backing::lend(&file).ok()?;
    let exact = file.metadata().is_ok_and(|facts| facts.is_file() && facts.len() == length);
    exact.then(|| Extent {
        file,
        offset: 0,
        range: ByteRange::new(0, length),
        checksums: checksums.into(),
        hold: Some(Arc::new(Held { _segments: segments, _share: share })),
        validity: None,
    })
}
