// SPDX-License-Identifier: Apache-2.0
//! A power cut: what was written since the last sync is on the disk, is not, or is torn, block by
//! block and file by file, whatever the index has kept. Never a wrong byte, and nothing leaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use larder_core::Random;
use larder_pages::{Index, PageStore};
use rustix::fs::{SeekFrom, seek};
use tempfile::tempdir;

use crate::bench::{
    LossyIndex, allocated, content, eventually, files, new_page, open, put_all, read_all, slabs,
};

const CAPACITY: u64 = 4 << 20;
const NAMES: u64 = 60;
const BLOCK: usize = 4096;
const SECTOR: u64 = 512;

/// Small files (three of four, of a few classes), one segment, two segments.
fn length(name: u64) -> u64 {
    match name % 8 {
        0 => 10 << 16,
        4 => (17 << 20) + 1,
        _ => [400, 1300, 4096, 6000, 1 << 16][name as usize % 5],
    }
}

/// A file as it lies on the disk: how long, and the blocks that are not zero.
#[derive(Debug, Default, Clone)]
struct OnDisk {
    length: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

type Disk = BTreeMap<PathBuf, OnDisk>;

fn snapshot(directory: &Path) -> Disk {
    let mut disk = Disk::new();
    for (path, _) in all_files(directory) {
        // It may be unlinked at this moment.
        let Ok(file) = fs::File::open(&path) else { continue };
        let length = file.metadata().unwrap().len();
        let mut blocks = BTreeMap::new();
        for at in data(&file) {
            let mut block = vec![0; BLOCK.min((length - at * BLOCK as u64) as usize)];
            file.read_exact_at(&mut block, at * BLOCK as u64).unwrap();
            if block.iter().any(|byte| *byte != 0) {
                blocks.insert(at, block);
            }
        }
        disk.insert(path, OnDisk { length, blocks });
    }
    disk
}

fn all_files(directory: &Path) -> Vec<(PathBuf, u64)> {
    files(directory).into_iter().chain(slabs(directory)).collect()
}

/// The numbers of the blocks that are no hole.
fn data(file: &fs::File) -> Vec<u64> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start)).unwrap();
        blocks.extend(start / BLOCK as u64..at.div_ceil(BLOCK as u64));
    }
    blocks
}

/// What is left of a block that was `old` at the last sync and was to become `new`.
fn survivor(old: Option<&Vec<u8>>, new: Option<&Vec<u8>>, random: &Random) -> Option<Vec<u8>> {
    if old == new {
        return old.cloned();
    }
    match random.below(3) {
        0 => old.cloned(),
        1 => new.cloned(),
        _ => {
            let new = new?;
            let mut torn = old.cloned().unwrap_or_default();
            torn.resize(torn.len().max(new.len()), 0);
            let written = (random.below(8) * SECTOR).min(new.len() as u64) as usize;
            torn[..written].copy_from_slice(&new[..written]);
            Some(torn)
        }
    }
}

/// Leaves on the disk a mixture of what was synced and what came after.
fn cut_power(directory: &Path, synced: &Disk, random: &Random) {
    let now = snapshot(directory);
    for (path, _) in all_files(directory) {
        fs::remove_file(path).unwrap();
    }
    let paths: BTreeSet<&PathBuf> = synced.keys().chain(now.keys()).collect();
    for path in paths {
        let (old, new) = (synced.get(path), now.get(path));
        if (old.is_none() || new.is_none()) && random.below(2) == 0 {
            // It was made, or unlinked, and that did not reach the disk, or it did.
            continue;
        }
        let nothing = OnDisk::default();
        let (old, new) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(path).unwrap();
        let length = if random.below(4) == 0 { old.length } else { new.length.max(old.length) };
        file.set_len(length).unwrap();
        let all: BTreeSet<&u64> = old.blocks.keys().chain(new.blocks.keys()).collect();
        for at in all {
            let block = survivor(old.blocks.get(at), new.blocks.get(at), random);
            let start = at * BLOCK as u64;
            if let Some(block) = block.filter(|_| start < length) {
                let end = length.min(start + block.len() as u64);
                file.write_all_at(&block[..(end - start) as usize], start).unwrap();
            }
        }
    }
}

/// Some fills and removals; the index may be flushed at any moment between.
fn work(store: &PageStore, index: &LossyIndex, random: &Random) {
    for _ in 0..random.below(25) {
        let name = random.below(NAMES);
        let pages = length(name).div_ceil(1 << 16) as u32;
        let first = random.below(u64::from(pages)) as u32;
        let window = first..pages.min(first + 6);
        let mut new: Vec<_> = window.map(|page| new_page(name, page, length(name))).collect();
        if pages == 1 {
            let others = (name..NAMES).filter(|name| length(*name) <= 1 << 16).take(9);
            new.extend(others.map(|name| new_page(name, 0, length(name))));
        }
        put_all(store, new);
        match random.below(12) {
            0 => drop(store.remove(content(random.below(NAMES))).unwrap()),
            1 | 2 => index.flush().unwrap(),
            _ => {}
        }
    }
}

#[test]
fn a_power_cut_costs_pages_and_nothing_else() {
    cut_again_and_again(12);
}

#[test]
#[ignore = "some minutes; run by `just soak`"]
fn soak_power_cuts() {
    cut_again_and_again(500);
}

fn cut_again_and_again(cuts: u32) {
    let directory = tempdir().unwrap();
    let index = Arc::new(LossyIndex::default());
    let random = Random::new();
    let (mut survived, mut torn) = ([0; 2], [0; 2]);
    for cut in 0..cuts {
        let store = open(directory.path(), CAPACITY, index.clone());
        work(&store, &index, &random);
        let synced = snapshot(directory.path());
        work(&store, &index, &random);
        drop(store);
        index.crash();
        cut_power(directory.path(), &synced, &random);

        let store = open(directory.path(), CAPACITY, index.clone());
        for name in 0..NAMES {
            let reading = read_all(&store, name, length(name));
            let kind = usize::from(length(name) <= 1 << 16);
            survived[kind] += reading.good.len();
            torn[kind] += reading.bad.len();
            store.verify(content(name), length(name), &reading.bad).unwrap();
            assert!(read_all(&store, name, length(name)).bad.is_empty(), "dropped, cut {cut}");
        }
        eventually("all that lies on disk is accounted for", || {
            allocated(directory.path()) <= store.usage()[0].resident.0
        });
        assert!(store.usage()[0].resident.0 <= CAPACITY, "cut {cut}");
    }
    assert!(survived.iter().all(|pages| *pages > 0), "a cut does not cost everything");
    assert!(torn.iter().all(|pages| *pages > 0), "pages and small files were torn");
}
