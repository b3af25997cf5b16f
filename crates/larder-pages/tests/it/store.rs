// SPDX-License-Identifier: Apache-2.0
//! One store, one thing at a time.

use std::{fs, os::unix::fs::FileExt, sync::Arc};

use larder_core::{ByteRange, Metrics, PAGE_SIZE, PageIndex, crc32c};
use larder_pages::{MemoryIndex, NewPage, NotKept, PageBytes, PageStore, Piece, PutOutcome};
use tempfile::tempdir;

use crate::bench::{
    allocated, check, content, eventually, files, new_page, open, options, page_bytes, put,
    put_all, read, read_all,
};

const MIB: u64 = 1 << 20;
const KEPT: PutOutcome = PutOutcome::Kept;

#[test]
fn what_is_put_is_found_in_extents_and_gaps() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 64 * MIB, Arc::new(MemoryIndex::new()));
    let length = 20 * MIB + 5;
    for page in [0, 1, 2, 100, 255, 256, 320] {
        assert_eq!(put(&store, 1, page, length), KEPT);
    }
    let range = ByteRange { start: 70_000, end: length };
    let pieces = store.get(content(1), length, range);
    assert_eq!(check(1, length, range, &pieces).good, [0, 1, 2, 100, 255, 256, 320]);
    let kinds: Vec<bool> = pieces.iter().map(|p| matches!(p, Piece::Gap(_))).collect();
    assert_eq!(kinds, [false, true, false, true, false, false, true, false]);
    let Piece::Resident { extent, part } = &pieces[0] else { panic!("page 1 is there") };
    assert_eq!(extent.range, ByteRange { start: 0, end: 3 * PAGE_SIZE }, "with those beside it");
    assert_eq!(part.start, 70_000);
    let presence = store.presence(content(1), length);
    assert_eq!((presence.pages, presence.bytes), (7, 6 * PAGE_SIZE + 5));
    assert_eq!(store.usage()[0].segments, 2);
}

#[test]
fn an_extent_is_what_lies_around_within_4_mib() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 64 * MIB, Arc::new(MemoryIndex::new()));
    let length = 20 * MIB + 5;
    let pages = (0..321).filter(|page| *page != 70);
    put_all(&store, pages.map(|page| new_page(1, page, length)).collect());
    let extents = |start, end| -> Vec<(u64, u64)> {
        let pieces = store.get(content(1), length, ByteRange { start, end });
        let ranges = pieces.iter().map(|piece| match piece {
            Piece::Resident { extent, .. } => extent.range,
            Piece::Gap(gap) => *gap,
        });
        ranges.map(|range| (range.start / PAGE_SIZE, range.end.div_ceil(PAGE_SIZE))).collect()
    };
    let page = |page: u64| page * PAGE_SIZE;
    assert_eq!(extents(page(3) + 1, page(3) + 2), [(0, 64)]);
    assert_eq!(extents(page(63), page(65)), [(0, 64), (64, 70)]);
    assert_eq!(extents(page(70) + 5, page(70) + 6), [(70, 71)], "a gap is what was asked");
    assert_eq!(extents(page(71), page(72)), [(71, 128)]);
    assert_eq!(extents(page(255), page(257)), [(192, 256), (256, 320)]);
    assert_eq!(extents(page(320), length), [(320, 321)]);
}

#[test]
fn odd_ranges_are_answered() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let range = |start, end| ByteRange { start, end };
    assert!(store.get(content(1), 0, range(0, 10)).is_empty());
    assert!(store.get(content(1), 10, range(10, 20)).is_empty());
    assert!(store.get(content(1), 10, range(5, 5)).is_empty());
    for length in [1, u64::MAX, 1 << 50] {
        let pieces = store.get(content(1), length, range(0, u64::MAX));
        assert!(matches!(pieces[..], [Piece::Gap(gap)] if gap == range(0, length)));
    }
    assert_eq!(store.presence(content(9), 10).pages, 0);
    assert_eq!(store.remove(content(9)).unwrap(), 0);
    assert_eq!(store.verify(content(9), 10, &[PageIndex(u32::MAX)]).unwrap(), 0);
}

#[test]
fn a_page_of_another_size_is_refused() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let invalid = PutOutcome::NotKept(NotKept::Invalid);
    let page = NewPage { length: PAGE_SIZE - 1, ..new_page(1, 0, PAGE_SIZE) };
    assert_eq!(put_all(&store, vec![page]), [invalid]);
    let behind = NewPage { index: PageIndex(1), ..new_page(1, 0, PAGE_SIZE) };
    assert_eq!(put_all(&store, vec![behind]), [invalid]);
    let empty = NewPage { bytes: PageBytes::default(), ..new_page(1, 0, PAGE_SIZE) };
    assert_eq!(put_all(&store, vec![empty]), [invalid]);
    let endless = NewPage { length: u64::MAX, ..new_page(1, 0, PAGE_SIZE) };
    assert_eq!(put_all(&store, vec![endless]), [invalid]);
}

#[test]
fn the_same_page_twice_and_for_two_lengths_is_harmless() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let twice = vec![new_page(1, 0, 3 * PAGE_SIZE), new_page(1, 0, 3 * PAGE_SIZE)];
    assert_eq!(put_all(&store, twice), [KEPT, KEPT]);
    assert_eq!(put(&store, 1, 0, 3 * PAGE_SIZE), KEPT);
    let used = store.usage()[0].resident.0;
    assert_eq!(put(&store, 1, 0, 2 * PAGE_SIZE), KEPT);
    assert!(read_all(&store, 1, 3 * PAGE_SIZE).good.is_empty(), "the newer length counts");
    assert_eq!(read_all(&store, 1, 2 * PAGE_SIZE).good, [0]);
    assert_eq!(store.usage()[0].resident.0, used);
}

#[test]
fn a_closed_store_keeps_everything_for_the_next() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let length = 40 * MIB + 3;
    let store = open(directory.path(), 64 * MIB, index.clone());
    let pages: Vec<u32> = (0..640).step_by(7).chain([640]).collect();
    put_all(&store, pages.iter().map(|page| new_page(1, *page, length)).collect());
    let before = store.usage();
    store.close().unwrap();
    assert_eq!(put(&store, 1, 1, length), PutOutcome::NotKept(NotKept::Closed));
    assert!(read_all(&store, 1, length).good.is_empty());
    assert!(store.remove(content(1)).is_err());
    store.close().expect("a second close does nothing");
    let again = open(directory.path(), 64 * MIB, index);
    assert_eq!(read_all(&again, 1, length).good, pages, "served from the first moment");
    assert_eq!(again.remove(content(2)).unwrap(), 0, "waits until all is loaded");
    assert_eq!(again.usage(), before);
}

#[test]
fn capacity_holds_and_old_segments_go() {
    let directory = tempdir().unwrap();
    let capacity = 4 * MIB;
    let metrics = Arc::new(Metrics::new());
    let all = options(&[(directory.path(), capacity)]);
    let store = PageStore::open(all, Arc::new(MemoryIndex::new()), metrics.clone()).unwrap();
    for name in 0..40 {
        for page in 0..8 {
            assert_eq!(put(&store, name, page, 8 * PAGE_SIZE), KEPT);
            assert!(allocated(directory.path()) <= capacity);
        }
    }
    assert!(metrics.pages_evicted.get() >= 200, "{}", metrics.pages_evicted.get());
    assert_eq!(read_all(&store, 39, 8 * PAGE_SIZE).good.len(), 8, "the newest is there");
    let used = store.usage()[0].resident.0;
    assert!(used <= capacity && allocated(directory.path()) <= used);
    assert_eq!(metrics.pages_resident_bytes.get(), used.cast_signed());
}

/// What is read stays longer than what was only looked at.
#[test]
fn a_look_is_no_use() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 4 * MIB, Arc::new(MemoryIndex::new()));
    let length = 8 * PAGE_SIZE;
    let all = ByteRange { start: 0, end: length };
    let fill = |name| (0..8).for_each(|page| assert_eq!(put(&store, name, page, length), KEPT));
    (0..2).for_each(fill);
    for _ in 0..10 {
        assert_eq!(check(0, length, all, &store.look(content(0), length, all)).good.len(), 8);
        assert_eq!(check(1, length, all, &store.get(content(1), length, all)).good.len(), 8);
    }
    (2..14).for_each(fill);
    let looked_at = store.presence(content(0), length).pages;
    assert_eq!((looked_at, store.presence(content(1), length).pages), (0, 8));
}

#[test]
fn one_segment_of_a_long_file_goes_by_itself() {
    let directory = tempdir().unwrap();
    let capacity = 4 * MIB;
    let store = open(directory.path(), capacity, Arc::new(MemoryIndex::new()));
    let length = 64 * 16 * MIB;
    for segment in 0..64 {
        for page in 0..4 {
            assert_eq!(put(&store, 1, segment * 256 + page, length), KEPT);
        }
        assert!(allocated(directory.path()) <= capacity);
    }
    let good = read_all(&store, 1, length).good;
    assert!(good.len() > 40, "most of 4 MiB is used: {}", good.len());
    assert!(good.contains(&(63 * 256)));
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn an_extent_keeps_its_promise_whatever_goes() {
    let directory = tempdir().unwrap();
    let capacity = 2 * MIB;
    let store = open(directory.path(), capacity, Arc::new(MemoryIndex::new()));
    let length = 4 * PAGE_SIZE;
    let range = ByteRange { start: 0, end: length };
    put_all(&store, (0..4).map(|page| new_page(1, page, length)).collect());
    put_all(&store, (0..4).map(|page| new_page(2, page, length)).collect());
    let held = store.get(content(1), length, range);
    let removed = store.get(content(2), length, range);
    assert!(store.remove(content(2)).unwrap() >= 4 * PAGE_SIZE);
    assert!(read_all(&store, 2, length).good.is_empty());
    let taken = store.usage()[0].resident.0;
    assert!(taken >= 8 * PAGE_SIZE, "what readers hold still counts: {taken}");
    for name in 10..60 {
        put_all(&store, (0..4).map(|page| new_page(name, page, length)).collect());
        assert!(allocated(directory.path()) + 4 * PAGE_SIZE <= capacity);
    }
    assert_eq!(check(1, length, range, &held).good.len(), 4, "evicting goes around it");
    assert_eq!(check(2, length, range, &removed).good.len(), 4, "unlinked, but still open");
    put_all(&store, (0..4).map(|page| new_page(2, page, length)).collect());
    assert_eq!(read_all(&store, 2, length).good.len(), 4, "it may come back meanwhile");
    let before = store.usage()[0].resident.0;
    drop(removed);
    assert_eq!(before - store.usage()[0].resident.0, 4 * PAGE_SIZE + 4096);
}

#[test]
fn a_segment_grows_at_the_cost_of_others() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 2 * MIB, Arc::new(MemoryIndex::new()));
    let length = 8 * PAGE_SIZE;
    for name in 0..20 {
        for page in 0..8 {
            assert_eq!(put(&store, name, page, length), KEPT);
        }
        assert_eq!(read_all(&store, name, length).good.len(), 8, "of {name}");
    }
    // More than fits goes round: the end of it is here.
    let length = 64 * PAGE_SIZE;
    for page in 0..64 {
        assert_eq!(put(&store, 100, page, length), KEPT);
        let range = PageIndex(page).range(length);
        assert_eq!(read(&store, 100, length, range).good.last(), Some(&page));
    }
}

#[test]
fn when_all_is_held_nothing_is_kept() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), MIB, Arc::new(MemoryIndex::new()));
    let length = 4 * PAGE_SIZE;
    let mut held = Vec::new();
    for name in 0..8 {
        put_all(&store, (0..4).map(|page| new_page(name, page, length)).collect());
        held.push(store.get(content(name), length, ByteRange { start: 0, end: length }));
    }
    assert_eq!(put(&store, 9, 0, length), PutOutcome::NotKept(NotKept::NoRoom));
    assert!(allocated(directory.path()) <= MIB);
    drop(held);
    assert_eq!(put(&store, 9, 0, length), KEPT);
}

#[test]
fn a_flipped_byte_is_found_and_dropped() {
    let directory = tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let all = options(&[(directory.path(), 8 * MIB)]);
    let store = PageStore::open(all, Arc::new(MemoryIndex::new()), metrics.clone()).unwrap();
    let length = 8 * PAGE_SIZE;
    put_all(&store, (0..8).map(|page| new_page(1, page, length)).collect());
    let file = fs::OpenOptions::new().write(true).open(&files(directory.path())[0].0).unwrap();
    file.write_all_at(&[page_bytes(1, 3, length)[77] ^ 1], 3 * PAGE_SIZE + 77).unwrap();
    let reading = read_all(&store, 1, length);
    assert_eq!(reading.bad, [PageIndex(3)]);
    let suspects = [PageIndex(2), PageIndex(3), PageIndex(300)];
    assert_eq!(store.verify(content(1), length, &suspects).unwrap(), 1);
    assert_eq!(metrics.pages_corrupt.get(), 1);
    assert_eq!(read_all(&store, 1, length).good, [0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(put(&store, 1, 3, length), KEPT);
    assert_eq!(read_all(&store, 1, length).good.len(), 8);
}

#[test]
fn a_lost_or_short_file_is_a_plain_miss() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let length = 8 * PAGE_SIZE;
    for name in [1, 2] {
        put_all(&store, (0..8).map(|page| new_page(name, page, length)).collect());
    }
    let path = |name| {
        let hex = content(name).to_string();
        directory.path().join("pages").join(&hex[..2]).join(&hex[2..])
    };
    fs::remove_file(path(1)).unwrap();
    eventually("the lost file is forgotten", || {
        read_all(&store, 1, length);
        store.usage()[0].segments == 1
    });
    let cut = fs::OpenOptions::new().write(true).open(path(2)).unwrap();
    cut.set_len(5 * PAGE_SIZE + 1).unwrap();
    let reading = read_all(&store, 2, length);
    assert_eq!(reading.bad, [PageIndex(5), PageIndex(6), PageIndex(7)]);
    assert_eq!(store.verify(content(2), length, &reading.bad).unwrap(), 3);
    for name in [1, 2] {
        put_all(&store, (0..8).map(|page| new_page(name, page, length)).collect());
        assert_eq!(read_all(&store, name, length).good.len(), 8);
    }
}

#[test]
fn a_page_of_zeros_is_a_page() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let bytes = bytes::Bytes::from(vec![0; PAGE_SIZE as usize]);
    let checksum = crc32c(&bytes);
    let page = NewPage { bytes: bytes.into(), checksum, ..new_page(1, 0, PAGE_SIZE) };
    assert_eq!(put_all(&store, vec![page]), [KEPT]);
    assert_eq!(store.verify(content(1), PAGE_SIZE, &[PageIndex(0)]).unwrap(), 0);
}

#[test]
fn few_descriptors_serve_many_files() {
    let directory = tempdir().unwrap();
    let mut few = options(&[(directory.path(), 64 * MIB)]);
    few.descriptors_max = 0;
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(few, index, Arc::new(Metrics::new())).unwrap();
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    for name in 0..300 {
        assert_eq!(put(&store, name, 0, 100), KEPT);
        let whole = ByteRange { start: 0, end: 100 };
        assert_eq!(read(&store, name, 100, whole).good, [0]);
    }
    // Other tests of this process open files too.
    assert!(open_files() < before + 200);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let directory = tempdir().unwrap();
    let mut small = options(&[(directory.path(), 64 * MIB)]);
    small.fill_queue_bytes_max = larder_core::ByteSize(PAGE_SIZE - 1);
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(small, index, Arc::new(Metrics::new())).unwrap();
    assert_eq!(put(&store, 1, 0, PAGE_SIZE), PutOutcome::NotKept(NotKept::QueueFull));
    assert_eq!(put(&store, 1, 0, 100), KEPT);
}

#[test]
fn what_a_page_holds_is_let_go_before_it_is_answered() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let lease = Arc::new(());
    let hold: Box<dyn std::any::Any + Send> = Box::new(Arc::clone(&lease));
    let page = NewPage { hold: Some(hold), ..new_page(1, 0, 10) };
    assert_eq!(put_all(&store, vec![page]), [KEPT]);
    assert_eq!(Arc::strong_count(&lease), 1);
}
