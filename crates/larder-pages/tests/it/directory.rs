// SPDX-License-Identifier: Apache-2.0
//! Directories: what is refused, in which words, and how several work together.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use larder_core::{ByteSize, Error, ErrorKind, Metrics};
use larder_pages::{DirectoryOptions, MemoryIndex, Options, PageStore, PutOutcome, Standing};
use tempfile::tempdir;

use crate::bench::{
    LossyIndex, allocated, check, content, eventually, files, new_page, open, options, put,
    put_all, read_all, slabs,
};

const MIB: u64 = 1 << 20;
/// Too long for a slab.
const LONG: u64 = (1 << 16) + 300;

fn refused(options: Options) -> Error {
    let index = Arc::new(MemoryIndex::new());
    PageStore::open(options, index, Arc::new(Metrics::new())).expect_err("it is refused")
}

fn refused_at(path: &Path) -> Error {
    refused(options(&[(path, 8 * MIB)]))
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
    let error = refused_at(directory.path());
    assert_eq!(
        error.to_string(),
        format!(
            "cache directory {} is in use by another larder process (pid {})",
            directory.path().display(),
            std::process::id()
        )
    );
    store.close().unwrap();
    open(directory.path(), 8 * MIB, Arc::new(MemoryIndex::new()));
}

#[test]
fn an_extent_that_outlives_the_store_does_not_keep_the_directory() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 8 * MIB, index.clone());
    put(&store, 1, 0, 100);
    let held = store.get(content(1), 100, larder_core::ByteRange { start: 0, end: 100 });
    drop(store);
    open(directory.path(), 8 * MIB, index);
    drop(held);
}

#[test]
fn unusable_directories_are_named_in_one_sentence() {
    let scratch = tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = refused_at(&file);
    assert_eq!(error.kind(), ErrorKind::NotADirectory, "{error}");
    assert!(error.message().contains("is a file"), "{error}");
    assert_eq!(refused_at(&file.join("below")).kind(), ErrorKind::NotADirectory);

    let small = refused(options(&[(scratch.path(), MIB - 1)]));
    assert!(small.message().contains("the least is 1 MiB"), "{small}");
    assert!(refused(options(&[])).message().contains("1 to 64"));
    let twice = refused(options(&[(scratch.path(), MIB), (scratch.path(), MIB)]));
    assert!(twice.message().contains("given twice"), "{twice}");

    let foreign = scratch.path().join("foreign");
    fs::create_dir_all(foreign.join("pages")).unwrap();
    assert!(refused_at(&foreign).message().contains("did not make"));

    let later = scratch.path().join("later");
    fs::create_dir(&later).unwrap();
    fs::write(later.join("format"), "larder-pages 3\n").unwrap();
    assert!(refused_at(&later).message().contains("'larder-pages 3'"));
}

#[test]
fn an_unwritable_directory_is_refused() {
    if rustix_is_root() {
        eprintln!("skipped: root may write everywhere");
        return;
    }
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let error = refused_at(directory.path());
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("not writable"), "{error}");
}

fn rustix_is_root() -> bool {
    fs::read("/proc/self/mem").is_ok() || Path::new("/root").read_dir().is_ok()
}

#[test]
fn more_than_the_file_system_holds_is_cut() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 1 << 60, Arc::new(MemoryIndex::new()));
    assert!(store.usage()[0].capacity < ByteSize(1 << 60));
    assert_eq!(put(&store, 1, 0, 100), PutOutcome::Kept);
}

#[test]
fn two_directories_share_by_capacity() {
    let (small, large) = (tempdir().unwrap(), tempdir().unwrap());
    let all = options(&[(small.path(), 4 * MIB), (large.path(), 12 * MIB)]);
    let index = Arc::new(MemoryIndex::new());
    let open = || PageStore::open(all.clone(), index.clone(), Arc::new(Metrics::new())).unwrap();
    let store = open();
    let length = 2 << 16;
    for name in 0..40 {
        let pages = vec![new_page(name, 0, length), new_page(name, 1, length)];
        assert_eq!(put_all(&store, pages), [PutOutcome::Kept; 2]);
    }
    let (few, many) = (files(small.path()).len(), files(large.path()).len());
    assert_eq!(few + many, 40);
    assert!((4..=16).contains(&few), "a quarter of 40 or so: {few}");
    for name in 40..400 {
        put(&store, name, 0, length);
        put(&store, name, 1, length);
    }
    assert!(allocated(small.path()) <= 4 * MIB && allocated(large.path()) <= 12 * MIB);
    let before: usize = (0..400).map(|name| read_all(&store, name, length).good.len()).sum();
    assert!(before >= 2 * 90, "both are well filled: {before}");
    store.close().unwrap();
    drop(store);
    let again = open();
    let after: usize = (0..400).map(|name| read_all(&again, name, length).good.len()).sum();
    assert_eq!(after, before, "records remember the directory");
}

/// Fills a directory of 16 MiB with files of many sizes.
fn fill_much(store: &PageStore) {
    let length = |name: u64| [LONG, 1 << 16, 3000][name as usize % 3];
    for name in 0..300 {
        assert_eq!(put(store, name, 0, length(name)), PutOutcome::Kept);
    }
}

#[test]
fn a_smaller_capacity_is_kept_from_the_start() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 16 * MIB, index.clone());
    fill_much(&store);
    store.close().unwrap();
    drop(store);
    assert!(allocated(directory.path()) > 8 * MIB);
    let again = open(directory.path(), 2 * MIB, index);
    // Nothing new is written before the surplus is gone.
    assert_eq!(put(&again, 500, 0, LONG), PutOutcome::Kept);
    assert!(allocated(directory.path()) <= 2 * MIB);
    assert!(again.usage()[0].resident.0 <= 2 * MIB);
}

#[test]
fn a_smaller_capacity_after_a_crash_is_kept_before_anything_is_written() {
    let directory = tempdir().unwrap();
    let index = Arc::new(LossyIndex::default());
    let store = open(directory.path(), 16 * MIB, index.clone());
    fill_much(&store);
    drop(store);
    index.crash();
    assert!(allocated(directory.path()) > 8 * MIB);
    let again = open(directory.path(), 2 * MIB, index);
    // Until files were compared with the records nobody knows what lies there.
    eventually("it takes pages again", || put(&again, 500, 0, LONG) == PutOutcome::Kept);
    assert!(allocated(directory.path()) <= 2 * MIB);
    assert!(again.usage()[0].resident.0 <= 2 * MIB);
}

#[test]
fn records_of_a_directory_that_was_swapped_are_dropped() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let index = Arc::new(MemoryIndex::new());
    let store = open(first.path(), 8 * MIB, index.clone());
    put(&store, 1, 0, LONG);
    put(&store, 3, 0, 100);
    store.close().unwrap();
    drop(store);
    let other = open(second.path(), 8 * MIB, index.clone());
    assert!(read_all(&other, 1, LONG).good.is_empty());
    assert!(read_all(&other, 3, 100).good.is_empty());
    assert_eq!(other.remove(content(1)).unwrap(), 0);
    assert_eq!(put(&other, 2, 0, LONG), PutOutcome::Kept);
    other.close().unwrap();
    drop(other);
    // Back to the first: nobody knows its pages any more, so they go. Slabs know themselves.
    let again = open(first.path(), 8 * MIB, index);
    assert!(read_all(&again, 1, LONG).good.is_empty());
    assert_eq!(read_all(&again, 3, 100).good, [0]);
    eventually("the orphan goes", || files(first.path()).is_empty());
}

#[test]
fn garbage_in_the_small_files_is_survived() {
    for name in ["identity", "state"] {
        let directory = tempdir().unwrap();
        let index = Arc::new(MemoryIndex::new());
        let store = open(directory.path(), 8 * MIB, index.clone());
        put(&store, 1, 0, 100);
        store.close().unwrap();
        drop(store);
        fs::write(directory.path().join(name), [0xff, 0, 7]).unwrap();
        let again = open(directory.path(), 8 * MIB, index);
        eventually("files and records are compared, and pages kept again", || {
            put(&again, 2, 0, 100) == PutOutcome::Kept
        });
        assert_eq!(read_all(&again, 2, 100).good, [0]);
    }
}

fn standing(store: &PageStore, path: &Path) -> larder_pages::Standing {
    let usage = store.usage();
    usage.iter().find(|usage| usage.path == path).expect("it is known").standing
}

fn add(path: &Path, capacity: u64) -> DirectoryOptions {
    DirectoryOptions { path: path.to_path_buf(), capacity: ByteSize(capacity) }
}

#[test]
fn a_directory_joins_while_the_store_is_open() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let index = Arc::new(MemoryIndex::new());
    let store = open(first.path(), 4 * MIB, index.clone());
    let length = LONG;
    for name in 0..20 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    store.add_directory(&add(second.path(), 12 * MIB)).unwrap();
    let twice = store.add_directory(&add(second.path(), 12 * MIB)).expect_err("it is there");
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    for name in 20..120 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    assert!(files(second.path()).len() > 40, "{}", files(second.path()).len());
    for name in 0..120 {
        assert!(read_all(&store, name, length).bad.is_empty());
    }
    let before: usize = (0..120).map(|name| read_all(&store, name, length).good.len()).sum();
    store.close().unwrap();
    drop(store);
    let both = options(&[(first.path(), 4 * MIB), (second.path(), 12 * MIB)]);
    let again = PageStore::open(both, index, Arc::new(Metrics::new())).unwrap();
    let after: usize = (0..120).map(|name| read_all(&again, name, length).good.len()).sum();
    assert_eq!(after, before, "what was added is kept by a start that names it");
}

#[test]
fn a_drained_directory_is_empty_unlocked_and_stays_out() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let both = options(&[(first.path(), 8 * MIB), (second.path(), 8 * MIB)]);
    let index = Arc::new(MemoryIndex::new());
    let open_both = || PageStore::open(both.clone(), index.clone(), Arc::new(Metrics::new()));
    let store = open_both().unwrap();
    let length = 2 << 16;
    for name in 0..60 {
        put(&store, name, 0, length);
    }
    let held = store.get(content(1), length, larder_core::ByteRange { start: 0, end: 1 });
    let (here, gone) = (first.path(), second.path());
    assert!(!files(gone).is_empty());
    store.drain_directory(gone).unwrap();
    store.drain_directory(gone).expect("asking twice is asking once");
    drop(held);
    for name in 0..60 {
        // New pages of what lies there begin anew elsewhere.
        assert_eq!(put(&store, name, 1, length), PutOutcome::Kept);
    }
    eventually("it is drained", || standing(&store, gone) == Standing::Drained);
    assert_eq!(files(gone).len(), 0);
    assert_eq!(store.usage().iter().map(|usage| usage.resident.0).filter(|b| *b == 0).count(), 1);
    for name in 0..60 {
        let reading = read_all(&store, name, length);
        assert!(reading.bad.is_empty() && reading.good.contains(&1));
    }
    // Nobody holds it: another store may have it, and leaves it as drained as it was.
    let other = open(gone, 8 * MIB, Arc::new(MemoryIndex::new()));
    assert_eq!(standing(&other, gone), Standing::Drained);
    assert_eq!(put(&other, 7, 0, length), PutOutcome::NotKept(larder_pages::NotKept::DiskFault));
    other.close().unwrap();
    store.close().unwrap();
    drop((other, store));

    let store = open_both().unwrap();
    assert_eq!(standing(&store, gone), Standing::Drained, "over a restart too");
    for name in 100..160 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    assert_eq!(files(gone).len(), 0);
    store.resume_directory(gone).unwrap();
    eventually("it is compared", || store.usage().iter().all(|usage| !usage.comparing));
    for name in 200..260 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    assert!(files(gone).len() > 10, "{}", files(gone).len());
    assert!(files(here).len() > 10);
    let unknown = store.drain_directory(Path::new("/nowhere")).expect_err("there is none");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert!(unknown.message().contains(&gone.display().to_string()), "{unknown}");
}

#[test]
fn a_drain_waits_for_readers_and_can_be_taken_back() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let both = options(&[(first.path(), 8 * MIB), (second.path(), 8 * MIB)]);
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(both, index, Arc::new(Metrics::new())).unwrap();
    for name in 0..40 {
        put(&store, name, 0, LONG);
    }
    let whole = larder_core::ByteRange { start: 0, end: 1 << 16 };
    let held: Vec<_> = (0..40).map(|name| store.get(content(name), LONG, whole)).collect();
    store.drain_directory(first.path()).unwrap();
    for name in 0..40 {
        assert_eq!(read_all(&store, name, LONG).good, [0], "what is held goes on being read");
    }
    assert_eq!(standing(&store, first.path()), Standing::Draining);
    store.resume_directory(first.path()).unwrap();
    assert_eq!(standing(&store, first.path()), Standing::Serving);
    drop(held);
    for name in 0..40 {
        assert_eq!(read_all(&store, name, LONG).good, [0]);
    }
    store.drain_directory(first.path()).unwrap();
    eventually("it is drained", || standing(&store, first.path()) == Standing::Drained);
    assert!(files(first.path()).is_empty() && !files(second.path()).is_empty());
}

#[test]
fn draining_small_files_waits_for_their_readers() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let both = options(&[(first.path(), 8 * MIB), (second.path(), 8 * MIB)]);
    let index = Arc::new(MemoryIndex::new());
    let store = PageStore::open(both.clone(), index.clone(), Arc::new(Metrics::new())).unwrap();
    let length = |name: u64| 1 + name * 1599;
    let whole = |name| larder_core::ByteRange { start: 0, end: length(name) };
    for name in 0..40 {
        assert_eq!(put(&store, name, 0, length(name)), PutOutcome::Kept);
    }
    assert!(!slabs(first.path()).is_empty() && !slabs(second.path()).is_empty());
    let hold = |name| (name, store.get(content(name), length(name), whole(name)));
    let held: Vec<_> = (0..40).map(hold).collect();
    store.drain_directory(first.path()).unwrap();
    eventually("its slabs go", || slabs(first.path()).is_empty());
    assert_eq!(standing(&store, first.path()), Standing::Draining);
    for (name, pieces) in &held {
        assert_eq!(check(*name, length(*name), whole(*name), pieces).good, [0], "{name}");
        assert_eq!(put(&store, *name, 0, length(*name)), PutOutcome::Kept);
        assert_eq!(read_all(&store, *name, length(*name)).good, [0]);
    }
    drop(held);
    eventually("it is drained", || standing(&store, first.path()) == Standing::Drained);
    assert_eq!(store.usage().iter().map(|usage| usage.small_files).sum::<u64>(), 40);
    store.resume_directory(first.path()).unwrap();
    // Nothing goes there before its files were compared with the records.
    let mut names = 40..;
    eventually("it takes files again", || {
        let name = names.next().unwrap();
        assert_eq!(put(&store, name, 0, 500), PutOutcome::Kept);
        !slabs(first.path()).is_empty()
    });
}

#[test]
fn a_directory_without_slabs_is_read_and_gets_them() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 8 * MIB, index.clone());
    put(&store, 1, 0, LONG);
    store.close().unwrap();
    drop(store);
    let format = directory.path().join("format");
    fs::write(&format, "larder-pages 1\n").unwrap();
    let store = open(directory.path(), 8 * MIB, index);
    assert_eq!(read_all(&store, 1, LONG).good, [0]);
    assert_eq!(put(&store, 2, 0, 100), PutOutcome::Kept);
    assert_eq!(fs::read_to_string(&format).unwrap(), "larder-pages 2\n");
}

#[test]
fn one_unusable_disk_of_several_does_not_stop_a_start() {
    let (good, bad) = (tempdir().unwrap(), tempdir().unwrap());
    // Reading a small file fails as it does on a broken disk: it is a directory.
    fs::create_dir(bad.path().join("format")).unwrap();
    let metrics = Arc::new(Metrics::new());
    let both = options(&[(good.path(), 8 * MIB), (bad.path(), 8 * MIB)]);
    let store = PageStore::open(both, Arc::new(MemoryIndex::new()), metrics.clone()).unwrap();
    assert_eq!(metrics.cache_directory_faults.get(), 1);
    for name in 0..20 {
        assert_eq!(put(&store, name, 0, 100), PutOutcome::Kept);
    }
    store.resume_directory(bad.path()).expect_err("it is as broken as before");
    fs::remove_dir(bad.path().join("format")).unwrap();
    store.resume_directory(bad.path()).unwrap();
    for name in 20..60 {
        assert_eq!(put(&store, name, 0, 100), PutOutcome::Kept);
    }
    assert!(!slabs(bad.path()).is_empty());
    fs::create_dir(bad.path().join("other")).unwrap();
    fs::create_dir(bad.path().join("other/format")).unwrap();
    assert_eq!(refused_at(&bad.path().join("other")).kind(), ErrorKind::Unavailable);
}
