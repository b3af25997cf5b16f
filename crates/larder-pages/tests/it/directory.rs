// SPDX-License-Identifier: Apache-2.0
//! Directories: what is refused, in which words, and how several work together.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use larder_core::{ByteSize, Error, ErrorKind, Metrics};
use larder_pages::{MemoryIndex, Options, PageStore, PutOutcome};
use tempfile::tempdir;

use crate::bench::{
    allocated, content, eventually, files, new_page, open, options, put, put_all, read_all,
};

const MIB: u64 = 1 << 20;

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
    fs::write(later.join("format"), "larder-pages 2\n").unwrap();
    assert!(refused_at(&later).message().contains("'larder-pages 2'"));
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

#[test]
fn a_smaller_capacity_is_kept_from_the_start() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 16 * MIB, index.clone());
    for name in 0..100 {
        put(&store, name, 0, 1 << 16);
    }
    store.close().unwrap();
    drop(store);
    let again = open(directory.path(), 2 * MIB, index);
    eventually("the surplus goes", || allocated(directory.path()) <= 2 * MIB);
    assert_eq!(put(&again, 500, 0, 1 << 16), PutOutcome::Kept);
}

#[test]
fn records_of_a_directory_that_was_swapped_are_dropped() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let index = Arc::new(MemoryIndex::new());
    let store = open(first.path(), 8 * MIB, index.clone());
    put(&store, 1, 0, 100);
    store.close().unwrap();
    drop(store);
    let other = open(second.path(), 8 * MIB, index.clone());
    assert!(read_all(&other, 1, 100).good.is_empty());
    assert_eq!(other.remove(content(1)).unwrap(), 0);
    assert_eq!(put(&other, 2, 0, 100), PutOutcome::Kept);
    other.close().unwrap();
    drop(other);
    // Back to the first: nobody knows its pages any more, so they go.
    let again = open(first.path(), 8 * MIB, index);
    assert!(read_all(&again, 1, 100).good.is_empty());
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
