// SPDX-License-Identifier: Apache-2.0
//! Small files: what they share, what they keep to themselves, and what ten million of them cost.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    sync::{Arc, mpsc},
    thread,
};

use larder_core::{ByteRange, Clock, PAGE_SIZE, PageIndex, Random};
use larder_pages::{MemoryIndex, NotKept, PageStore, Piece, PutOutcome};
use rustix::fs::{Advice, fadvise, statvfs};
use tempfile::tempdir;

use crate::bench::{
    PATIENCE, allocated, check, content, eventually, files, new_page, open, page_bytes, put,
    put_all, read, read_all, slabs,
};

const MIB: u64 = 1 << 20;
const KEPT: PutOutcome = PutOutcome::Kept;
const CLOSED: PutOutcome = PutOutcome::NotKept(NotKept::Closed);

fn put_small(store: &PageStore, names: impl Iterator<Item = u64>, length: u64) {
    let outcomes = put_all(store, names.map(|name| new_page(name, 0, length)).collect());
    assert!(outcomes.iter().all(|outcome| *outcome == KEPT), "{outcomes:?}");
}

fn whole(length: u64) -> ByteRange {
    ByteRange { start: 0, end: length }
}

#[test]
fn small_files_share_a_slab_and_are_told_apart() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 64 * MIB, index.clone());
    let length = |name: u64| 1 + name * 331 % PAGE_SIZE;
    let all: Vec<_> = (0..400).map(|name| new_page(name, 0, length(name))).collect();
    assert!(put_all(&store, all).iter().all(|outcome| *outcome == KEPT));
    assert_eq!(files(directory.path()).len(), 0, "none has a file of its own");
    assert!(slabs(directory.path()).len() <= 40, "one for each class");
    let usage = store.usage();
    assert_eq!((usage[0].segments, usage[0].small_files), (400, 400));
    assert!(allocated(directory.path()) <= usage[0].resident.0);
    for name in 0..400 {
        let pieces = store.get(content(name), length(name), whole(u64::MAX));
        let Piece::Resident { extent, part } = &pieces[0] else { panic!("{name} is there") };
        assert_eq!((extent.range, *part), (whole(length(name)), whole(length(name))));
        assert_eq!(check(name, length(name), whole(u64::MAX), &pieces).good, [0]);
        let presence = store.presence(content(name), length(name));
        assert_eq!((presence.pages, presence.bytes), (1, length(name)));
        let other = store.presence(content(name), length(name) + 1);
        assert_eq!(other.pages, 0, "another length is another content");
    }
    let some = ByteRange { start: 70, end: 90 };
    assert_eq!(read(&store, 1, length(1), some).good, [0]);
    store.close().unwrap();
    drop(store);
    let again = open(directory.path(), 64 * MIB, index);
    assert_eq!(again.usage(), usage);
    assert!((0..400).all(|name| read_all(&again, name, length(name)).good == [0]));
}

#[test]
fn the_newer_length_counts() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let lengths = [100, 200, 3000, 3 * PAGE_SIZE, 50_000, 1];
    for length in lengths {
        assert_eq!(put(&store, 1, 0, length), KEPT);
        assert_eq!(put(&store, 1, 0, length), KEPT, "twice is once");
        assert_eq!(read_all(&store, 1, length).good, [0]);
        for other in lengths.iter().filter(|other| **other != length) {
            assert!(read_all(&store, 1, *other).good.is_empty(), "{length} {other}");
        }
        assert_eq!(store.usage()[0].segments, 1);
    }
    assert_eq!(store.remove(content(1)).unwrap(), 512);
    assert_eq!((allocated(directory.path()), store.usage()[0].resident.0), (0, 0));
}

#[test]
fn a_slot_that_is_held_is_nobody_elses() {
    let directory = tempdir().unwrap();
    let capacity = 2 * MIB;
    let store = open(directory.path(), capacity, Arc::new(MemoryIndex::new()));
    let length = 3000;
    put_small(&store, 0..100, length);
    let hold = |name| (name, store.get(content(name), length, whole(length)));
    let held: Vec<_> = (0..100).step_by(3).map(hold).collect();
    for name in (0..100).step_by(6) {
        assert!(store.remove(content(name)).unwrap() >= length);
        assert!(read_all(&store, name, length).good.is_empty());
    }
    // Several times the capacity, of the same class and of others.
    for round in 1..20 {
        put_small(&store, (round * 1000..).take(200), length);
        put_small(&store, (round * 1000 + 500..).take(20), PAGE_SIZE);
        assert!(allocated(directory.path()) <= capacity);
    }
    for (name, pieces) in &held {
        assert_eq!(check(*name, length, whole(length), pieces).good, [0], "{name}");
    }
    let listed = |name: &u64| !name.is_multiple_of(6);
    let kept = (0..100).step_by(3).filter(listed);
    assert!(kept.into_iter().all(|name| read_all(&store, name, length).good == [0]));
    drop(held);
    for name in 0..30_000 {
        store.remove(content(name)).unwrap();
    }
    eventually("all of it goes", || allocated(directory.path()) == 0);
    assert_eq!(store.usage()[0].resident.0, 0);
}

#[test]
fn one_class_makes_room_for_another_and_for_long_files() {
    let directory = tempdir().unwrap();
    let capacity = 8 * MIB;
    let store = open(directory.path(), capacity, Arc::new(MemoryIndex::new()));
    let fits = |taken: u64| {
        assert!(allocated(directory.path()) <= capacity);
        let used = store.usage()[0].resident.0;
        assert!(used <= capacity && used > capacity * 3 / 4, "{taken}: {used} are used");
    };
    put_small(&store, 0..14_000, 500);
    fits(500);
    for (nth, length) in [5000, 1000, PAGE_SIZE, 700, 9000, 4096].into_iter().enumerate() {
        let first = (nth as u64 + 1) * 100_000;
        let count = 2 * capacity / length.max(512);
        for names in (first..first + count).collect::<Vec<_>>().chunks(500) {
            put_small(&store, names.iter().copied(), length);
        }
        fits(length);
        let last = first + count - 1;
        assert_eq!(read_all(&store, last, length).good, [0], "the newest is there");
    }
    for name in 0..30 {
        let pages = (0..8).map(|page| new_page(name, page, 8 * PAGE_SIZE)).collect();
        assert!(put_all(&store, pages).iter().all(|outcome| *outcome == KEPT));
    }
    fits(8 * PAGE_SIZE);
    assert_eq!(read_all(&store, 29, 8 * PAGE_SIZE).good.len(), 8);
    put_small(&store, 900_000..914_000, 500);
    fits(500);
}

#[test]
fn what_is_read_again_stays_whatever_its_size() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let hot = |name: u64| if name < 100 { 2000 } else { 2 * PAGE_SIZE };
    for name in 0..110 {
        put_all(&store, vec![new_page(name, 0, hot(name)), new_page(name, 1, hot(name))]);
    }
    for round in 0..200 {
        for name in 0..110 {
            drop(store.get(content(name), hot(name), whole(hot(name))));
        }
        put_small(&store, (10_000 + round * 100..).take(100), 4000);
    }
    let kept = (0..110).filter(|name| !read_all(&store, *name, hot(*name)).good.is_empty());
    assert!(kept.count() > 100, "twenty scans of the cache's size pass by");
}

#[test]
fn a_flipped_bit_and_a_lost_slab_are_misses() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let length = 700;
    put_small(&store, 0..10, length);
    let pieces = store.get(content(4), length, whole(length));
    let Piece::Resident { extent, .. } = &pieces[0] else { panic!("it is there") };
    let slab = fs::OpenOptions::new().write(true).open(&slabs(directory.path())[0].0).unwrap();
    let wrong = page_bytes(4, 0, length)[600] ^ 4;
    slab.write_all_at(&[wrong], extent.offset + 600).unwrap();
    assert_eq!(check(4, length, whole(length), &pieces).bad, [PageIndex(0)]);
    drop(pieces);
    assert_eq!(store.verify(content(4), length, &[PageIndex(0)]).unwrap(), 1);
    assert_eq!(store.verify(content(5), length, &[PageIndex(0), PageIndex(3)]).unwrap(), 0);
    assert!(read_all(&store, 4, length).good.is_empty());
    assert_eq!(put(&store, 4, 0, length), KEPT);
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    fs::remove_file(&slabs(directory.path())[0].0).unwrap();
    eventually("the lost slab is forgotten", || {
        assert!(read_all(&store, 5, length).good.is_empty());
        store.usage()[0].resident.0 == 0
    });
    put_small(&store, 0..10, length);
    fs::remove_file(&slabs(directory.path())[0].0).unwrap();
    assert_eq!(put(&store, 11, 0, length), KEPT, "found by who writes, who takes another slab");
    put_small(&store, 0..12, length);
    assert!((0..12).all(|name| read_all(&store, name, length).good == [0]));
}

#[test]
fn threads_that_put_read_and_remove_the_same_files_never_meet() {
    let directory = tempdir().unwrap();
    let capacity = 2 * MIB;
    let store = open(directory.path(), capacity, Arc::new(MemoryIndex::new()));
    let length = |name: u64| [300, 1000, 1500, 5000, PAGE_SIZE, 3 * PAGE_SIZE][name as usize % 6];
    thread::scope(|scope| {
        for seed in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let random = Random::seeded(seed);
                let mut held = Vec::new();
                for _ in 0..300 {
                    let first = random.below(120);
                    let new = (first..first + 8).map(|name| new_page(name, 0, length(name)));
                    let outcomes = put_all(store, new.collect());
                    assert!(outcomes.iter().all(|outcome| *outcome != CLOSED));
                    let name = random.below(128);
                    let pieces = store.get(content(name), length(name), whole(length(name)));
                    assert!(check(name, length(name), whole(length(name)), &pieces).bad.is_empty());
                    held.push((name, pieces));
                    if random.below(3) == 0 {
                        store.remove(content(random.below(128))).unwrap();
                    }
                    if held.len() > 20 {
                        for (name, pieces) in held.drain(..) {
                            let reading = check(name, length(name), whole(length(name)), &pieces);
                            assert!(reading.bad.is_empty(), "{name} went while it was held");
                        }
                    }
                }
            });
        }
    });
    assert!(allocated(directory.path()) <= capacity);
    for name in 0..128 {
        store.remove(content(name)).unwrap();
    }
    eventually("all of it goes", || allocated(directory.path()) == 0);
    assert_eq!(store.usage()[0].resident.0, 0);
}

/// How many files a run of this test makes; fewer where the disk has not the room.
const FILES: u64 = 10_000_000;
const TINY: u64 = 100;
/// The step that a child does, and the directory and the number of files.
const CHILD: &str = "LARDER_PAGES_SMALL_CHILD";
/// The disk is left with so much.
const LEFT_FREE: u64 = 12 << 30;

#[test]
#[ignore = "some minutes and 6 GiB; run by `just soak`"]
fn soak_ten_million_small_files() {
    if let Ok(order) = std::env::var(CHILD) {
        let words: Vec<&str> = order.splitn(3, ' ').collect();
        let count = words[1].parse().unwrap();
        let directory = Path::new(words[2]);
        return match words[0] {
            "fill" => fill_millions(directory, count),
            "open" => open_millions(directory, count),
            _ => replace_millions(directory, count),
        };
    }
    let directory = tempdir().unwrap();
    let space = statvfs(directory.path()).unwrap();
    let free = space.f_frsize * space.f_bavail;
    let count = FILES.min(free.saturating_sub(LEFT_FREE) / 600);
    if count < FILES / 100 {
        eprintln!("skipped: the disk has {free} bytes free, of which {LEFT_FREE} are left alone");
        return;
    }
    for step in ["fill", "open", "replace"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["small::soak_ten_million_small_files", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, format!("{step} {count} {}", directory.path().display()))
            .status()
            .unwrap();
        assert!(child.success(), "{step}");
    }
    let inodes = slabs(directory.path()).len() as u64;
    eprintln!("{count} files in {inodes} slabs, {} bytes on disk", allocated(directory.path()));
    assert!(inodes <= count / 8000 + 1);
}

/// Memory that is no page cache.
fn private_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What the process has computed so far, on all cores, in seconds.
fn computed() -> f64 {
    let status = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = status.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

/// Puts these, some thousands at a time.
fn put_millions(store: &PageStore, names: Range<u64>) {
    let clock = Clock::system();
    let before = computed();
    let count = names.end - names.start;
    let (tell, told) = mpsc::channel();
    for (nth, name) in (0..).zip(names) {
        let tell = tell.clone();
        store.put(new_page(name, 0, TINY), move |outcome| tell.send(outcome).unwrap());
        if nth >= 8192 {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), KEPT);
        }
    }
    for _ in 0..count.min(8192) {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), KEPT);
    }
    let each = clock.elapsed() / u32::try_from(count).unwrap();
    eprintln!("put {count}: {each:?} each, {:.1} s of CPU", computed() - before);
}

fn fill_millions(directory: &Path, count: u64) {
    let store = open(directory, 1 << 40, Arc::new(MemoryIndex::new()));
    put_millions(&store, 0..count);
    store.close().unwrap();
    for (path, _) in slabs(directory) {
        let slab = File::open(path).unwrap();
        slab.sync_all().unwrap();
        fadvise(&slab, 0, None, Advice::DontNeed).unwrap();
    }
}

/// A store that is full: each file that comes takes the place of another.
fn replace_millions(directory: &Path, count: u64) {
    let before = private_bytes();
    let full = allocated(directory);
    let store = open(directory, full, Arc::new(MemoryIndex::new()));
    store.remove(content(u64::MAX)).unwrap();
    put_millions(&store, count..count + count / 2);
    let now = store.usage()[0].small_files;
    assert!(now > count * 9 / 10, "{now} of {count}");
    assert!(allocated(directory) <= full);
    let each = (private_bytes() - before) as f64 / now as f64;
    eprintln!("{now} are left; {each:.1} bytes each with all that is remembered");
    assert!(each <= 64.0, "{each} bytes of memory for each file");
    store.close().unwrap();
}

fn open_millions(directory: &Path, count: u64) {
    let before = private_bytes();
    let clock = Clock::system();
    let idle = computed();
    let store = open(directory, 1 << 40, Arc::new(MemoryIndex::new()));
    let opened = clock.elapsed();
    // Returns when all is loaded, without asking again and again.
    store.remove(content(u64::MAX)).unwrap();
    let loaded = clock.elapsed();
    assert_eq!(store.usage()[0].small_files, count);
    let each = (private_bytes() - before) as f64 / count as f64;
    let cpu = computed() - idle;
    eprintln!("opened after {opened:?}; all {count} known after {loaded:?}, {cpu:.1} s of CPU");
    eprintln!("{each:.1} bytes of memory each");
    let random = Random::new();
    let clock = Clock::system();
    for _ in 0..1000 {
        let name = random.below(count);
        assert_eq!(read_all(&store, name, TINY).good, [0]);
    }
    eprintln!("1000 cold reads took {:?}", clock.elapsed());
    assert!(each <= 64.0, "{each} bytes of memory for each file");
    store.close().unwrap();
}
