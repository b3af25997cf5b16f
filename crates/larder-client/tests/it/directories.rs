// SPDX-License-Identifier: Apache-2.0
//! The tree over keys, and walks through it.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use larder_client::{LoadProgress, Node, directory};
use larder_core::{Clock, ErrorKind, UnixMillis};

use crate::pantry::{Pantry, filesystem, filesystem_at, mount, path};

#[tokio::test]
async fn names_are_what_the_semantics_promise() {
    let pantry = Arc::new(Pantry::default());
    let long = "n".repeat(256);
    for key in ["a", "d/", "d/x", "d//y", "x", "x/y", "./z", "../z", "d/x-1", &long] {
        pantry.put(key, b"1");
    }
    let filesystem = filesystem(&pantry);
    let root = directory::root(mount());
    let names = |page: larder_client::DirectoryPage| {
        let is_directory = |node: &Node| if *node == Node::Directory { "/" } else { "" };
        let entries = page.entries.into_iter();
        entries.map(|entry| format!("{}{}", entry.name, is_directory(&entry.node))).collect()
    };
    let listed: Vec<String> = names(filesystem.entries(&root, None).await.unwrap());
    assert_eq!(listed, ["a", "d/", "x/"], "the directory x/ wins over the object x");
    let listed: Vec<String> = names(filesystem.entries(&path("d/"), None).await.unwrap());
    assert_eq!(listed, ["x", "x-1"], "the marker d/ and the nameless d// are not shown");
    assert_eq!(filesystem.lookup(&root, "x").await.unwrap(), Node::Directory);
    assert!(matches!(filesystem.lookup(&path("d/"), "x").await.unwrap(), Node::File(_)));
    for absent in ["", ".", "..", "nothing", &long] {
        let error = filesystem.lookup(&root, absent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{absent:?}");
    }
}

#[tokio::test]
async fn a_large_directory_is_asked_name_by_name_only_behind_its_first_page() {
    let pantry = Arc::new(Pantry::default());
    for at in 0..1500 {
        pantry.put(&format!("big/{at:04}"), b"1");
    }
    pantry.put("big/0000-not/below", b"1");
    pantry.put("big/zz/below", b"1");
    let filesystem = filesystem(&pantry);
    let big = path("big/");
    for (name, is_directory) in [("0001", false), ("0000-not", true), ("1400", false), ("zz", true)]
    {
        let node = filesystem.lookup(&big, name).await.unwrap();
        assert_eq!(node == Node::Directory, is_directory, "{name}");
    }
    assert!(filesystem.lookup(&big, "1500").await.is_err());
    let first = filesystem.entries(&big, None).await.unwrap();
    let second = filesystem.entries(&big, first.next).await.unwrap();
    assert_eq!(first.entries.len() + second.entries.len(), 1502);
}

#[tokio::test]
async fn a_name_that_is_file_and_directory_is_shown_once_whatever_page_each_is_on() {
    // `x-…` sorts between `x` and `x/`: none, some of a page, one page and several.
    for between in [0, 998, 999, 1000, 1001, 2500, 3999] {
        let pantry = Arc::new(Pantry::default());
        pantry.put("big/w", b"1");
        for name in ["x", "x-", "x-0"] {
            pantry.put(&format!("big/{name}"), b"1");
            pantry.put(&format!("big/{name}/below"), b"1");
        }
        for at in 0..between {
            pantry.put(&format!("big/x-0-{at:04}"), b"1");
        }
        let filesystem = filesystem(&pantry);
        let (mut names, mut token, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = filesystem.entries(&path("big/"), token).await.unwrap();
            names.extend(page.entries.into_iter().map(|entry| {
                let slash = if entry.node == Node::Directory { "/" } else { "" };
                format!("{}{slash}", entry.name)
            }));
            pages += 1;
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let mut wanted = vec!["w".to_owned(), "x/".into(), "x-/".into(), "x-0/".into()];
        wanted.extend((0..between).map(|at| format!("x-0-{at:04}")));
        names.sort();
        wanted.sort();
        assert_eq!(names, wanted, "{between} between");
        let asked = *pantry.lists.lock().unwrap();
        assert!(asked <= 2 * pages + 3, "{asked} listings for {pages} pages");
    }
}

#[tokio::test]
async fn a_load_finds_everything_and_names_what_fails() {
    let pantry = Arc::new(Pantry::default());
    for at in 0..2500 {
        pantry.put(&format!("tree/{at:04}"), b"12345");
    }
    pantry.put("tree/bad", b"thirteen byte");
    pantry.put("treehouse", b"not below");
    let filesystem = filesystem(&pantry);
    let progress: Vec<LoadProgress> =
        filesystem.load(&path("tree")).map(|progress| progress.unwrap()).collect().await;
    let last = progress.last().unwrap();
    assert!(last.done);
    assert_eq!((last.files_loaded, last.files_failed, last.bytes_loaded), (2500, 1, 12_500));
    assert_eq!(last.failed[0].0, "/lake/tree/bad");
}

#[tokio::test]
async fn a_load_that_takes_its_time_is_not_silent() {
    let pantry = Arc::new(Pantry::default());
    pantry.put("tree/large", b"12345");
    *pantry.loads_hang.lock().unwrap() = true;
    let clock = Clock::manual(UnixMillis(1_000_000));
    let mut load = filesystem_at(&pantry, clock.clone()).load(&path("tree"));
    for _ in 0..3 {
        let progress = loop {
            let mut told = load.next();
            match futures::poll!(&mut told) {
                std::task::Poll::Ready(progress) => break progress.unwrap().unwrap(),
                std::task::Poll::Pending => clock.advance(Duration::from_secs(5)),
            }
        };
        assert_eq!((progress.files_loaded, progress.done), (0, false));
    }
}
