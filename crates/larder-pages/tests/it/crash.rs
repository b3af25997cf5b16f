// SPDX-License-Identifier: Apache-2.0
//! After a crash: no wrong byte, nothing leaked, capacity still kept. The harder half kills a
//! real child process in the middle of its fills.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use larder_core::{Random, Result};
use larder_pages::{Index, IndexKey, MemoryIndex, PutOutcome};
use tempfile::tempdir;

use crate::bench::{
    LossyIndex, allocated, content, eventually, files, new_page, open, put, put_all, read_all,
};

const CAPACITY: u64 = 4 << 20;
const LENGTH: u64 = 10 << 16;
/// Set in the child: the directory to fill.
const CHILD: &str = "LARDER_PAGES_CRASH_CHILD";
/// More rounds than a test run has time for.
const SOAK: &str = "LARDER_SOAK";

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
    eventually("the claim goes", || store.usage()[0].segments == 0);
    assert_eq!(store.usage()[0].resident.0, 0);
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

/// What the child does until it is killed: fills, reads, removes.
fn fill_until_killed(directory: &Path) {
    let index = Arc::new(FileIndex::open(&directory.join("index")));
    let store = open(&directory.join("cache"), CAPACITY, index);
    let random = Random::new();
    println!("filling");
    loop {
        let name = random.below(30);
        let first = random.below(10) as u32;
        let pages = first..10.min(first + 4);
        put_all(&store, pages.map(|page| new_page(name, page, LENGTH)).collect());
        if random.below(10) == 0 {
            store.remove(content(random.below(30))).unwrap();
        }
        println!("filled");
    }
}

#[test]
fn killed_in_the_middle_of_fills() {
    if let Some(directory) = std::env::var_os(CHILD) {
        fill_until_killed(Path::new(&directory));
    }
    let rounds = std::env::var(SOAK).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10);
    let directory = tempdir().unwrap();
    let cache = directory.path().join("cache");
    let random = Random::new();
    let mut survived = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::killed_in_the_middle_of_fills", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let moment = 1 + random.below(60) as usize;
        let seen = lines.map_while(std::result::Result::ok);
        let fills = seen.filter(|line| line == "filled").take(moment).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fills, moment, "the child filled until it was killed, round {round}");
        assert!(allocated(&cache) <= CAPACITY, "capacity holds after a kill, round {round}");
        if random.below(3) == 0 {
            // Killed again before anybody compared files with records.
            continue;
        }
        let index = Arc::new(FileIndex::open(&directory.path().join("index")));
        let store = open(&cache, CAPACITY, index.clone());
        for name in 0..30 {
            let reading = read_all(&store, name, LENGTH);
            survived += reading.good.len();
            store.verify(content(name), LENGTH, &reading.bad).unwrap();
            assert!(read_all(&store, name, LENGTH).bad.is_empty());
        }
        eventually("files and records agree", || {
            assert!(allocated(&cache) <= CAPACITY);
            allocated(&cache) <= store.usage()[0].resident.0
        });
        drop(store);
        index.flush().unwrap();
    }
    assert!(survived > 0, "a crash does not cost everything");
}
