// SPDX-License-Identifier: Apache-2.0
//! What is special about a local directory: links, changes underneath, leftovers.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use futures::StreamExt;
use larder_core::{Attributes, ErrorKind, Key, Span};
use larder_ufs::{
    Condition, ListPage, ListRequest, ListStart, ReadOutcome, UnderStorage, mount::StoreConfig,
};

use crate::stores::opened;

fn open(directory: &Path) -> Arc<dyn UnderStorage> {
    let config = StoreConfig::new(format!("file://{}", directory.display()));
    opened(&config)
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a legal key")
}

async fn kind(store: &Arc<dyn UnderStorage>, name: &str) -> Option<ErrorKind> {
    store.stat(&key(name)).await.err().map(|error| error.kind())
}

async fn names(store: &Arc<dyn UnderStorage>, delimiter: Option<&str>) -> Vec<String> {
    let delimiter = delimiter.map(str::to_owned);
    let request = ListRequest { delimiter, max: 1000, ..ListRequest::default() };
    let page = store.list(&request).await.expect("a page");
    let keys = page.entries.iter().map(|entry| entry.key.as_str().to_owned());
    keys.chain(page.prefixes).collect()
}

#[tokio::test]
async fn links_inside_are_followed_and_links_outside_do_not_exist() {
    let outside = tempfile::tempdir().expect("a scratch directory");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    let directory = tempfile::tempdir().expect("a scratch directory");
    let root = directory.path();
    fs::create_dir_all(root.join("d/e")).expect("directories");
    fs::write(root.join("d/file"), "inside").expect("a file");
    symlink("d/file", root.join("link")).expect("a link");
    symlink("d", root.join("linked")).expect("a link");
    symlink("..", root.join("d/loop")).expect("a link");
    symlink("../e", root.join("d/e/self")).expect("a link");
    symlink("nowhere", root.join("dangling")).expect("a link");
    symlink(outside.path().join("secret"), root.join("absolute")).expect("a link");
    let up = format!("../{}/secret", outside.path().file_name().expect("a name").display());
    symlink(up, root.join("relative")).expect("a link");
    symlink(outside.path(), root.join("out")).expect("a link");
    let store = open(root);
    for name in ["link", "linked/file", "d/loop/d/file"] {
        assert_eq!(store.stat(&key(name)).await.expect(name).length, 6);
    }
    for name in ["dangling", "absolute", "relative", "out/secret", "out"] {
        assert_eq!(kind(&store, name).await, Some(ErrorKind::NotFound), "{name}");
        let body = futures::stream::empty().boxed();
        let target = key(&format!("{name}/x"));
        store.write(&target, 0, body, &Attributes::default()).await.expect_err("leads out");
    }
    assert_eq!(fs::read_dir(outside.path()).expect("a directory").count(), 1);
    let listed = names(&store, None).await;
    assert_eq!(listed, ["d/file", "link", "linked/file"]);
    assert_eq!(names(&store, Some("/")).await, ["link", "d/", "linked/"]);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_noticed() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let path = directory.path().join("f");
    let store = open(directory.path());
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("overwritten", |path| fs::write(path, vec![2; 5 << 20]).expect("written")),
        ("cut", |path| fs::write(path, "short").expect("written")),
        ("appended to", |path| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("open");
            file.write_all(b"more").expect("written");
        }),
    ];
    for (what, change) in changes {
        fs::write(&path, vec![1; 5 << 20]).expect("written");
        let read = store.read(&key("f"), Span::All, &Condition::None).await.expect("bytes");
        let ReadOutcome::Content(mut content) = read else { panic!("bytes") };
        let first = content.body.next().await.expect("a chunk").expect("bytes");
        assert!(first.iter().all(|byte| *byte == 1));
        change(&path);
        let mut end = None;
        while let Some(chunk) = content.body.next().await {
            match chunk {
                // One chunk was read ahead before the change.
                Ok(chunk) => assert!(chunk.iter().all(|byte| *byte == 1), "{what}: a mixture"),
                Err(error) => end = Some(error.kind()),
            }
        }
        assert_eq!(end, Some(ErrorKind::Stale), "{what}");
    }
    // A file renamed over it leaves the reader with the old content, whole.
    fs::write(&path, vec![1; 5 << 20]).expect("written");
    let read = store.read(&key("f"), Span::All, &Condition::None).await.expect("bytes");
    let ReadOutcome::Content(content) = read else { panic!("bytes") };
    fs::write(directory.path().join("new"), vec![2; 5 << 20]).expect("written");
    fs::rename(directory.path().join("new"), &path).expect("renamed");
    let chunks: Vec<_> = content.body.map(|chunk| chunk.expect("the old content")).collect().await;
    assert!(chunks.concat().iter().all(|byte| *byte == 1));
}

#[tokio::test]
async fn a_missing_root_is_said_clearly() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let store = open(&directory.path().join("gone"));
    let request = ListRequest { max: 1, ..ListRequest::default() };
    for error in [
        store.list(&request).await.expect_err("no root"),
        store.stat(&key("a")).await.expect_err("no root"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("gone does not exist; create it"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_neither_listed_nor_found() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().expect("a scratch directory");
    let root = directory.path();
    fs::write(root.join(".larder-tmp-0123"), "unfinished").expect("a file");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").expect("a file");
    fs::write(root.join("plain"), "x").expect("a file");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    let store = open(root);
    assert_eq!(names(&store, None).await, ["plain"]);
    for name in [".larder-tmp-0123", "socket"] {
        assert_eq!(kind(&store, name).await, Some(ErrorKind::NotFound), "{name}");
    }
}

#[tokio::test]
async fn conflicts_of_files_and_directories_are_named() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    fs::create_dir(directory.path().join("d")).expect("a directory");
    fs::write(directory.path().join("f"), "x").expect("a file");
    let store = open(directory.path());
    for (name, kind) in [("f/x", ErrorKind::NotADirectory), ("d", ErrorKind::IsADirectory)] {
        let body = futures::stream::empty().boxed();
        let written = store.write(&key(name), 0, body, &Attributes::default()).await;
        assert_eq!(written.err().map(|error| error.kind()), Some(kind), "{name}");
    }
    assert_eq!(names(&store, Some("/")).await, ["f", "d/"], "nothing is left over");
    store.delete(&key("d")).await.expect("there is no such file");
    assert!(directory.path().join("d").is_dir());
}

#[tokio::test]
async fn a_token_outlives_the_walk_behind_it() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    for number in 0..30 {
        fs::write(directory.path().join(format!("{number:02}")), "x").expect("a file");
    }
    let first = page(&open(directory.path()), ListStart::Beginning).await;
    let token = first.next.expect("more");
    // Another process, or the same after a restart, knows no walk.
    let second = page(&open(directory.path()), ListStart::Token(token)).await;
    assert_eq!(second.entries[0].key.as_str(), "10");
    let request = ListRequest { start: ListStart::Token("junk".to_owned()), ..Default::default() };
    let error = open(directory.path()).list(&request).await.expect_err("not a token");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

async fn page(store: &Arc<dyn UnderStorage>, start: ListStart) -> ListPage {
    let request = ListRequest { start, max: 10, ..ListRequest::default() };
    store.list(&request).await.expect("a page")
}
