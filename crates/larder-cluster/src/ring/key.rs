// SPDX-License-Identifier: Apache-2.0
//! From what is placed to the slot it lies in: the top bits of XXH3-64 over a fixed spelling.

use larder_core::{FileId, MountName, SegmentIndex};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::SLOT_BITS;

/// The slot of a segment: file id (16 bytes) and segment number (4 bytes), both big-endian.
pub(super) fn slot_of_segment(file: FileId, segment: SegmentIndex) -> usize {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&file.0.to_be_bytes());
    key[16..].copy_from_slice(&segment.0.to_be_bytes());
    slot_of_hash(xxh3_64(&key))
}

/// The slot of a directory's listing: mount name, a zero byte, the raw key prefix.
pub(super) fn slot_of_directory(mount: &MountName, directory: &str) -> usize {
    let mut hash = Xxh3::new();
    hash.update(mount.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(directory.as_bytes());
    slot_of_hash(hash.digest())
}

fn slot_of_hash(hash: u64) -> usize {
    (hash >> (64 - SLOT_BITS)) as usize
}
