// SPDX-License-Identifier: Apache-2.0
//! Mounting, unmounting, and what happens when the store or the process is gone.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use larder_core::{Clock, ErrorKind, Freshness};
use larder_fuse::FuseFace;
use rustix::io::Errno;

use crate::support::{Mood, Mounted, can_mount, filesystem, is_mounted, runtime, settings};

/// Where the test that holds a mount in another process shall do so.
const CHILD: &str = "LARDER_TEST_MOUNTPOINT";

fn elapsed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let clock = Clock::system();
    let result = work();
    (result, clock.elapsed())
}

#[test]
fn what_is_in_the_way_is_said() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let scratch = tempfile::tempdir().unwrap();
    let refused = |point: &Path, kind: ErrorKind, word: &str| {
        let error = mounted.mount_at(point).expect_err("must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!is_mounted(point));
    };
    refused(&scratch.path().join("missing"), ErrorKind::NotFound, "create the directory");
    refused(&scratch.path().join("missing/deeper"), ErrorKind::NotFound, "create the directory");
    fs::write(scratch.path().join("file"), "x").unwrap();
    refused(&scratch.path().join("file"), ErrorKind::NotADirectory, "not a directory");
    refused(scratch.path(), ErrorKind::NotEmpty, "not empty");
    let error = mounted.mount_at(mounted.directory.path()).expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("fuse.larder"), "{error}");
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = mounted.directory.path().to_str().unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains(point)).count(), 1);
}

#[test]
fn an_idle_mount_is_gone_at_once_and_can_come_back() {
    if !can_mount() {
        return;
    }
    let mut mounted = Mounted::new(Freshness::default());
    mounted.store.put("a", "hello");
    let point = mounted.directory.path().to_owned();
    for _ in 0..3 {
        assert_eq!(mounted.read("a").unwrap(), b"hello");
        let face = mounted.face.take().unwrap();
        assert_eq!(face.mountpoint(), point);
        let (result, took) = elapsed(|| face.unmount());
        result.unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(!is_mounted(&point));
        mounted.face = Some(mounted.mount_at(&point).unwrap());
    }
    drop(mounted);
    assert!(!is_mounted(&point));
}

#[test]
fn a_busy_mount_is_detached_within_its_bound_and_open_files_go_on() {
    if !can_mount() {
        return;
    }
    let mut mounted = Mounted::new(Freshness::default());
    mounted.store.put("a", vec![7; 200_000]);
    let file = File::open(mounted.path("a")).unwrap();
    let face = mounted.face.take().unwrap();
    let (result, took) = elapsed(|| face.unmount());
    result.unwrap();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(!is_mounted(mounted.directory.path()));
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 100_000).unwrap();
    assert_eq!(page, [7; 4096]);
    drop(file);
    mounted.face = Some(mounted.mount_at(mounted.directory.path()).unwrap());
    assert_eq!(mounted.read("a").unwrap().len(), 200_000);
}

#[test]
fn one_that_was_unmounted_by_hand_is_no_trouble() {
    if !can_mount() {
        return;
    }
    let mut mounted = Mounted::new(Freshness::default());
    let by_hand = Command::new("fusermount3").arg("-u").arg(mounted.directory.path()).status();
    match by_hand {
        Ok(status) => assert!(status.success()),
        Err(_) => return eprintln!("SKIPPED: no fusermount3 here"),
    }
    mounted.face.take().unwrap().unmount().unwrap();
    assert!(!is_mounted(mounted.directory.path()));
}

/// Not a test by itself: the process that the next one kills.
#[test]
fn holds_a_mount_for_another_test() {
    let Some(point) = env::var_os(CHILD) else { return };
    let filesystem = filesystem(&Arc::default(), Freshness::default());
    let runtime = runtime();
    let face =
        FuseFace::mount(&settings(), Path::new(&point), filesystem, runtime.handle().clone());
    println!("\nmounted");
    // Until the other test closes its end or kills this process.
    let _ = std::io::stdin().read(&mut [0]);
    drop(face);
}

#[test]
fn the_dead_mount_of_a_killed_larder_is_taken_away() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    mounted.store.put("a", "hello");
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "mounting::holds_a_mount_for_another_test", "--nocapture"])
        .env(CHILD, scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "mounted"));
    child.kill().unwrap();
    child.wait().unwrap();
    let error = fs::metadata(scratch.path()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()));
    let face = mounted.mount_at(scratch.path()).unwrap();
    assert_eq!(fs::read(scratch.path().join("lake/a")).unwrap(), b"hello");
    face.unmount().unwrap();
    assert!(!is_mounted(scratch.path()), "nothing is left below either");
}

#[test]
fn a_silent_store_costs_the_time_out_and_stops_nobody_else() {
    if !can_mount() {
        return;
    }
    let mounted = Arc::new(Mounted::new(Freshness::Always));
    for at in 0..20 {
        mounted.store.put(&format!("f{at}"), vec![at; 100]);
    }
    let files: Vec<_> =
        (0..20).map(|at| File::open(mounted.path(&format!("f{at}"))).unwrap()).collect();
    mounted.store.set(Mood::Silent);
    let stuck: Vec<_> = files
        .into_iter()
        .map(|file| {
            thread::spawn(move || {
                // The kernel asks again after its read-ahead failed, so the result may be either.
                let (_, took) = elapsed(|| file.read_at(&mut [0; 10], 0));
                assert!(took < Duration::from_secs(8), "{took:?}");
                took
            })
        })
        .collect();
    while mounted.store.counts.reads.load(std::sync::atomic::Ordering::SeqCst) < 20 {
        thread::yield_now();
    }
    mounted.store.set(Mood::Well);
    let (names, took) = elapsed(|| mounted.names(""));
    assert_eq!(names.len(), 20);
    assert_eq!(mounted.read("f3").unwrap_or_default().len() % 100, 0);
    assert!(took < Duration::from_millis(900), "{took:?}: it waited for the stuck reads");
    for thread in stuck {
        assert!(thread.join().unwrap() >= Duration::from_millis(900));
    }
    mounted.store.put("cold", "never read before");
    let file = File::open(mounted.path("cold")).unwrap();
    mounted.store.set(Mood::Silent);
    for operation in [
        &(|| fs::metadata(mounted.path("f1")).map(|_| ())) as &dyn Fn() -> std::io::Result<()>,
        &|| file.read_at(&mut [0; 10], 0).map(|_| ()),
    ] {
        let (result, took) = elapsed(operation);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(took > Duration::from_millis(900), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn a_slow_store_and_one_that_is_down_give_bytes_and_errors() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::Always);
    mounted.store.put("d/a", vec![9; 2_000_000]);
    mounted.store.set(Mood::Slow);
    assert_eq!(mounted.names("d"), ["a"]);
    assert!(mounted.read("d/a").unwrap() == vec![9; 2_000_000]);
    mounted.store.set(Mood::Down);
    let error = mounted.read("d/a").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    mounted.store.set(Mood::Well);
    assert!(mounted.read("d/a").unwrap() == vec![9; 2_000_000]);
}
