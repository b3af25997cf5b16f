// SPDX-License-Identifier: Apache-2.0
//! What the tests stand on: contents made of nothing but their name, an index that can lose its
//! last batch, and a reader that checks what it gets as a real one does.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use larder_core::{
    ByteRange, ByteSize, ContentId, Metrics, PAGE_SIZE, PageIndex, Random, Result, crc32c,
};
use larder_pages::{
    Class, DirectoryOptions, Index, IndexKey, NewPage, Options, PageBytes, PageStore, Piece,
    PutOutcome,
};

/// Generous: only a hang is to be noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn content(name: u64) -> ContentId {
    let random = Random::seeded(name);
    ContentId(u128::from(random.next()) << 64 | u128::from(random.next()))
}

/// The bytes of a page of a content: random, fixed by name and number.
pub(crate) fn page_bytes(name: u64, page: u32, length: u64) -> Bytes {
    let range = PageIndex(page).range(length);
    let random = Random::seeded(name << 32 | u64::from(page));
    let words = (0..range.length().div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    words.take(range.length() as usize).collect()
}

pub(crate) fn new_page(name: u64, page: u32, length: u64) -> NewPage {
    let bytes = page_bytes(name, page, length);
    let checksum = crc32c(&bytes);
    let index = PageIndex(page);
    let (content, bytes, class) = (content(name), parts(bytes), Class::NONE);
    NewPage { content, length, index, bytes, checksum, class, hold: None }
}

/// Cuts a page as a store's chunks would.
fn parts(mut bytes: Bytes) -> PageBytes {
    let mut parts = PageBytes::default();
    while !bytes.is_empty() {
        parts.push(bytes.split_to(bytes.len().min(10_000)));
    }
    parts
}

pub(crate) fn options(directories: &[(&Path, u64)]) -> Options {
    let directories = directories.iter().map(|(path, capacity)| DirectoryOptions {
        path: path.to_path_buf(),
        capacity: ByteSize(*capacity),
    });
    Options { directories: directories.collect(), ..Options::default() }
}

pub(crate) fn open(path: &Path, capacity: u64, index: Arc<dyn Index>) -> Arc<PageStore> {
    PageStore::open(options(&[(path, capacity)]), index, Arc::new(Metrics::new()))
        .expect("the directory can be used")
}

/// Puts pages and waits for what became of each.
pub(crate) fn put_all(store: &PageStore, pages: Vec<NewPage>) -> Vec<PutOutcome> {
    let (tell, told) = mpsc::channel();
    let count = pages.len();
    for (at, page) in pages.into_iter().enumerate() {
        let tell = tell.clone();
        store.put(page, move |outcome| tell.send((at, outcome)).unwrap_or_default());
    }
    let mut outcomes = vec![None; count];
    for _ in 0..count {
        let (at, outcome) = told.recv_timeout(PATIENCE).expect("every put is answered");
        assert!(outcomes[at].replace(outcome).is_none(), "answered once");
    }
    outcomes.into_iter().flatten().collect()
}

pub(crate) fn put(store: &PageStore, name: u64, page: u32, length: u64) -> PutOutcome {
    put_all(store, vec![new_page(name, page, length)])[0]
}

/// What a range gave: the pages that were good, and those that failed their checksum.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) good: Vec<u32>,
    pub(crate) bad: Vec<PageIndex>,
}

/// Reads a range as a reader would, and asserts all that must hold of the answer.
pub(crate) fn read(store: &PageStore, name: u64, length: u64, range: ByteRange) -> Reading {
    check(name, length, range, &store.get(content(name), length, range))
}

pub(crate) fn read_all(store: &PageStore, name: u64, length: u64) -> Reading {
    read(store, name, length, ByteRange { start: 0, end: length })
}

/// Reads what the pieces promise and compares it with what was put.
pub(crate) fn check(name: u64, length: u64, range: ByteRange, pieces: &[Piece]) -> Reading {
    let mut reading = Reading::default();
    let mut at = range.start.min(length);
    for piece in pieces {
        let part = match piece {
            Piece::Gap(gap) => *gap,
            Piece::Resident { part, .. } => *part,
        };
        assert_eq!(part.start, at, "pieces follow each other");
        assert!(!part.is_empty(), "no empty piece");
        at = part.end;
        let Piece::Resident { extent, part } = piece else { continue };
        assert!(extent.is_consistent() && extent.range.contains(*part));
        for (nth, checksum) in extent.checksums.iter().enumerate() {
            let page = PageIndex::at(extent.range.start).0 + nth as u32;
            let expected = page_bytes(name, page, length);
            let mut bytes = vec![0; expected.len()];
            let offset = extent.offset + nth as u64 * PAGE_SIZE;
            let whole = extent.file.read_exact_at(&mut bytes, offset).is_ok();
            if whole && crc32c(&bytes) == *checksum {
                assert!(bytes == expected, "a wrong byte passed its checksum");
                reading.good.push(page);
            } else {
                reading.bad.push(PageIndex(page));
            }
        }
    }
    assert_eq!(at, range.end.min(length).max(range.start.min(length)), "all of it is answered");
    reading
}

/// The bytes that backing files and slabs below `directory` take on disk.
pub(crate) fn allocated(directory: &Path) -> u64 {
    files(directory).iter().chain(&slabs(directory)).map(|(_, bytes)| bytes).sum()
}

/// Every backing file below `directory` with what it takes on disk.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let fans = fs::read_dir(directory.join("pages")).expect("there are pages");
    fans.flat_map(|fan| files_in(&fan.unwrap().path())).collect()
}

/// Every slab below `directory` with what it takes on disk.
pub(crate) fn slabs(directory: &Path) -> Vec<(PathBuf, u64)> {
    files_in(&directory.join("slabs"))
}

fn files_in(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    // A file may be unlinked while the directory is read.
    let sizes = files.filter_map(|file| {
        let file = file.unwrap();
        Some((file.path(), file.metadata().ok()?.blocks() * 512))
    });
    sizes.collect()
}

/// Asks until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = larder_core::Clock::system();
    while !holds() {
        assert!(clock.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// An index that gathers: what was put since the last flush is lost by a crash.
#[derive(Debug, Default)]
pub(crate) struct LossyIndex(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    durable: BTreeMap<IndexKey, Vec<u8>>,
    now: BTreeMap<IndexKey, Vec<u8>>,
}

impl LossyIndex {
    pub(crate) fn crash(&self) {
        let mut both = self.0.lock().unwrap();
        both.now = both.durable.clone();
    }
}

impl Index for LossyIndex {
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().now.get(key).cloned())
    }

    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()> {
        self.0.lock().unwrap().now.insert(key, record);
        Ok(())
    }

    fn remove(&self, key: &IndexKey) -> Result<()> {
        self.0.lock().unwrap().now.remove(key);
        Ok(())
    }

    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()> {
        let now = self.0.lock().unwrap().now.clone();
        now.iter().try_for_each(|(key, record)| visit(*key, record))
    }

    fn flush(&self) -> Result<()> {
        let mut both = self.0.lock().unwrap();
        both.durable = both.now.clone();
        Ok(())
    }
}
