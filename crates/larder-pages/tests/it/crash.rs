// SPDX-License-Identifier: Apache-2.0
//! After a crash: no wrong byte, nothing leaked, capacity still kept. The harder half kills a
//! real child process in the middle of its fills.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_core::{ByteRange, Random, Result};
use larder_pages::{Index, IndexKey, MemoryIndex, PutOutcome};
use tempfile::tempdir;

use crate::bench::{
    LossyIndex, allocated, content, eventually, files, new_page, open, put, put_all, read_all,
    slabs,
};

const CAPACITY: u64 = 4 << 20;
const LENGTH: u64 = 10 << 16;
/// Contents of the killed child.
const NAMES: u64 = 80;
/// Small files that are put together.
const TOGETHER: u64 = 12;
/// Set in the child: the directory to fill.
const CHILD: &str = "LARDER_PAGES_CRASH_CHILD";
/// Set in the child: `point hits`, where it dies by its own hand.
const DIE_AT: &str = "LARDER_PAGES_CRASH_POINT";
/// The moments at which a child dies. Evictions and removals come by all of them.
const POINTS: [&str; 9] = [
    "pages::create",
    "pages::slab",
    "pages::fill",
    "pages::record",
    "pages::entry",
    "pages::clear",
    "pages::evict",
    "pages::punch",
    "pages::unlink",
];

#[test]
fn files_without_records_and_records_without_files_go() {
    let directory = tempdir().unwrap();
    let index = Arc::new(LossyIndex::default());
    let store = open(directory.path(), CAPACITY, index.clone());
    put_all(&store, (0..10).map(|page| new_page(1, page, LENGTH)).collect());
    index.flush().unwrap();
    // Lost with the index's last batch: two pages more of a known content, a whole new one.
    put(&store, 2, 0, LENGTH);
    drop(store);
    index.crash();
    // Lost on disk: a file that a record still claims.
    assert_eq!(files(directory.path()).len(), 2);
    let stranger = directory.path().join("pages/ab/not-ours");
    fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    fs::write(&stranger, "x").unwrap();

    let store = open(directory.path(), CAPACITY, index.clone());
    assert_eq!(read_all(&store, 1, LENGTH).good.len(), 10, "served at once");
    assert!(read_all(&store, 2, LENGTH).good.is_empty());
    eventually("the orphan goes", || files(directory.path()).len() == 2);
    assert!(stranger.exists(), "what is not ours stays");
    fs::remove_file(stranger).unwrap();
    drop(store);
    fs::remove_file(&files(directory.path())[0].0).unwrap();
    let store = open(directory.path(), CAPACITY, index);
    // Before, nothing is claimed yet.
    store.wait_until_loaded().unwrap();
    eventually("the claim goes", || {
        let usage = &store.usage()[0];
        (usage.segments, usage.resident.0) == (0, 0)
    });
}

#[test]
fn pages_that_no_record_claims_are_punched() {
    let directory = tempdir().unwrap();
    let index = Arc::new(LossyIndex::default());
    let store = open(directory.path(), CAPACITY, index.clone());
    put_all(&store, (0..4).map(|page| new_page(1, page, LENGTH)).collect());
    index.flush().unwrap();
    put_all(&store, (6..9).map(|page| new_page(1, page, LENGTH)).collect());
    drop(store);
    index.crash();
    assert_eq!(allocated(directory.path()), 7 << 16);
    let store = open(directory.path(), CAPACITY, index);
    eventually("stray pages go", || allocated(directory.path()) == 4 << 16);
    assert_eq!(read_all(&store, 1, LENGTH).good, [0, 1, 2, 3]);
}

#[test]
fn an_index_that_forgot_everything_costs_the_pages_not_the_capacity() {
    let directory = tempdir().unwrap();
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    for name in 0..12 {
        put_all(&store, (0..4).map(|page| new_page(name, page, LENGTH)).collect());
    }
    drop(store);
    assert!(allocated(directory.path()) > CAPACITY / 2);
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    for name in 20..40 {
        put_all(&store, (0..4).map(|page| new_page(name, page, LENGTH)).collect());
        assert!(allocated(directory.path()) <= CAPACITY);
    }
    eventually("pages are kept again", || put(&store, 50, 0, LENGTH) == PutOutcome::Kept);
    eventually("nothing leaks", || allocated(directory.path()) <= store.usage()[0].resident.0);
}

/// An index in a file: appended at each flush, and at once with the chance of one in eight. A
/// killed process loses the rest, and perhaps cuts the last line.
#[derive(Debug)]
struct FileIndex {
    now: MemoryIndex,
    pending: Mutex<Vec<u8>>,
    file: fs::File,
    random: Random,
}

impl FileIndex {
    fn open(path: &Path) -> Self {
        let now = MemoryIndex::new();
        let file = fs::OpenOptions::new().create(true).read(true).append(true).open(path);
        let file = file.unwrap();
        for line in BufReader::new(&file).split(b'\n') {
            let line = String::from_utf8(line.unwrap()).unwrap();
            let Some((key, record)) = line.strip_suffix('.').and_then(|l| l.split_once(' ')) else {
                continue;
            };
            let key = IndexKey::from_bytes(unhex(key).try_into().unwrap());
            match record {
                "-" => now.remove(&key).unwrap(),
                record => now.put(key, unhex(record)).unwrap(),
            }
        }
        let random = Random::new();
        // Ends a line that was cut.
        Self { now, pending: Mutex::new(b"\n".to_vec()), file, random }
    }

    fn note(&self, key: &IndexKey, record: &str) -> Result<()> {
        let line = format!("{} {record}.\n", hex(&key.to_bytes()));
        self.pending.lock().unwrap().extend(line.into_bytes());
        if self.random.below(8) == 0 { self.flush() } else { Ok(()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len() / 2).map(|at| &text[2 * at..2 * at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

impl Index for FileIndex {
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>> {
        self.now.get(key)
    }

    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()> {
        let note = hex(&record);
        self.now.put(key, record)?;
        self.note(&key, &note)
    }

    fn remove(&self, key: &IndexKey) -> Result<()> {
        self.now.remove(key)?;
        self.note(key, "-")
    }

    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()> {
        self.now.for_each(visit)
    }

    fn flush(&self) -> Result<()> {
        let mut pending = self.pending.lock().unwrap();
        (&self.file).write_all(&pending).unwrap();
        pending.clear();
        Ok(())
    }
}

/// Small files (three of four, of a few classes), files of one segment and of several: evicting
/// takes each kind apart in its own way.
fn length(name: u64) -> u64 {
    match name % 8 {
        0 => LENGTH,
        4 => (40 << 20) + 1,
        _ => [300, 500, 1400, 4096, 5000, 1 << 16][name as usize % 6],
    }
}

/// What the child does until it is killed: fills, reads, removes.
fn fill_until_killed(directory: &Path) {
    if let Ok(point) = std::env::var(DIE_AT) {
        let (point, hits) = point.split_once(' ').unwrap();
        let left = AtomicU64::new(hits.parse().unwrap());
        fail::cfg_callback(point, move || {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
            }
        })
        .unwrap();
    }
    let index = Arc::new(FileIndex::open(&directory.join("index")));
    let store = open(&directory.join("cache"), CAPACITY, index);
    let random = Random::new();
    println!("filling");
    loop {
        let name = random.below(NAMES);
        let pages = length(name).div_ceil(1 << 16);
        let first = random.below(pages) as u32;
        let window = first..(pages as u32).min(first + 4);
        let mut new: Vec<_> = window.map(|page| new_page(name, page, length(name))).collect();
        if pages == 1 {
            let others = (name..NAMES).filter(|name| length(*name) <= 1 << 16);
            new.extend(others.take(TOGETHER as usize).map(|name| new_page(name, 0, length(name))));
        }
        put_all(&store, new);
        let other = random.below(NAMES);
        let held = store.get(content(other), length(other), ByteRange { start: 0, end: 1 << 16 });
        if random.below(4) == 0 {
            store.remove(content(random.below(NAMES))).unwrap();
            store.remove(content(other)).unwrap();
        }
        drop(held);
        println!("filled");
    }
}

/// Starts a child and waits until it is dead: killed from outside after some fills, or at a
/// fail point. Tells whether it was the latter.
fn kill_a_child(directory: &Path, random: &Random) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["crash::killed_at_any_moment", "--exact", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let at_point = random.below(3) > 0;
    if at_point {
        let point = POINTS[random.below(POINTS.len() as u64) as usize];
        command.env(DIE_AT, format!("{point} {}", 1 + random.below(40)));
    }
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let fills = lines.map_while(std::result::Result::ok).filter(|line| line == "filled");
    let fills_max = if at_point { 400 } else { 1 + random.below(60) as usize };
    let fills = fills.take(fills_max).count();
    let died_there = fills < fills_max;
    assert!(at_point || !died_there, "the child filled until it was killed");
    if !died_there {
        // Also when its moment did not come: too few evictions of that kind.
        child.kill().unwrap();
    }
    assert_eq!(child.wait().unwrap().signal(), Some(9), "killed, not failed");
    died_there
}

#[test]
fn killed_at_any_moment() {
    if let Some(directory) = std::env::var_os(CHILD) {
        fill_until_killed(Path::new(&directory));
    }
    kill_again_and_again(30);
}

#[test]
#[ignore = "a quarter of an hour; run by `just soak`"]
fn soak_kills() {
    kill_again_and_again(500);
}

fn kill_again_and_again(rounds: u32) {
    let directory = tempdir().unwrap();
    let cache = directory.path().join("cache");
    let random = Random::new();
    let (mut survived, mut died_there) = (0, 0);
    for round in 0..rounds {
        died_there += u64::from(kill_a_child(directory.path(), &random));
        assert!(allocated(&cache) <= CAPACITY, "capacity holds after a kill, round {round}");
        if random.below(3) == 0 {
            // Killed again before anybody compared files with records.
            continue;
        }
        survived += recover(directory.path());
    }
    assert!(survived > 0, "a crash does not cost everything");
    assert!(died_there > 0, "the moments are met");
    // What is accounted for can be taken back, to the last byte.
    let index = Arc::new(FileIndex::open(&directory.path().join("index")));
    let store = open(&cache, CAPACITY, index);
    for name in 0..NAMES {
        store.remove(content(name)).unwrap();
    }
    eventually("nothing has leaked", || allocated(&cache) == 0 && store.usage()[0].resident.0 == 0);
}

/// A slot that was written again although its entry still names what lay there before: the bytes
/// are not what the entry says, and that is noticed.
#[test]
fn an_entry_of_before_does_not_pass_for_the_bytes_of_now() {
    let directory = tempdir().unwrap();
    let length = 900;
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    for name in 0..8 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    let slab = slabs(directory.path())[0].0.clone();
    let before = fs::read(&slab).unwrap();
    for name in 0..8 {
        store.remove(content(name)).unwrap();
        assert_eq!(put(&store, 100 + name, 0, length), PutOutcome::Kept);
    }
    drop(store);
    // The entries of before, the bytes of now, as after a kill between the two writes.
    let file = fs::OpenOptions::new().write(true).open(&slab).unwrap();
    file.write_all_at(&before[..4096], 0).unwrap();
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    for name in (0..8).chain(100..108) {
        let reading = read_all(&store, name, length);
        assert!(reading.good.is_empty(), "{name}");
        store.verify(content(name), length, &reading.bad).unwrap();
        assert!(read_all(&store, name, length).bad.is_empty());
    }
    eventually("nothing is left", || allocated(directory.path()) == 0);
}

#[test]
fn what_no_entry_explains_goes_at_the_next_start() {
    let directory = tempdir().unwrap();
    let length = 3000;
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    for name in 0..200 {
        assert_eq!(put(&store, name, 0, length), PutOutcome::Kept);
    }
    drop(store);
    let (slab, before) = slabs(directory.path())[0].clone();
    // All entries but those of the first 27 files.
    let file = fs::OpenOptions::new().write(true).open(&slab).unwrap();
    file.write_all_at(&[0; 6000], 32 + 27 * 32).unwrap();
    fs::write(directory.path().join("slabs/0000000000abcdef"), "no slab").unwrap();
    fs::write(directory.path().join("slabs/not-ours"), "x").unwrap();
    let store = open(directory.path(), CAPACITY, Arc::new(MemoryIndex::new()));
    let good = (0..200).filter(|name| read_all(&store, *name, length).good == [0]);
    assert_eq!(good.count(), 27);
    let (name, now) = slabs(directory.path()).into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    assert_eq!(name, slab);
    assert!(now < before / 3, "{now} of {before}");
    assert!(directory.path().join("slabs/not-ours").exists(), "what is not ours stays");
    assert!(!directory.path().join("slabs/0000000000abcdef").exists());
}

/// Opens what a killed child left: no wrong byte, nothing beyond what is accounted for. Returns
/// how many pages are good.
fn recover(directory: &Path) -> usize {
    let cache = directory.join("cache");
    let index = Arc::new(FileIndex::open(&directory.join("index")));
    let store = open(&cache, CAPACITY, index.clone());
    let mut good = 0;
    for name in 0..NAMES {
        let reading = read_all(&store, name, length(name));
        good += reading.good.len();
        store.verify(content(name), length(name), &reading.bad).unwrap();
        assert!(read_all(&store, name, length(name)).bad.is_empty());
    }
    eventually("files and records agree", || {
        assert!(allocated(&cache) <= CAPACITY);
        allocated(&cache) <= store.usage()[0].resident.0
    });
    drop(store);
    index.flush().unwrap();
    good
}
