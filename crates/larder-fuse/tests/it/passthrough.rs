// SPDX-License-Identifier: Apache-2.0
//! Files that the kernel reads by itself.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::atomic::Ordering,
    time::Duration,
};

use larder_core::Freshness;
use larder_fuse::{Passthrough, Settings, passthrough_obstacle};
use rustix::{
    fs::OFlags,
    thread::{CapabilitySet, capabilities, set_capabilities},
};

use crate::support::{Mounted, can_mount, settings};

const LENGTH: usize = 900_001;

/// Whether the kernel can be asked here; says so visibly when it can't.
fn can_pass_through() -> bool {
    let obstacle = passthrough_obstacle();
    if let Some(why) = obstacle {
        eprintln!("SKIPPED: {why}");
    }
    can_mount() && obstacle.is_none()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8 ^ (at / 4096) as u8 ^ seed).collect()
}

fn reads(mounted: &Mounted) -> u64 {
    mounted.store.counts.reads.load(Ordering::SeqCst)
}

fn passed(mounted: &Mounted) -> u64 {
    mounted.count("passthrough", "ok")
}

/// The kernel tells of a close behind the one who closes.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        let (_never, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_millis(10));
    }
    panic!("not within two seconds: {what}");
}

#[test]
fn the_kernel_reads_a_whole_local_file_and_nobody_is_asked() {
    if !can_pass_through() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let content = pattern(LENGTH, 1);
    mounted.store.put("a", content.clone());
    mounted.store.keep("a");
    let (first, second) = (File::open(mounted.path("a")), File::open(mounted.path("a")));
    let (mut first, second) = (first.unwrap(), second.unwrap());
    assert!(mounted.store.is_held("a"));
    let mut all = Vec::new();
    first.read_to_end(&mut all).unwrap();
    assert!(all == content);
    let mut part = vec![0; 1000];
    second.read_exact_at(&mut part, 300_000).unwrap();
    assert!(part == content[300_000..301_000]);
    assert_eq!(second.read_at(&mut part, LENGTH as u64).unwrap(), 0, "nothing behind the end");
    assert_eq!((reads(&mounted), passed(&mounted)), (0, 2));
    // What was handed out is told, whatever of it is read.
    eventually("both opens are counted", || {
        mounted.filesystem.metrics().passthrough_bytes.get() == 2 * LENGTH as u64
            && mounted.store.counts.wholes.load(Ordering::SeqCst) == 2
    });
    drop(first);
    second.read_exact_at(&mut part, 0).unwrap();
    assert!(mounted.store.is_held("a"), "as long as one is open");
    drop(second);
    eventually("the last close lets go", || !mounted.store.is_held("a"));
}

#[test]
fn a_byte_that_flipped_before_the_open_is_never_served() {
    if !can_pass_through() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let content = pattern(LENGTH, 2);
    mounted.store.put("a", content.clone());
    let local = mounted.store.keep("a");
    assert!(mounted.read("a").unwrap() == content);
    assert_eq!((reads(&mounted), passed(&mounted)), (0, 1));
    // Also where a check found the file good a moment ago.
    for at in [0, 65_536, LENGTH as u64 - 1] {
        eventually("closed", || !mounted.store.is_held("a"));
        let mut byte = [0];
        local.read_exact_at(&mut byte, at).unwrap();
        local.write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert!(mounted.read("a").unwrap() == content, "byte {at}");
        let page = u32::try_from(at / 65_536).unwrap();
        assert_eq!(mounted.store.suspects.lock().unwrap().last(), Some(&page));
        local.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(passed(&mounted), 1);
}

#[test]
fn an_inode_that_is_open_the_usual_way_stays_so_until_it_is_closed() {
    if !can_pass_through() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let content = pattern(LENGTH, 3);
    mounted.store.put("a", content.clone());
    let early = File::open(mounted.path("a")).unwrap();
    mounted.store.keep("a");
    assert!(mounted.read("a").unwrap() == content);
    assert_eq!(passed(&mounted), 0, "the two ways are never mixed");
    assert!(reads(&mounted) > 0);
    drop(early);
    for _ in 0..50 {
        assert!(mounted.read("a").unwrap() == content);
    }
    eventually("the way is decided anew", || {
        assert!(mounted.read("a").unwrap() == content);
        passed(&mounted) > 0
    });
}

#[test]
fn an_overwritten_file_goes_on_and_the_new_version_is_another_inode() {
    if !can_pass_through() {
        return;
    }
    let mounted = Mounted::new(Freshness::Always);
    let (old, new) = (pattern(LENGTH, 4), pattern(LENGTH - 5, 5));
    mounted.store.put("a", old.clone());
    mounted.store.keep("a");
    let mut before = File::open(mounted.path("a")).unwrap();
    mounted.store.put("a", new.clone());
    assert!(mounted.read("a").unwrap() == new);
    let mut all = Vec::new();
    before.read_to_end(&mut all).unwrap();
    assert!(all == old);
    assert_eq!(passed(&mounted), 1, "the new version is not whole here");
}

#[test]
fn opens_for_unbuffered_reads_come_here() {
    if !can_pass_through() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    mounted.store.put("a", pattern(LENGTH, 6));
    mounted.store.keep("a");
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    let direct = File::options().read(true).custom_flags(flags).open(mounted.path("a")).unwrap();
    let mut part = vec![0; 100];
    direct.read_exact_at(&mut part, 77).unwrap();
    assert!(part == pattern(LENGTH, 6)[77..177]);
    assert_eq!(passed(&mounted), 0);
}

#[test]
fn it_can_be_switched_off() {
    if !can_mount() {
        return;
    }
    let off = Settings { passthrough: Passthrough::Off, ..settings() };
    let mounted = Mounted::with(Freshness::default(), &off);
    mounted.store.put("a", pattern(LENGTH, 7));
    mounted.store.keep("a");
    assert!(mounted.read("a").unwrap() == pattern(LENGTH, 7));
    assert_eq!(passed(&mounted), 0);
    assert!(reads(&mounted) > 0);
}

#[test]
fn without_the_right_files_are_read_as_ever() {
    if !can_pass_through() {
        return;
    }
    // Rights belong to a thread and go to the threads it starts.
    let outcome = std::thread::spawn(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SYS_ADMIN);
        set_capabilities(None, sets).unwrap();
        assert!(passthrough_obstacle().is_some());
        let mounted = Mounted::new(Freshness::default());
        mounted.store.put("a", pattern(LENGTH, 8));
        mounted.store.keep("a");
        assert!(mounted.read("a").unwrap() == pattern(LENGTH, 8));
        assert_eq!(passed(&mounted), 0);
        assert!(reads(&mounted) > 0);
    })
    .join();
    outcome.unwrap();
}
