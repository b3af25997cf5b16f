// SPDX-License-Identifier: Apache-2.0
//! SIGKILL while writing: what was flushed is there, the rest is the tail or nothing.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use larder_core::ErrorKind;
use larder_meta::MetaStore;

use crate::{open, options, path, present};

const DIRECTORY: &str = "LARDER_META_CRASH_DIRECTORY";

/// Not a test by itself: the process that is killed. Does nothing unless told where to write.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let store = open(&directory);
    for number in 0_u64.. {
        store.put_status(&path(&format!("{number:08}")), present("v", number)).expect("kept");
        if number % 500 == 499 {
            store.flush().expect("written");
            // Not println: the harness captures that.
            writeln!(std::io::stdout(), "\nflushed {}", number + 1).expect("the parent listens");
        }
    }
}

#[test]
fn a_killed_writer_loses_only_the_tail() {
    for round in 0..4 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let marks = stdout.lines().map_while(Result::ok);
        let mut marks = marks.filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
        let flushed: u64 = marks.nth(round * 3).expect("the child writes");

        let refused = MetaStore::open(options(directory.path())).expect_err("it is in use");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");

        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");

        let store = open(directory.path());
        assert!(!store.opened_clean());
        let there = |number: u64| {
            let found = store.status(&path(&format!("{number:08}"))).expect("readable");
            assert!(found.as_ref().is_none_or(|known| *known == present("v", number)));
            found.is_some()
        };
        assert!((0..flushed).all(there), "all that was flushed");
        let end = (flushed..).find(|number| !there(*number)).expect("it was killed");
        assert_eq!(store.count(), end, "a prefix: batches are written in order");
    }
}
