// SPDX-License-Identifier: Apache-2.0
//! Contents handed out whole: what they are, how long they stay, how much they may hold.

use std::{
    fs::OpenOptions,
    os::{fd::AsRawFd, unix::fs::FileExt},
    sync::Arc,
};

use larder_core::{ByteRange, Extent, PAGE_SIZE, PageIndex, crc32c};
use larder_pages::{MemoryIndex, PageStore};
use tempfile::tempdir;

use crate::bench::{content, eventually, new_page, open, page_bytes, put, put_all, read_all};

const MIB: u64 = 1 << 20;

fn fill(store: &PageStore, name: u64, length: u64) {
    let pages = 0..u32::try_from(length.div_ceil(PAGE_SIZE)).unwrap();
    put_all(store, pages.map(|page| new_page(name, page, length)).collect());
}

/// Reads the file behind an extent as the kernel would, and compares it with what was put.
fn assert_exact(name: u64, length: u64, extent: &Extent) {
    assert_eq!((extent.offset, extent.range), (0, ByteRange::new(0, length)));
    assert!(extent.is_consistent());
    assert_eq!(extent.file.metadata().unwrap().len(), length);
    for (page, checksum) in (0..).zip(&extent.checksums) {
        let expected = page_bytes(name, page, length);
        let mut bytes = vec![0; expected.len()];
        extent.file.read_exact_at(&mut bytes, u64::from(page) * PAGE_SIZE).unwrap();
        assert!(bytes == expected, "page {page}");
        assert_eq!(crc32c(&bytes), *checksum);
    }
}

#[test]
fn only_what_is_wholly_here_in_a_file_of_its_own_is_handed_out_whole() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 128 * MIB, Arc::new(MemoryIndex::new()));
    let length = 17 * MIB + 77;
    fill(&store, 1, length);
    assert_exact(1, length, &store.whole(content(1), length).unwrap());
    assert!(store.whole(content(1), length - 1).is_none(), "another length");
    assert!(store.whole(content(2), length).is_none(), "nothing is here");
    for page in 0..3 {
        put(&store, 3, page, 4 * PAGE_SIZE);
    }
    assert!(store.whole(content(3), 4 * PAGE_SIZE).is_none(), "a page is missing");
    fill(&store, 4, PAGE_SIZE);
    assert!(store.whole(content(4), PAGE_SIZE).is_none(), "it may share a file with others");
}

#[test]
fn what_is_handed_out_whole_is_neither_evicted_nor_cut_while_it_is_held() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 32 * MIB, Arc::new(MemoryIndex::new()));
    let length = 3 * MIB + 1;
    fill(&store, 1, length);
    let extent = store.whole(content(1), length).unwrap();
    for name in 10..40 {
        fill(&store, name, 2 * MIB);
    }
    assert_exact(1, length, &extent);
    assert!(store.whole(content(1), length).is_some(), "still resident");
    store.remove(content(1)).unwrap();
    assert_exact(1, length, &extent);
    drop(extent);
    assert!(store.whole(content(1), length).is_none());
}

/// A mapping goes on when the descriptor is closed, and with it the extent: only the file is left.
#[test]
fn a_file_that_was_handed_out_whole_is_never_cut_afterwards() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 96 * MIB, Arc::new(MemoryIndex::new()));
    let length = 20 * MIB;
    fill(&store, 1, length);
    let extent = store.whole(content(1), length).unwrap();
    let mapped = Extent { hold: None, ..extent.clone() };
    drop(extent);
    // What is read again and again takes the place of what was not.
    for name in 10..70 {
        fill(&store, name, 2 * MIB);
        for again in (10..=name).rev().take(4) {
            drop(store.get(content(again), 2 * MIB, ByteRange::new(0, 1)));
        }
    }
    assert!(read_all(&store, 1, length).good.len() < 320, "some of it was evicted");
    assert_exact(1, length, &mapped);
}

/// As above, for a page that is dropped because it is rotten.
#[test]
fn a_file_that_was_handed_out_whole_is_not_punched_where_it_is_rotten() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 128 * MIB, Arc::new(MemoryIndex::new()));
    let length = 20 * MIB;
    fill(&store, 2, length);
    let extent = store.whole(content(2), length).unwrap();
    let mapped = Extent { hold: None, ..extent.clone() };
    drop(extent);
    extent_is_spoilt(&mapped);
    assert!(store.verify(content(2), length, &[PageIndex(3)]).unwrap() > 0);
    let mut bytes = vec![0; 1];
    mapped.file.read_exact_at(&mut bytes, 5 * PAGE_SIZE).unwrap();
    assert_eq!(bytes[0], page_bytes(2, 5, length)[0], "the other pages are where they were");
}

/// Flips a bit of the fourth page.
fn extent_is_spoilt(extent: &Extent) {
    let path = format!("/proc/self/fd/{}", extent.file.as_raw_fd());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let mut byte = [0];
    extent.file.read_exact_at(&mut byte, 3 * PAGE_SIZE).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 3 * PAGE_SIZE).unwrap();
}

#[test]
fn whole_contents_hold_a_quarter_of_a_directory_at_most() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 32 * MIB, Arc::new(MemoryIndex::new()));
    let length = 3 * MIB;
    for name in 1..=3 {
        fill(&store, name, length);
    }
    let first = store.whole(content(1), length).unwrap();
    let second = store.whole(content(2), length).unwrap();
    assert!(store.whole(content(3), length).is_none(), "9 MiB of 32 are too much");
    assert_eq!(read_all(&store, 3, length).good.len(), 48, "it is read piece by piece");
    drop(first);
    eventually("there is room again", || store.whole(content(3), length).is_some());
    drop(second);
}
