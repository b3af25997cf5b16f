// SPDX-License-Identifier: Apache-2.0
//! A reader that lets go of an extent but goes on reading where it was: it is told before anything
//! there changes.

use std::{fs, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use larder_core::{ByteRange, Extent, Metrics, PAGE_SIZE, PageIndex, Validity};
use larder_pages::{Class, ClassRule, MemoryIndex, NewPage, PageStore, Piece};
use tempfile::tempdir;

use crate::bench::{content, eventually, files, new_page, open, options, put, put_all};

const MIB: u64 = 1 << 20;
/// One that lies in a backing file, and one that lies in a slab.
const LENGTHS: [u64; 2] = [3 * PAGE_SIZE, 5000];

fn extent(store: &PageStore, name: u64, length: u64) -> Extent {
    let pieces = store.get(content(name), length, ByteRange { start: 0, end: 1 });
    let Some(Piece::Resident { extent, .. }) = pieces.into_iter().next() else {
        panic!("content {name} is here")
    };
    extent
}

/// Puts a content, reads it, and lets go of what was read.
fn read_once(store: &PageStore, name: u64, length: u64) -> Validity {
    put(store, name, 0, length);
    extent(store, name, length).validity.expect("it can be told")
}

/// Insists that the reader is told, and was not told before, as long as no second went by.
fn ends(length: u64, change: impl Fn(&Path, &Arc<PageStore>)) {
    let told = (0..20).any(|_| {
        let directory = tempdir().unwrap();
        let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
        let validity = read_once(&store, 1, length);
        let held = validity.holds();
        change(directory.path(), &store);
        assert!(!validity.holds(), "of a content of {length} bytes");
        held
    });
    assert!(told, "it held until then, at least once in twenty times");
}

#[test]
fn it_ends_when_the_content_is_removed() {
    for length in LENGTHS {
        ends(length, |_, store| {
            store.remove(content(1)).unwrap();
        });
    }
}

#[test]
fn it_ends_when_others_need_the_room() {
    for length in LENGTHS {
        ends(length, |_, store| {
            // Whichever goes, each content's end is told by a group of contents.
            // They come back soon, so that they were read more often than it.
            for name in (2..200).flat_map(|name| (2..=name).rev().take(3)) {
                put(store, name, 0, 3 * PAGE_SIZE);
                drop(store.get(content(name), 3 * PAGE_SIZE, ByteRange { start: 0, end: 1 }));
            }
            assert_eq!(store.presence(content(1), length).pages, 0, "it went");
        });
    }
}

#[test]
fn it_ends_when_a_page_is_found_bad() {
    for length in LENGTHS {
        ends(length, |path, store| {
            let extent = extent(store, 1, length);
            let inside = if length > PAGE_SIZE {
                files(path)[0].0.clone()
            } else {
                crate::bench::slabs(path)[0].0.clone()
            };
            let file = fs::OpenOptions::new().write(true).open(inside).unwrap();
            file.write_all_at(b"rot", extent.offset + 100).unwrap();
            drop(extent);
            assert_eq!(store.verify(content(1), length, &[PageIndex(0)]).unwrap(), 1);
        });
    }
}

#[test]
fn it_ends_with_the_store_and_when_rules_change() {
    for length in LENGTHS {
        ends(length, |_, store| store.close().unwrap());
        ends(length, |_, store| store.set_classes(&[]).unwrap());
        ends(length, |_, store| store.classify(content(1), Class(7)));
    }
}

#[test]
fn it_ends_by_itself_so_that_the_store_hears_of_readers() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let validity = read_once(&store, 1, 3 * PAGE_SIZE);
    eventually("it ends", || !validity.holds());
}

#[test]
fn what_time_alone_makes_a_miss_is_asked_for_each_time() {
    let directory = tempdir().unwrap();
    let mut all = options(&[(directory.path(), 8 * MIB)]);
    let ttl = Some(Duration::from_secs(3600));
    all.classes = vec![ClassRule { class: Class(7), ttl, ..ClassRule::default() }];
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(all, index, Arc::new(Metrics::new())).unwrap();
    for (name, length) in (1..).zip(LENGTHS) {
        put_all(&store, vec![NewPage { class: Class(7), ..new_page(name, 0, length) }]);
        assert!(extent(&store, name, length).validity.is_none());
    }
}
