// SPDX-License-Identifier: Apache-2.0
//! Objects that are overwritten while they are read: each reader sees one version or an error.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use larder_core::Freshness;
use rustix::io::Errno;

use crate::support::{Mounted, can_mount};

fn errno(error: &std::io::Error) -> Option<i32> {
    error.raw_os_error()
}

#[test]
fn an_overwritten_file_is_a_new_inode_and_the_old_one_keeps_its_own() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::Always);
    mounted.store.put("a", vec![1; 300_000]);
    let old = File::open(mounted.path("a")).unwrap();
    let mut page = [0; 4096];
    old.read_exact_at(&mut page, 0).unwrap();
    mounted.store.put("a", vec![2; 500_000]);

    assert!(mounted.read("a").unwrap() == vec![2; 500_000]);
    let (before, now) = (old.metadata().unwrap(), fs::metadata(mounted.path("a")).unwrap());
    assert_ne!(before.ino(), now.ino());
    assert_eq!((before.len(), now.len()), (300_000, 500_000));
    old.read_exact_at(&mut page, 0).unwrap();
    assert_eq!(page, [1; 4096], "the old version's pages stay the old version's");
    let error = old.read_exact_at(&mut page, 290_000).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::STALE.raw_os_error()), "{error}");
}

#[test]
fn an_open_wins_over_a_listing_that_still_shows_the_version_before() {
    if !can_mount() {
        return;
    }
    for freshness in [Freshness::Always, Freshness::MaxAge(Duration::from_secs(60))] {
        let mounted = Mounted::new(freshness);
        mounted.store.put("a", "one");
        assert_eq!(mounted.read("a").unwrap(), b"one");
        mounted.store.put_behind_listings("a", "number two");
        for _ in 0..3 {
            assert_eq!(mounted.read("a").unwrap(), b"number two", "{freshness:?}");
            let length = fs::metadata(mounted.path("a")).unwrap().len();
            assert_eq!(length, 10, "{freshness:?}");
        }
    }
}

#[test]
fn names_are_believed_for_their_freshness_and_opens_are_local_then() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::Immutable);
    mounted.store.put("a", "one");
    assert_eq!(mounted.read("a").unwrap(), b"one");
    let lists = mounted.store.counts.lists.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(mounted.read("a").unwrap(), b"one");
    }
    assert_eq!(mounted.store.counts.lists.load(Ordering::SeqCst), lists);
    assert_eq!(mounted.store.counts.reads.load(Ordering::SeqCst), 1);
    mounted.store.remove("a");
    assert_eq!(mounted.read("a").unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

/// A writer overwrites one object with contents of one byte value and ever another length, while
/// readers read it whole.
#[test]
fn no_reader_ever_sees_two_versions() {
    if !can_mount() {
        return;
    }
    let mounted = Arc::new(Mounted::new(Freshness::Always));
    mounted.store.put("hot", vec![0; 1000]);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (mounted, done) = (Arc::clone(&mounted), Arc::clone(&done));
            thread::spawn(move || {
                let (mut whole, mut stale) = (0, 0);
                while !done.load(Ordering::SeqCst) || whole == 0 {
                    match read_in_pieces(&mounted) {
                        Ok(content) => {
                            let first = content.first().copied();
                            assert!(content.iter().all(|byte| Some(*byte) == first), "a mixture");
                            whole += 1;
                        }
                        Err(error) => {
                            assert_eq!(errno(&error), Some(Errno::STALE.raw_os_error()), "{error}");
                            stale += 1;
                        }
                    }
                }
                (whole, stale)
            })
        })
        .collect();
    for round in 0..1000_usize {
        let length = [0, 1, 4096, 65_536, 70_001, 1_300_000][round % 6];
        mounted.store.put("hot", vec![(round % 251) as u8; length]);
        thread::yield_now();
        if round % 10 == 0 {
            let _ = fs::metadata(mounted.path("hot"));
        }
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        let (whole, _stale) = reader.join().unwrap();
        assert!(whole > 0);
    }
}

fn read_in_pieces(mounted: &Mounted) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(mounted.path("hot"))?;
    let length = file.metadata()?.len();
    let mut content = Vec::new();
    let mut piece = [0; 10_000];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => content.extend_from_slice(&piece[..count]),
        }
    }
    assert_eq!(content.len() as u64, length, "the length is the version's");
    Ok(content)
}
