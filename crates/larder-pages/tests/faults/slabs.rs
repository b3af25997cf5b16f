// SPDX-License-Identifier: Apache-2.0
//! Slabs that cannot be read, or made; and fills that get into each other's way.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use fail::FailScenario;
use larder_core::{ByteRange, Metrics, PAGE_SIZE};
use larder_pages::{Class, ClassRule, MemoryIndex, NewPage, NotKept, PageStore, Piece, PutOutcome};
use tempfile::tempdir;

use crate::bench::{
    PATIENCE, content, eventually, new_page, open, options, put, put_all, read_all, slabs,
};

const MIB: u64 = 1 << 20;
const KEPT: PutOutcome = PutOutcome::Kept;
/// Of three size classes, so of three slabs.
const LENGTHS: [u64; 3] = [300, 3000, 30_000];

/// A closed directory with small files in three slabs.
fn filled(directory: &Path) -> Arc<MemoryIndex> {
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory, 8 * MIB, index.clone());
    for (name, length) in (0..).zip(LENGTHS) {
        assert_eq!(put(&store, name, 0, length), KEPT);
    }
    store.close().unwrap();
    assert_eq!(slabs(directory).len(), 3);
    index
}

/// Insists that so many of the three files are misses, and that all goes on otherwise.
fn goes_on(store: &PageStore, lost: usize) {
    assert_eq!(store.usage()[0].fault, None);
    let is_here = |(name, length)| !read_all(store, name, length).good.is_empty();
    let here = (0..).zip(LENGTHS).filter(|file| is_here(*file)).count();
    assert_eq!(here, 3 - lost);
    for (name, length) in (0..).zip(LENGTHS) {
        assert_eq!(put(store, name, 0, length), KEPT);
        assert_eq!(read_all(store, name, length).good, [0]);
    }
    assert_eq!(store.usage()[0].fault, None);
}

#[test]
fn a_slab_whose_head_cannot_be_read_is_lost_alone() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let index = filled(directory.path());
    fail::cfg("pages::slab_read", "1*return(EIO)").unwrap();
    let store = open(directory.path(), 8 * MIB, index.clone());
    assert_eq!(slabs(directory.path()).len(), 2, "it gives its room back");
    goes_on(&store, 1);
    store.close().unwrap();
    goes_on(&open(directory.path(), 8 * MIB, index), 0);
    scenario.teardown();
}

#[test]
fn a_moment_without_descriptors_loses_no_slab() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let index = filled(directory.path());
    fail::cfg("pages::slab_read", "3*return(EMFILE)").unwrap();
    let store = open(directory.path(), 8 * MIB, index.clone());
    eventually("all are read", || read_all(&store, 2, LENGTHS[2]).good == [0]);
    goes_on(&store, 0);
    store.close().unwrap();
    // A longer one makes misses, and nothing is deleted.
    fail::cfg("pages::slab_read", "return(EMFILE)").unwrap();
    let store = open(directory.path(), 8 * MIB, index.clone());
    store.wait_until_loaded().unwrap();
    fail::remove("pages::slab_read");
    assert_eq!(slabs(directory.path()).len(), 3);
    goes_on(&store, 3);
    assert_eq!(slabs(directory.path()).len(), 6, "none is written over");
    store.close().unwrap();
    goes_on(&open(directory.path(), 8 * MIB, index), 0);
    scenario.teardown();
}

#[test]
fn a_directory_with_the_name_of_a_slab_is_none() {
    let scenario = FailScenario::setup();
    for is_empty in [true, false] {
        let directory = tempdir().unwrap();
        let index = filled(directory.path());
        let slab: PathBuf = slabs(directory.path())[0].0.clone();
        fs::remove_file(&slab).unwrap();
        fs::create_dir(&slab).unwrap();
        if !is_empty {
            fs::write(slab.join("something"), "of somebody's").unwrap();
        }
        for lost in [1, 0] {
            let store = open(directory.path(), 8 * MIB, index.clone());
            goes_on(&store, lost);
            store.close().unwrap();
        }
        assert_eq!(slab.is_dir(), !is_empty);
    }
    scenario.teardown();
}

#[test]
fn a_slab_too_many_leaves_no_file_behind() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    fail::cfg("pages::slabs_max", "return").unwrap();
    assert_eq!(put(&store, 1, 0, 300), PutOutcome::NotKept(NotKept::NoRoom));
    assert_eq!(slabs(directory.path()), []);
    assert_eq!(store.usage()[0].resident.0, 0);
    fail::remove("pages::slabs_max");
    assert_eq!(put(&store, 1, 0, 300), KEPT);
    scenario.teardown();
}

#[test]
fn a_directory_that_comes_back_holds_up_no_other() {
    let scenario = FailScenario::setup();
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let index = Arc::new(MemoryIndex::new());
    let both = options(&[(first.path(), 8 * MIB), (second.path(), 8 * MIB)]);
    let store = PageStore::open(both, index, Arc::new(Metrics::new())).unwrap();
    let mut names = 0..;
    while slabs(first.path()).is_empty() || slabs(second.path()).is_empty() {
        assert_eq!(put(&store, names.next().unwrap(), 0, 300), KEPT);
    }
    fail::cfg("pages::entry", "1*return(EIO)").unwrap();
    put(&store, names.next().unwrap(), 0, 300);
    let out = store.usage().into_iter().find(|usage| usage.fault.is_some()).unwrap().path;
    fail::cfg("pages::slab_read", "pause").unwrap();
    thread::scope(|scope| {
        let resume = scope.spawn(|| store.resume_directory(&out));
        let (tell, told) = mpsc::channel();
        // A slab has to be made for it, in the other directory.
        store.put(new_page(1 << 40, 0, 30_000), move |outcome| tell.send(outcome).unwrap());
        let outcome = told.recv_timeout(PATIENCE);
        fail::remove("pages::slab_read");
        assert_eq!(outcome, Ok(KEPT));
        resume.join().unwrap().unwrap();
    });
    scenario.teardown();
}

#[test]
fn a_fill_does_not_take_away_what_another_has_just_filled() {
    let scenario = FailScenario::setup();
    let directories = [tempdir().unwrap(), tempdir().unwrap()];
    let both = options(&[(directories[0].path(), 8 * MIB), (directories[1].path(), 8 * MIB)]);
    let store = PageStore::open(both, Arc::new(MemoryIndex::new()), Arc::new(Metrics::new()));
    let (store, length) = (store.unwrap(), 32 * MIB);
    assert_eq!(put(&store, 1, 0, length), KEPT);
    let home = store.usage().iter().position(|usage| usage.segments == 1).unwrap();
    // So that the drain does not get at it.
    let held = store.get(content(1), length, ByteRange { start: 0, end: 1 });
    assert!(matches!(held[..], [Piece::Resident { .. }]));
    store.drain_directory(directories[home].path()).unwrap();
    fail::cfg("pages::leave", "1*pause->off").unwrap();
    let (tell, told) = mpsc::channel();
    let late = tell.clone();
    store.put(new_page(1, 1, length), move |outcome| late.send((1, outcome)).unwrap());
    // One of the two waits before it takes the content off its directory, the other does so.
    store.put(new_page(1, 300, length), move |outcome| tell.send((300, outcome)).unwrap());
    let (first, outcome) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, KEPT);
    fail::remove("pages::leave");
    let (second, outcome) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, KEPT);
    let mut pages = [first, second];
    pages.sort_unstable();
    assert_eq!(read_all(&store, 1, length).good, pages);
    drop(held);
    scenario.teardown();
}

#[test]
fn more_small_files_at_once_than_a_quota_holds_are_kept_in_turn() {
    let scenario = FailScenario::setup();
    let directory = tempdir().unwrap();
    let mut all = options(&[(directory.path(), 8 * MIB)]);
    let class = Class(7);
    all.classes = vec![ClassRule { class, quota_files: Some(3), ..ClassRule::default() }];
    all.fill_threads = 1;
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(all, index, Arc::new(Metrics::new())).unwrap();
    // While the only thread is held up, the others gather.
    fail::cfg("pages::fill", "pause").unwrap();
    store.put(new_page(100, 0, 2 * PAGE_SIZE), |_| {});
    let (tell, told) = mpsc::channel();
    for name in 0..12 {
        let tell = tell.clone();
        let page = NewPage { class, ..new_page(name, 0, 300) };
        store.put(page, move |outcome| tell.send(outcome).unwrap());
    }
    fail::remove("pages::fill");
    for _ in 0..12 {
        assert_eq!(told.recv_timeout(PATIENCE), Ok(KEPT));
    }
    assert_eq!(store.class_usage()[0].files, 3);
    let again = put_all(&store, vec![NewPage { class, ..new_page(50, 0, 300) }]);
    assert_eq!(again, [KEPT]);
    scenario.teardown();
}
