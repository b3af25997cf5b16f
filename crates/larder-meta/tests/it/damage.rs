// SPDX-License-Identifier: Apache-2.0
//! Files that are not what they should be: a cache starts empty rather than not at all.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
};

use larder_core::ErrorKind;
use larder_meta::MetaStore;

use crate::{mount, open, options, path, present};

#[test]
fn two_stores_cannot_share_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    let error = MetaStore::open(options(directory.path())).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().contains("in use by another Larder"), "{error}");
    drop(first);
    open(directory.path());
}

#[test]
fn garbage_is_moved_aside() {
    for garbage in [b"x".to_vec(), vec![0xa5; 4_096], vec![0; 100_000], vec![0xff; 1 << 20]] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("data.mdb"), &garbage).expect("written");
        let store = open(directory.path());
        assert_eq!(store.count(), 0);
        store.put_status(&path("a"), present("v", 1)).expect("kept");
        store.close().expect("closed");
        let kept = fs::read(directory.path().join("damaged.mdb")).expect("moved aside");
        assert!(kept == garbage);
    }
}

#[test]
fn a_file_cut_short_never_ends_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let fill = || {
        let store = open(directory.path());
        for number in 0..20_000 {
            store.put_status(&path(&format!("{number:06}")), present("v", number)).expect("kept");
        }
        store.close().expect("closed");
    };
    let data = directory.path().join("data.mdb");
    for share in [2, 3, 5, 50] {
        fill();
        let length = fs::metadata(&data).expect("there").len();
        let file = OpenOptions::new().write(true).open(&data).expect("there");
        file.set_len(length / share).expect("cut");
        drop(file);
        // Opens with what is left, or empty; reads say what they find, or that it is damaged.
        let store = open(directory.path());
        for number in 0..20_000 {
            if let Ok(Some(known)) = store.status(&path(&format!("{number:06}"))) {
                assert_eq!(known, present("v", number));
            }
        }
        let listed = store.statuses(&mount("lake"), "", None, 30_000);
        drop(store);
        let store = open(directory.path());
        if listed.is_err() {
            assert_eq!(store.count(), 0, "what was found damaged is gone at the next start");
        }
        store.put_status(&path("new"), present("v", 1)).expect("taken");
        store.flush().expect("written");
    }
}

#[test]
fn a_changed_record_is_a_miss() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for key in ["a", "b", "c"] {
        store.put_status(&path(key), present(&format!("version-of-{key}"), 7)).expect("kept");
    }
    store.close().expect("closed");
    drop(store);

    let data = directory.path().join("data.mdb");
    let bytes = fs::read(&data).expect("readable");
    let mark = b"version-of-b";
    let file = OpenOptions::new().write(true).open(&data).expect("writable");
    let places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(mark));
    let mut changed = 0;
    for at in places {
        file.write_all_at(b"X", at as u64).expect("written");
        changed += 1;
    }
    assert!(changed > 0, "the record lies in the file");

    let store = open(directory.path());
    assert_eq!(store.status(&path("b")).expect("readable"), None);
    let found = store.statuses(&mount("lake"), "", None, 2).expect("readable");
    assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    store.put_status(&path("b"), present("v2", 8)).expect("kept");
    assert_eq!(store.status(&path("b")).expect("readable"), Some(present("v2", 8)));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()));
    let data = directory.path().join("data.mdb");
    let bytes = fs::read(&data).expect("readable");
    let file = OpenOptions::new().write(true).open(&data).expect("writable");
    let places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"format\x01\0\0\0"));
    let places: Vec<_> = places.collect();
    assert!(!places.is_empty(), "the format lies in the file");
    for at in places {
        file.write_all_at(&[9], at as u64 + 6).expect("written");
    }
    let error = MetaStore::open(options(directory.path())).expect_err("too new");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("format 9, from a newer Larder"), "{error}");
    assert!(!directory.path().join("damaged.mdb").exists());
}
