// SPDX-License-Identifier: Apache-2.0
//! The page store on disks that fail, stick or fill up. Apart from `it` because fail points are
//! global to a process: each test here holds the scenario's lock while it runs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../it/bench.rs"]
#[expect(dead_code, reason = "this binary uses a part of it")]
mod bench;
mod slabs;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    sync::mpsc,
    time::Duration,
};

use fail::FailScenario;
use larder_core::{ByteRange, Clock, Metrics, PAGE_SIZE, PageIndex};
use larder_pages::{MemoryIndex, NotKept, PageStore, PutOutcome};
use tempfile::{TempDir, tempdir};

use bench::{allocated, content, eventually, new_page, open, options, put, put_all, read_all};

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 4 * PAGE_SIZE;
const KEPT: PutOutcome = PutOutcome::Kept;
const FAULT: PutOutcome = PutOutcome::NotKept(NotKept::DiskFault);

/// A store on two directories.
struct Pair {
    store: Arc<PageStore>,
    directories: [TempDir; 2],
}

fn pair() -> Pair {
    let directories = [tempdir().unwrap(), tempdir().unwrap()];
    let both = directories.each_ref().map(|directory| (directory.path(), 8 * MIB));
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(options(&both), index, Arc::new(Metrics::new())).unwrap();
    Pair { store, directories }
}

/// Lets the disk fail that takes the next small file; which it was.
fn break_one(store: &PageStore) -> PathBuf {
    fail::cfg("pages::fill", "1*return(EIO)").unwrap();
    assert_eq!(put(store, 1000, 0, SMALL), FAULT);
    let usage = store.usage();
    usage.iter().find(|usage| usage.fault.is_some()).unwrap().path.clone()
}

fn put_four(store: &PageStore, name: u64) -> Vec<PutOutcome> {
    put_all(store, (0..4).map(|page| new_page(name, page, LENGTH)).collect())
}

#[test]
fn a_stuck_disk_makes_nobody_wait() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let mut small = options(&[(directory.path(), 64 * MIB)]);
    small.fill_queue_bytes_max = larder_core::ByteSize(8 * PAGE_SIZE);
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(small, index, Arc::new(Metrics::new())).unwrap();
    assert_eq!(put_four(&store, 1), [KEPT; 4]);
    fail::cfg("pages::fill", "pause").unwrap();
    let (tell, told) = mpsc::channel();
    let clock = Clock::system();
    for name in 2..200 {
        let tell = tell.clone();
        store.put(new_page(name, 0, LENGTH), move |outcome| tell.send(outcome).unwrap());
    }
    assert_eq!(read_all(&store, 1, LENGTH).good.len(), 4, "reading goes on");
    let full = told.try_iter().filter(|o| *o == PutOutcome::NotKept(NotKept::QueueFull)).count();
    assert_eq!(full, 198 - 8);
    assert!(clock.elapsed() < Duration::from_secs(30), "198 puts took {:?}", clock.elapsed());
    fail::remove("pages::fill");
    let kept = (0..8).map(|_| told.recv_timeout(bench::PATIENCE).unwrap());
    assert!(kept.into_iter().all(|outcome| outcome == KEPT));
    store.close().unwrap();
    scenario.teardown();
}

#[test]
fn a_broken_disk_leaves_service_and_the_other_goes_on() {
    let scenario = FailScenario::setup();
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let both = options(&[(first.path(), 8 * MIB), (second.path(), 8 * MIB)]);
    let metrics = Arc::new(Metrics::new());
    let store = PageStore::open(both, Arc::new(MemoryIndex::new()), metrics.clone()).unwrap();
    for name in 0..8 {
        assert_eq!(put_four(&store, name), [KEPT; 4]);
    }
    fail::cfg("pages::fill", "1*return(EIO)").unwrap();
    assert_eq!(put(&store, 100, 0, LENGTH), FAULT);
    assert_eq!(metrics.pages_not_kept.get(), 1);
    let faults: Vec<_> = store.usage().into_iter().filter_map(|usage| usage.fault).collect();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("Input/output error"), "{}", faults[0]);
    for name in (0..8).chain([100]) {
        let resident = read_all(&store, name, LENGTH).good.len();
        assert!([0, 4].contains(&resident), "wholly there or a miss");
        assert_eq!(put_four(&store, name), [KEPT; 4], "it moves to the healthy disk");
        assert_eq!(read_all(&store, name, LENGTH).good.len(), 4);
    }
    fail::cfg("pages::create", "1*return(EROFS)").unwrap();
    assert_eq!(put(&store, 101, 0, LENGTH), FAULT);
    assert_eq!(put(&store, 102, 0, LENGTH), FAULT, "no disk is left");
    assert!(read_all(&store, 1, LENGTH).good.is_empty());
    store.close().unwrap();
    scenario.teardown();
}

#[test]
fn a_full_disk_shrinks_the_store_for_a_while() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    for name in 0..8 {
        assert_eq!(put_four(&store, name), [KEPT; 4]);
    }
    let before = allocated(directory.path());
    fail::cfg("pages::fill", "1*return(ENOSPC)").unwrap();
    assert_eq!(put_four(&store, 100)[0], PutOutcome::NotKept(NotKept::NoRoom));
    for name in 200..204 {
        assert_eq!(put_four(&store, name), [KEPT; 4], "others make room");
        assert!(allocated(directory.path()) <= before);
    }
    for name in 300..700 {
        put_four(&store, name);
    }
    assert!(allocated(directory.path()) > 2 * before, "it grows again");
    assert!(store.usage()[0].fault.is_none());
    scenario.teardown();
}

#[test]
fn a_record_that_cannot_be_written_leaves_nothing_behind() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    assert_eq!(put(&store, 1, 0, LENGTH), KEPT);
    let used = store.usage()[0].resident;
    fail::cfg("pages::record", "1*return").unwrap();
    assert_eq!(put(&store, 1, 1, LENGTH), FAULT);
    assert_eq!(allocated(directory.path()), PAGE_SIZE);
    assert_eq!(store.usage()[0].resident, used);
    assert_eq!(read_all(&store, 1, LENGTH).good, [0]);
    assert_eq!(put(&store, 1, 1, LENGTH), KEPT);
    scenario.teardown();
}

#[test]
fn what_cannot_be_freed_stays_counted() {
    for point in ["pages::punch", "pages::unlink", "pages::clear"] {
        let scenario = FailScenario::setup();
        let directory = tempdir().unwrap();
        let store = open(directory.path(), MIB, Arc::new(MemoryIndex::new()));
        // Segments of one long file are punched, short files are unlinked.
        let (names, stride, length) = match point {
            "pages::punch" => (1, 256, 1 << 32),
            "pages::unlink" => (64, 1, LENGTH),
            // Small files of another class each time.
            _ => (64, 1, 0),
        };
        fail::cfg(point, "return(EIO)").unwrap();
        for nth in 0..32 {
            let length = if length == 0 { 30_000 + nth * 500 } else { length };
            let name = if names == 1 { 1 } else { nth };
            let page = if names == 1 { nth as u32 * stride } else { 0 };
            put(&store, name, page, length);
            assert!(allocated(directory.path()) <= MIB);
        }
        assert!(store.usage()[0].fault.is_some(), "{point}");
        scenario.teardown();
    }
}

#[test]
fn dying_between_write_and_record_leaks_nothing() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 8 * MIB, index.clone());
    assert_eq!(put(&store, 1, 0, LENGTH), KEPT);
    fail::cfg("pages::record", "panic").unwrap();
    let closed = PutOutcome::NotKept(NotKept::Closed);
    assert_eq!(put(&store, 1, 2, LENGTH), closed, "answered although the thread met a defect");
    assert_eq!(allocated(directory.path()), 2 * PAGE_SIZE, "written, not recorded");
    fail::remove("pages::record");
    assert_eq!(put(&store, 2, 0, LENGTH), KEPT, "the thread lives on");
    drop(store);
    let store = open(directory.path(), 8 * MIB, index);
    eventually("the stray page goes", || allocated(directory.path()) == 2 * PAGE_SIZE);
    assert_eq!(read_all(&store, 1, LENGTH).good, [0]);
    scenario.teardown();
}

const SMALL: u64 = 900;

fn put_small(store: &PageStore, names: std::ops::Range<u64>) -> Vec<PutOutcome> {
    put_all(store, names.map(|name| new_page(name, 0, SMALL)).collect())
}

fn good_small(store: &PageStore, names: std::ops::Range<u64>) -> usize {
    names.filter(|name| read_all(store, *name, SMALL).good == [0]).count()
}

#[test]
fn small_files_of_a_broken_disk_are_misses_until_it_comes_back() {
    for point in ["pages::slab", "pages::fill", "pages::entry", "pages::clear"] {
        let scenario = FailScenario::setup();
        let Pair { store, directories: [first, second] } = pair();
        assert_eq!(put_small(&store, 0..60), [KEPT; 60]);
        fail::cfg(point, "1*return(EIO)").unwrap();
        match point {
            "pages::clear" => drop(store.remove(content(60 - 1)).unwrap()),
            // A class of which there is no slab yet.
            "pages::slab" => assert_eq!(put(&store, 1000, 0, 5000), FAULT),
            _ => assert_eq!(put(&store, 1000, 0, SMALL), FAULT),
        }
        let usage = store.usage();
        let faulty = usage.iter().find(|usage| usage.fault.is_some()).unwrap();
        let here = good_small(&store, 0..59);
        assert!((1..59).contains(&here), "{point}: those of one disk are misses: {here}");
        store.resume_directory(&faulty.path).unwrap();
        assert!(store.usage().iter().all(|usage| usage.fault.is_none()));
        eventually("they are compared", || store.usage().iter().all(|usage| !usage.comparing));
        assert_eq!(good_small(&store, 0..59), 59, "{point}: nothing was lost");
        for directory in [&first, &second] {
            let usage = store.usage();
            let usage = usage.iter().find(|usage| usage.path == directory.path()).unwrap();
            assert!(allocated(directory.path()) <= usage.resident.0, "{point}");
        }
        assert_eq!(put_small(&store, 1000..1100), [KEPT; 100]);
        for name in 0..2000 {
            store.remove(content(name)).unwrap();
        }
        assert_eq!(allocated(first.path()) + allocated(second.path()), 0, "{point}");
        assert!(store.usage().iter().all(|usage| usage.resident.0 == 0), "{point}");
        scenario.teardown();
    }
}

#[test]
fn small_files_move_off_a_broken_disk_and_a_drain_lets_go_of_it() {
    let scenario = FailScenario::setup();
    let Pair { store, directories: _directories } = pair();
    assert_eq!(put_small(&store, 0..60), [KEPT; 60]);
    let whole = ByteRange { start: 0, end: SMALL };
    let held: Vec<_> = (0..60).map(|name| store.get(content(name), SMALL, whole)).collect();
    let faulty = break_one(&store);
    assert_eq!(put_small(&store, 0..60), [KEPT; 60], "what is lost is put elsewhere");
    assert_eq!(good_small(&store, 0..60), 60);
    store.drain_directory(&faulty).unwrap();
    let standing = || {
        let usage = store.usage();
        usage.iter().find(|usage| usage.path == faulty).unwrap().standing
    };
    for (name, pieces) in (0..).zip(&held) {
        assert_eq!(bench::check(name, SMALL, whole, pieces).good, [0]);
    }
    drop(held);
    eventually("it is let go of", || standing() == larder_pages::Standing::Drained);
    assert_eq!(good_small(&store, 0..60), 60);
    // What still lies there comes back, but for what lies elsewhere by now.
    store.resume_directory(&faulty).unwrap();
    assert_eq!(store.usage().iter().map(|usage| usage.small_files).sum::<u64>(), 60);
    eventually("all that lies there is accounted for", || {
        let usage = store.usage();
        let usage = usage.iter().find(|usage| usage.path == faulty).unwrap();
        allocated(&faulty) <= usage.resident.0
    });
    scenario.teardown();
}

/// What was fetched again while a disk was away lies twice when it comes back: the old copies go.
#[test]
fn small_files_that_moved_take_no_room_on_a_disk_that_comes_back() {
    let scenario = FailScenario::setup();
    let Pair { store, directories: _directories } = pair();
    assert_eq!(put_small(&store, 0..60), [KEPT; 60]);
    let faulty = break_one(&store);
    assert_eq!(put_small(&store, 0..60), [KEPT; 60], "what is lost is put elsewhere");
    assert!(allocated(&faulty) > 0, "the failed disk is left alone");
    store.resume_directory(&faulty).unwrap();
    assert_eq!(good_small(&store, 0..60), 60);
    let usage = store.usage();
    assert_eq!(usage.iter().map(|usage| usage.small_files).sum::<u64>(), 60);
    let usage = usage.iter().find(|usage| usage.path == faulty).unwrap();
    assert!(allocated(&faulty) <= usage.resident.0, "{} of {:?}", allocated(&faulty), usage);
    scenario.teardown();
}

#[test]
fn small_files_that_meet_a_full_disk_or_a_defect_leave_nothing_behind() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let no_room = PutOutcome::NotKept(NotKept::NoRoom);
    // More than next to nothing, or a full disk would be of no use at all.
    assert_eq!(put_small(&store, 0..1000), [KEPT; 1000]);
    let taken = || (allocated(directory.path()), store.usage()[0].resident);
    let closed = PutOutcome::NotKept(NotKept::Closed);
    for (point, outcome) in
        [("pages::fill", no_room), ("pages::entry", no_room), ("pages::entry", closed)]
    {
        let before = taken();
        let action = if outcome == no_room { "1*return(ENOSPC)" } else { "1*panic" };
        fail::cfg(point, action).unwrap();
        assert_eq!(put(&store, 5000, 0, SMALL), outcome);
        fail::remove(point);
        eventually("no more is taken than before", || taken() <= before);
        assert!(store.usage()[0].fault.is_none());
        assert!(good_small(&store, 0..1000) > 900);
        assert_eq!(put(&store, 5000, 0, SMALL), KEPT, "others make room");
        store.remove(content(5000)).unwrap();
    }
    let before = taken();
    fail::cfg("pages::slab", "1*return(ENOSPC)").unwrap();
    let outcome = put(&store, 5000, 0, 40_000);
    assert!(outcome == no_room, "{outcome:?}");
    assert!(taken() <= before && store.usage()[0].fault.is_none());
    assert_eq!(put(&store, 5000, 0, 40_000), KEPT, "others make room");
    scenario.teardown();
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let point = tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(point.path())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(point))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_real_full_file_system() {
    let scenario = FailScenario::setup();
    let Some(disk) = SmallDisk::mount(8 * MIB) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let store = open(disk.path(), 64 * MIB, Arc::new(MemoryIndex::new()));
    assert!(store.usage()[0].capacity.0 <= 8 * MIB, "cut to the file system");
    std::fs::write(disk.path().join("somebody-else"), vec![1; 4 << 20]).unwrap();
    let mut kept = 0;
    for name in 0..100 {
        kept += put_four(&store, name).iter().filter(|outcome| **outcome == KEPT).count();
        assert!(read_all(&store, name, LENGTH).bad.is_empty());
    }
    assert!(kept > 200, "it lives with what is left: {kept}");
    assert!(store.usage()[0].fault.is_none());
    store.close().unwrap();
    drop(store);
    drop(disk);
    scenario.teardown();
}

#[test]
fn a_disk_that_cannot_be_read_is_a_miss() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    put_four(&store, 1);
    // A directory in the file's place: it can be opened, not read.
    let hex = content(1).to_string();
    let path = directory.path().join("pages").join(&hex[..2]).join(&hex[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let whole = ByteRange { start: 0, end: LENGTH };
    drop(store.get(content(1), LENGTH, whole));
    let all: Vec<PageIndex> = (0..4).map(PageIndex).collect();
    store.verify(content(1), LENGTH, &all).unwrap();
    assert!(store.usage()[0].fault.is_some());
    assert!(read_all(&store, 1, LENGTH).good.is_empty());
    scenario.teardown();
}
