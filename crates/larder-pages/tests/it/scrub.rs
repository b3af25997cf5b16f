// SPDX-License-Identifier: Apache-2.0
//! The scrubber: finds rot that nobody reads, takes nothing else for rot, goes on after a restart
//! and leaves alone what is being drained or fails.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use larder_core::{ByteSize, Metrics, PAGE_SIZE, Random};
use larder_pages::{Index, MemoryIndex, Options, PageStore, Scrub, Scrubbed, Standing};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::tempdir;

use crate::bench::{
    content, eventually, files, new_page, options, page_bytes, put, put_all, read_all,
};

const CAPACITY: u64 = 64 << 20;
const NAMES: u64 = 40;
const LENGTH: u64 = 3 * PAGE_SIZE + 7;
const PAGES: u32 = 4;

/// As fast as it can, one pass after the other.
fn restless(directory: &Path) -> Options {
    let scrub =
        Scrub { bytes_per_second: ByteSize(u64::MAX), pass_interval: Duration::from_millis(5) };
    Options { scrub, ..options(&[(directory, CAPACITY)]) }
}

/// It takes its first step and then rests for a day.
fn slow(directory: &Path) -> Options {
    let scrub = Scrub { bytes_per_second: ByteSize(1), ..Scrub::default() };
    Options { scrub, ..options(&[(directory, CAPACITY)]) }
}

fn open(options: Options, index: &Arc<MemoryIndex>) -> (Arc<PageStore>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let index: Arc<dyn Index> = Arc::clone(index) as Arc<dyn Index>;
    (PageStore::open(options, index, Arc::clone(&metrics)).unwrap(), metrics)
}

fn fill(store: &PageStore) {
    for name in 0..NAMES {
        put_all(store, (0..PAGES).map(|page| new_page(name, page, LENGTH)).collect());
    }
}

fn scrubbed(store: &PageStore) -> Scrubbed {
    store.usage()[0].scrubbed.expect("it is on")
}

/// Waits until a pass has begun and ended.
fn whole_pass(store: &PageStore, metrics: &Metrics) {
    for _ in 0..2 {
        let (bytes, passed) = (metrics.pages_scrubbed_bytes.get(), scrubbed(store).passed);
        eventually("a pass ends", || {
            scrubbed(store).passed > passed && metrics.pages_scrubbed_bytes.get() > bytes
        });
    }
}

#[test]
fn rot_that_nobody_reads_is_found_and_never_served() {
    let directory = tempdir().unwrap();
    let (store, metrics) = open(restless(directory.path()), &Arc::new(MemoryIndex::new()));
    fill(&store);
    whole_pass(&store, &metrics);
    assert_eq!(metrics.pages_rotten.get(), 0, "what is sound stays");
    let random = Random::new();
    let all = files(directory.path());
    for (path, _) in all.iter().step_by(2) {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = random.below(LENGTH);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, at).unwrap();
    }
    let rotten = all.len().div_ceil(2) as u64;
    // A file that is cut or lost has rotted as a whole.
    let cut = fs::OpenOptions::new().write(true).open(&all[1].0).unwrap();
    cut.set_len(PAGE_SIZE).unwrap();
    fs::remove_file(&all[3].0).unwrap();
    let rotten = rotten + u64::from(PAGES - 1) + u64::from(PAGES);
    eventually("all of it is found", || scrubbed(&store).rotten == rotten);
    assert_eq!(metrics.pages_rotten.get(), rotten);
    assert_eq!(metrics.pages_corrupt.get(), rotten);
    let mut good = 0;
    for name in 0..NAMES {
        let reading = read_all(&store, name, LENGTH);
        assert!(reading.bad.is_empty(), "a reader met what the scrubber had found");
        good += reading.good.len() as u64;
    }
    assert_eq!(good, NAMES * u64::from(PAGES) - rotten);
    // Fetched again, it is sound again.
    fill(&store);
    whole_pass(&store, &metrics);
    assert_eq!(metrics.pages_rotten.get(), rotten);
    store.close().unwrap();
}

#[test]
fn rot_in_small_files_is_found() {
    const SMALL: u64 = 120;
    // Three size classes, so three slabs.
    let length = |name: u64| [100, 5000, PAGE_SIZE][name as usize % 3];
    let directory = tempdir().unwrap();
    let (store, metrics) = open(restless(directory.path()), &Arc::new(MemoryIndex::new()));
    let all = |names: std::ops::Range<u64>| names.map(|name| new_page(name, 0, length(name)));
    put_all(&store, all(0..SMALL).collect());
    let bytes: u64 = (0..SMALL).map(length).sum();
    whole_pass(&store, &metrics);
    assert!(metrics.pages_scrubbed_bytes.get() >= bytes);
    assert_eq!(metrics.pages_rotten.get(), 0);
    let rotten = (0..SMALL).step_by(4).collect::<Vec<_>>();
    let starts: BTreeSet<_> =
        rotten.iter().map(|name| page_bytes(*name, 0, length(*name)).slice(..32)).collect();
    for entry in fs::read_dir(directory.path().join("slabs")).unwrap() {
        let path = entry.unwrap().path();
        let slab = fs::read(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // Every slot begins at a multiple of 512 bytes.
        for at in (0..slab.len()).step_by(512) {
            if starts.contains(&slab[at..at + 32]) {
                file.write_all_at(&[!slab[at]], at as u64).unwrap();
            }
        }
    }
    eventually("all of it is found", || metrics.pages_rotten.get() == rotten.len() as u64);
    for name in 0..SMALL {
        let reading = read_all(&store, name, length(name));
        assert!(reading.bad.is_empty(), "a reader met what the scrubber had found");
        assert_eq!(reading.good.is_empty(), rotten.contains(&name), "{name}");
    }
    put_all(&store, all(0..SMALL).collect());
    whole_pass(&store, &metrics);
    assert_eq!(metrics.pages_rotten.get(), rotten.len() as u64);
    store.close().unwrap();
}

#[test]
fn what_changes_meanwhile_is_no_rot() {
    let directory = tempdir().unwrap();
    let small = Options { ..restless(directory.path()) };
    let mut small = small;
    small.directories[0].capacity = ByteSize(4 << 20);
    let (store, metrics) = open(small, &Arc::new(MemoryIndex::new()));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (store, over) = (&store, &over);
            scope.spawn(move || {
                let random = Random::seeded(seed);
                while !over.load(Ordering::Relaxed) {
                    let name = random.below(NAMES);
                    if random.below(4) == 0 {
                        let small = 1000 + name;
                        match random.below(4) {
                            0 => drop(store.remove(content(small)).unwrap()),
                            _ => drop(put(store, small, 0, 3 * name + 9)),
                        }
                    }
                    match random.below(6) {
                        0 => drop(store.remove(content(name)).unwrap()),
                        1 => drop(read_all(store, name, LENGTH)),
                        _ => drop(put(store, name, random.below(u64::from(PAGES)) as u32, LENGTH)),
                    }
                }
            });
        }
        eventually("much is read", || metrics.pages_scrubbed_bytes.get() > 64 << 20);
        over.store(true, Ordering::Relaxed);
    });
    assert!(metrics.pages_evicted.get() > 0, "there was no room for all");
    assert_eq!((metrics.pages_rotten.get(), metrics.pages_corrupt.get()), (0, 0));
    store.close().unwrap();
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let (store, metrics) = open(restless(directory.path()), &index);
    fill(&store);
    whole_pass(&store, &metrics);
    store.close().unwrap();
    let (store, _) = open(slow(directory.path()), &index);
    eventually("it knows of the last pass", || scrubbed(&store).passed.is_some());
    let passed = scrubbed(&store).passed;
    drop(store);
    // The names of all contents are in shares; those before this one are not visited again.
    fs::write(directory.path().join("scrub"), format!("255 {}\n", passed.unwrap().0)).unwrap();
    let (store, metrics) = open(slow(directory.path()), &index);
    eventually("the last share is done", || scrubbed(&store).passed > passed);
    eventually("a new pass begins", || metrics.pages_scrubbed_bytes.get() == 0);
    store.close().unwrap();
    fs::write(directory.path().join("scrub"), "nonsense").unwrap();
    let (store, metrics) = open(slow(directory.path()), &index);
    eventually("it begins anew", || metrics.pages_scrubbed_bytes.get() > 0);
    assert_eq!(scrubbed(&store).passed, None);
    // It rests for hours now; closing does not wait for that.
    store.close().unwrap();
    let noted = fs::read_to_string(directory.path().join("scrub")).unwrap();
    assert!(noted.trim().ends_with(" 0") && noted != "0 0\n", "{noted}");
}

#[test]
fn a_directory_that_leaves_is_left_alone() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let mut both = restless(first.path());
    both.directories.extend(options(&[(second.path(), CAPACITY)]).directories);
    let (store, metrics) = open(both, &Arc::new(MemoryIndex::new()));
    fill(&store);
    whole_pass(&store, &metrics);
    store.drain_directory(first.path()).unwrap();
    eventually("it is drained", || store.usage()[0].standing == Standing::Drained);
    // A file that can't be opened as one: the disk is not to be trusted. At one stroke, for a
    // file that is missing even for a moment is a miss, and its content is forgotten.
    let lost = files(second.path()).swap_remove(0).0;
    let swapped = second.path().join("swapped");
    fs::create_dir(&swapped).unwrap();
    renameat_with(CWD, &lost, CWD, &swapped, RenameFlags::EXCHANGE).unwrap();
    eventually("the scrubber meets it", || store.usage()[1].fault.is_some());
    let all: u64 = (0..NAMES).map(|name| read_all(&store, name, LENGTH).good.len() as u64).sum();
    assert_eq!(all, 0, "both directories are out");
    fs::remove_dir(&lost).unwrap();
    store.resume_directory(second.path()).unwrap();
    eventually("it is scrubbed again", || {
        let before = metrics.pages_scrubbed_bytes.get();
        fill(&store);
        store.usage()[1].fault.is_none() && metrics.pages_scrubbed_bytes.get() > before
    });
    store.close().unwrap();
}
