// SPDX-License-Identifier: Apache-2.0
//! Random work on a small store against what must be true of it after every step.

use std::sync::Arc;

use larder_core::{ByteRange, PAGE_SIZE, PageIndex};
use larder_pages::{PageStore, Piece, PutOutcome};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
};
use tempfile::tempdir;

use crate::bench::{
    LossyIndex, allocated, check, content, eventually, new_page, open, put_all, read_all,
};

const CAPACITY: u64 = 2 << 20;
const NAMES: u64 = 24;

/// Each content has its own length, from less than a page to more than two segments. Three of
/// four are small files, which share slabs.
fn length(name: u64) -> u64 {
    let few = [5 * PAGE_SIZE + 4097, 17 << 20, (33 << 20) + 1, 40 * PAGE_SIZE];
    let small = [1, 500, 512, 513, 1500, 4096, 5000, 20_000, PAGE_SIZE - 1, PAGE_SIZE];
    match name % 4 {
        0 => few[name as usize / 4 % few.len()],
        _ => small[name as usize % small.len()],
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        name: u64,
        at: u64,
        pages: u32,
    },
    Get {
        name: u64,
        start: u64,
        length: u64,
    },
    Hold {
        name: u64,
    },
    Release,
    Remove {
        name: u64,
    },
    Verify {
        name: u64,
    },
    Close,
    /// The process dies; the index loses what it gathered since its last flush.
    Crash,
}

fn steps() -> impl Strategy<Value = Step> {
    let name = 0..NAMES;
    prop_oneof![
        12 => (name.clone(), any::<u64>(), 1..12_u32)
            .prop_map(|(name, at, pages)| Step::Put { name, at, pages }),
        6 => (name.clone(), any::<u64>(), 0..(3_u64 << 20))
            .prop_map(|(name, start, length)| Step::Get { name, start, length }),
        2 => name.clone().prop_map(|name| Step::Hold { name }),
        2 => Just(Step::Release),
        1 => name.clone().prop_map(|name| Step::Remove { name }),
        1 => name.prop_map(|name| Step::Verify { name }),
        1 => Just(Step::Close),
        1 => Just(Step::Crash),
    ]
}

/// Extents that are held with what they are of.
type Held = Vec<(u64, ByteRange, Vec<Piece>)>;

fn run(steps: Vec<Step>) {
    let directory = tempdir().unwrap();
    let index = Arc::new(LossyIndex::default());
    let reopen = || open(directory.path(), CAPACITY, index.clone());
    let mut store = reopen();
    let mut held: Held = Vec::new();
    // Pages may be bad only after a crash took the word that they are gone.
    let mut crashed = false;
    for step in steps {
        // At every moment, also right after a start.
        assert!(allocated(directory.path()) <= CAPACITY);
        match step {
            Step::Put { name, at, pages } => {
                let count = length(name).div_ceil(PAGE_SIZE) as u32;
                let first = (at % u64::from(count)) as u32;
                let pages = first..count.min(first + pages);
                let new = pages.clone().map(|page| new_page(name, page, length(name)));
                let outcomes = put_all(&store, new.collect());
                if held.is_empty() && !crashed {
                    assert!(outcomes.iter().all(|outcome| *outcome == PutOutcome::Kept));
                }
            }
            Step::Get { name, start, length: wanted } => {
                let start = start % length(name);
                let range = ByteRange { start, end: start + wanted };
                let pieces = store.get(content(name), length(name), range);
                let reading = check(name, length(name), range, &pieces);
                assert!(crashed || reading.bad.is_empty(), "bad without a crash");
                store.verify(content(name), length(name), &reading.bad).unwrap();
            }
            Step::Hold { name } => {
                let range = ByteRange { start: 0, end: length(name) };
                held.push((name, range, store.get(content(name), length(name), range)));
            }
            Step::Release => {
                for (name, range, pieces) in held.drain(..) {
                    let reading = check(name, length(name), range, &pieces);
                    assert!(crashed || reading.bad.is_empty(), "a held page went bad");
                }
            }
            Step::Remove { name } => {
                store.remove(content(name)).unwrap();
                assert!(read_all(&store, name, length(name)).good.is_empty());
            }
            Step::Verify { name } => assert!(verify_all(&store, name) == 0 || crashed),
            Step::Close => {
                held.clear();
                let before: Vec<Vec<u32>> =
                    (0..NAMES).map(|name| read_all(&store, name, length(name)).good).collect();
                store.close().unwrap();
                drop(store);
                store = reopen();
                for (name, good) in (0..NAMES).zip(before) {
                    let now = read_all(&store, name, length(name)).good;
                    assert!(crashed || now == good, "a restart keeps everything");
                }
            }
            Step::Crash => {
                held.clear();
                drop(store);
                index.crash();
                crashed = true;
                store = reopen();
            }
        }
    }
    drop(held);
    assert!(allocated(directory.path()) <= CAPACITY);
    nothing_leaks(directory.path(), &store);
}

/// Verifies every page; afterwards none is bad.
fn verify_all(store: &PageStore, name: u64) -> u32 {
    let all = (0..length(name).div_ceil(PAGE_SIZE) as u32).map(PageIndex);
    let all: Vec<PageIndex> = all.collect();
    let dropped = store.verify(content(name), length(name), &all).unwrap();
    assert!(read_all(store, name, length(name)).bad.is_empty());
    dropped
}

/// What lies on disk is accounted for, and goes when it is told to.
fn nothing_leaks(directory: &std::path::Path, store: &PageStore) {
    eventually("all that lies on disk is accounted for", || {
        allocated(directory) <= store.usage()[0].resident.0
    });
    // After a crash records still claim what was evicted since they were last written, until all
    // are read (ADR 32).
    eventually("no more is claimed than may lie there", || store.usage()[0].resident.0 <= CAPACITY);
    let gone: u64 = (0..NAMES).map(|name| store.remove(content(name)).unwrap()).sum();
    assert!(gone <= CAPACITY);
    eventually("nothing leaks", || allocated(directory) == 0 && store.usage()[0].resident.0 == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None,
        ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_bytes_are_right_and_capacity_holds(steps in vec(steps(), 1..60)) {
        run(steps);
    }
}
