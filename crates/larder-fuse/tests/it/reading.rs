// SPDX-License-Identifier: Apache-2.0
//! Names, attributes and bytes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    sync::atomic::Ordering,
};

use larder_core::Freshness;

use crate::support::{Mounted, can_mount};

/// Bytes that tell where they are from.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8 ^ (at / 4096) as u8 ^ seed).collect()
}

#[test]
fn the_tree_is_there_and_says_what_the_store_says() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    mounted.store.put("a.txt", "hello");
    mounted.store.put("dir/b", "");
    mounted.store.put("dir/deep/c", pattern(100_000, 1));
    let root: Vec<_> = fs::read_dir(mounted.directory.path()).unwrap().flatten().collect();
    assert_eq!(root.len(), 1);
    assert_eq!(root[0].file_name(), "lake");
    assert_eq!(mounted.names(""), ["a.txt", "dir"]);
    assert_eq!(mounted.names("dir"), ["b", "deep"]);
    assert_eq!(mounted.read("a.txt").unwrap(), b"hello");
    assert_eq!(mounted.read("dir/b").unwrap(), b"");
    assert_eq!(mounted.read("dir/deep/c").unwrap(), pattern(100_000, 1));

    let file = fs::metadata(mounted.path("a.txt")).unwrap();
    assert!(file.is_file());
    assert_eq!((file.len(), file.nlink(), file.mode() & 0o7777), (5, 1, 0o444));
    assert_eq!(file.mtime(), 1_700_000_001);
    assert_eq!(file.blocks(), 1);
    let directory = fs::metadata(mounted.path("dir")).unwrap();
    assert!(directory.is_dir());
    assert_eq!((directory.nlink(), directory.mode() & 0o7777), (2, 0o555));
    for entry in fs::read_dir(mounted.path("")).unwrap() {
        let entry = entry.unwrap();
        let listed = std::os::unix::fs::DirEntryExt::ino(&entry);
        assert_eq!(listed, entry.metadata().unwrap().ino(), "{entry:?}");
    }
    assert_eq!(mounted.read("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(mounted.read("a.txt/x").unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(mounted.count("lookup", "ENOENT") > 0);
    assert!(mounted.count("read", "ok") > 0);
}

#[test]
fn nothing_can_be_written() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    mounted.store.put("a", "hello");
    let error = fs::write(mounted.path("a"), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    let error = fs::write(mounted.path("new"), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(
        fs::remove_file(mounted.path("a")).unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(
        fs::create_dir(mounted.path("d")).unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
}

#[test]
fn large_files_read_alike_at_any_offset_and_the_second_time_from_the_kernel() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let content = pattern(9_000_001, 3);
    mounted.store.put("big", content.clone());
    let file = File::open(mounted.path("big")).unwrap();
    for (offset, length) in [(0, 1), (65_535, 2), (4_000_000, 3_000_000), (8_999_999, 100)] {
        let mut buffer = vec![0; length];
        let count = file.read_at(&mut buffer, offset).unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = (start + length).min(content.len());
        assert_eq!(buffer[..count], content[start..start + count]);
        assert!(count == end - start || length > 1_000_000, "{offset}+{length} gave {count}");
    }
    assert_eq!(file.read_at(&mut [0; 10], 9_000_001).unwrap(), 0);
    assert!(mounted.read("big").unwrap() == content);
    let before = mounted.store.counts.reads.load(Ordering::SeqCst);
    assert!(mounted.read("big").unwrap() == content);
    let after = mounted.store.counts.reads.load(Ordering::SeqCst);
    assert_eq!(before, after, "the kernel's pages are kept across opens");
}

#[test]
fn a_directory_of_many_pages_is_listed_whole_and_each_name_found() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let wanted: BTreeSet<String> = (0..4_321).map(|at| format!("file-{at:05}")).collect();
    for name in &wanted {
        mounted.store.put(&format!("many/{name}"), name.clone());
    }
    for _ in 0..2 {
        let names = mounted.names("many");
        assert_eq!(names.len(), wanted.len());
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
    for name in ["file-00000", "file-02500", "file-04320"] {
        assert_eq!(mounted.read(&format!("many/{name}")).unwrap(), name.as_bytes());
    }
}
