// SPDX-License-Identifier: Apache-2.0
//! Files that are read do not cost a descriptor each.

use std::{fs, process::Command, sync::Arc, thread};

use larder_core::{ByteRange, PAGE_SIZE};
use larder_pages::{MemoryIndex, PageStore, PutOutcome};
use tempfile::tempdir;

use crate::bench::{check, content, new_page, open, put_all};

const NAMES: u64 = 4000;
const THREADS: u64 = 4;
/// Answers that each thread holds while it reads on.
const HELD: usize = 20;
const CHILD: &str = "LARDER_PAGES_FEW_DESCRIPTORS";

/// A page or less, and more than a page.
fn length(name: u64) -> u64 {
    if name.is_multiple_of(2) { 300 } else { PAGE_SIZE + 300 }
}

#[test]
fn a_thousand_descriptors_serve_thousands_of_files() {
    if std::env::var_os(CHILD).is_some() {
        return read_thousands();
    }
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 1024 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["descriptors::a_thousand_descriptors_serve_thousands_of_files", "--exact"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
}

fn read_thousands() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), 1 << 30, Arc::new(MemoryIndex::new()));
    for names in (0..NAMES).collect::<Vec<_>>().chunks(100) {
        let last = |name: &u64| new_page(*name, (length(*name) / PAGE_SIZE) as u32, length(*name));
        let outcomes = put_all(&store, names.iter().map(last).collect());
        assert!(outcomes.iter().all(|outcome| *outcome == PutOutcome::Kept));
    }
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || read_from(store, thread * NAMES / THREADS));
        }
    });
    let open_now = fs::read_dir("/proc/self/fd").unwrap().count();
    // Half of what the process may open, and a few of its own.
    assert!(open_now < 512 + 64, "{open_now} descriptors for {NAMES} files");
}

/// Reads all contents twice, from `start` on; every one must be there.
fn read_from(store: &PageStore, start: u64) {
    let mut held = Vec::new();
    for name in (start..start + 2 * NAMES).map(|name| name % NAMES) {
        let length = length(name);
        let range = ByteRange { start: length / PAGE_SIZE * PAGE_SIZE, end: length };
        let pieces = store.get(content(name), length, range);
        let reading = check(name, length, range, &pieces);
        assert!(reading.good.len() == 1 && reading.bad.is_empty(), "{name}: {reading:?}");
        held.push(pieces);
        if held.len() > HELD {
            held.remove(0);
        }
    }
}
