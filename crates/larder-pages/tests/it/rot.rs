// SPDX-License-Identifier: Apache-2.0
//! Bits that flip: in pages, in records, in what a directory says of itself. None is served.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex},
};

use larder_core::{ByteRange, ByteSize, Metrics, PAGE_SIZE, Random, Result};
use larder_pages::{Index, IndexKey, PageStore};
use rustix::fs::{SeekFrom, seek};
use tempfile::tempdir;

use crate::bench::{content, eventually, files, new_page, options, put_all, read, slabs};

const CAPACITY: u64 = 32 << 20;
const NAMES: u64 = 16;

/// From one byte to several segments.
fn length(name: u64) -> u64 {
    let all = [1, 700, 3 * PAGE_SIZE + 5, 4096, PAGE_SIZE, 5000, (33 << 20) + 9, 30_000];
    all[name as usize % all.len()]
}

/// The pages that are put: few, at both ends.
fn pages(name: u64) -> Vec<u32> {
    let count = length(name).div_ceil(PAGE_SIZE) as u32;
    let mut pages = vec![0, count / 2, count - 1];
    pages.dedup();
    pages
}

/// An index whose records rot.
#[derive(Debug, Default)]
struct RottenIndex(Mutex<BTreeMap<IndexKey, Vec<u8>>>);

impl RottenIndex {
    /// Flips a bit of some record.
    fn flip(&self, random: &Random) {
        let mut records = self.0.lock().unwrap();
        let nth = random.below(records.len().max(1) as u64) as usize;
        if let Some(record) = records.values_mut().nth(nth) {
            let at = random.below(record.len() as u64) as usize;
            record[at] ^= 1 << random.below(8);
        }
    }
}

impl Index for RottenIndex {
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()> {
        self.0.lock().unwrap().insert(key, record);
        Ok(())
    }

    fn remove(&self, key: &IndexKey) -> Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()> {
        let now = self.0.lock().unwrap().clone();
        now.iter().try_for_each(|(key, record)| visit(*key, record))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn open(path: &Path, index: &Arc<RottenIndex>) -> Arc<PageStore> {
    let mut all = options(&[(path, CAPACITY)]);
    // Nothing is remembered, so that every read meets what rotted.
    all.record_cache_bytes_max = ByteSize(0);
    let index: Arc<dyn Index> = Arc::clone(index) as Arc<dyn Index>;
    PageStore::open(all, index, Arc::new(Metrics::new())).unwrap()
}

fn fill(store: &PageStore, name: u64) {
    let new = pages(name).into_iter().map(|page| new_page(name, page, length(name)));
    put_all(store, new.collect());
}

/// Reads what was put and drops what is bad; no wrong byte passes, as [`read`] asserts. Returns
/// how many pages are bad.
fn read_and_verify(store: &PageStore, name: u64) -> usize {
    let mut bad = Vec::new();
    for page in pages(name) {
        let start = u64::from(page) * PAGE_SIZE;
        let range = ByteRange { start, end: (start + PAGE_SIZE).min(length(name)) };
        bad.extend(read(store, name, length(name), range).bad);
    }
    store.verify(content(name), length(name), &bad).unwrap();
    bad.len()
}

/// Flips a bit of a slab where it has bytes: mostly of a file, sometimes of an entry.
fn flip_slab(path: &Path, random: &Random) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut runs = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(start)).unwrap();
        runs.push(start..at);
    }
    let run = runs[random.below(runs.len() as u64) as usize].clone();
    let at = run.start + random.below(run.end - run.start);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).unwrap();
}

/// Flips a bit of a file where it has bytes; `false` when it has none.
fn flip_file(path: &Path, random: &Random) -> bool {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let ends = [0, length / 2, length.saturating_sub(1)];
    let page = ends[random.below(3) as usize] / PAGE_SIZE * PAGE_SIZE;
    let Some(bytes) = length.checked_sub(page).filter(|bytes| *bytes > 0) else { return false };
    let at = page + random.below(bytes.min(PAGE_SIZE));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).unwrap();
    true
}

#[test]
fn no_flipped_bit_is_served() {
    flip_bits(200);
}

#[test]
#[ignore = "a quarter of an hour; run by `just soak`"]
fn soak_flipped_bits() {
    flip_bits(10_000);
}

fn flip_bits(flips: usize) {
    let directory = tempdir().unwrap();
    let index = Arc::new(RottenIndex::default());
    let random = Random::new();
    let mut store = open(directory.path(), &index);
    (0..NAMES).for_each(|name| fill(&store, name));
    let mut found = 0;
    for flip in 0..flips {
        match flip % 40 {
            39 => store = reopen_with_rot(store, (directory.path(), &index), &random),
            nth if nth % 3 == 0 => index.flip(&random),
            nth if nth % 3 == 1 => {
                let all = slabs(directory.path());
                flip_slab(&all[random.below(all.len() as u64) as usize].0, &random);
            }
            _ => {
                let all = files(directory.path());
                if let Some((path, _)) = all.get(random.below(all.len().max(1) as u64) as usize) {
                    flip_file(path, &random);
                }
            }
        }
        for name in 0..NAMES {
            let bad = read_and_verify(&store, name);
            found += bad;
            if bad > 0 || flip % 3 == 0 {
                fill(&store, name);
            }
        }
    }
    assert!(found > flips / 4, "rot was met: {found} pages of {flips} flips");
}

/// A bit of the directory's own small files flips between two runs: it is noticed, or harmless.
fn reopen_with_rot(
    store: Arc<PageStore>,
    (path, index): (&Path, &Arc<RottenIndex>),
    random: &Random,
) -> Arc<PageStore> {
    if random.below(2) == 0 {
        store.close().unwrap();
    }
    drop(store);
    let header = path.join(["format", "identity", "state"][random.below(3) as usize]);
    let before = fs::read(&header).unwrap();
    flip_file(&header, random);
    if header.ends_with("format") {
        let mut all = options(&[(path, CAPACITY)]);
        all.record_cache_bytes_max = ByteSize(0);
        let refused =
            PageStore::open(all, Arc::clone(index) as Arc<dyn Index>, Arc::new(Metrics::new()));
        assert!(refused.expect_err("another format").message().contains("format"));
        fs::write(&header, before).unwrap();
    }
    let store = open(path, index);
    for name in 0..NAMES {
        read_and_verify(&store, name);
    }
    eventually("pages are kept again", || {
        (0..NAMES).for_each(|name| fill(&store, name));
        (0..NAMES).all(|name| store.presence(content(name), length(name)).pages > 0)
    });
    store
}
