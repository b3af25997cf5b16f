// SPDX-License-Identifier: Apache-2.0
//! The sampled curve against simulations of everything, and the bounds of the sample.

use larder_core::{ByteRange, ContentId, PAGE_SIZE, Random, SEGMENT_SIZE};

use super::{Access, AccountCurve, SCALES, Sampler};
use crate::Simulation;

const MIB: u64 = 1 << 20;

fn hash(name: u64) -> u64 {
    Random::seeded(name).next()
}

/// Reads of whole objects: name and bytes.
type Trace = Vec<(u64, u64)>;

/// Names below `names`, small ones far more often.
fn skewed(names: u64, reads: usize, seed: u64) -> impl Iterator<Item = u64> {
    let random = Random::seeded(seed);
    (0..reads).map(move |_| {
        let draw = |bound| random.below(bound);
        draw(draw(draw(names) + 1) + 1)
    })
}

fn zipf_like() -> Trace {
    skewed(16_000, 100_000, 1).map(|name| (name, 4 * MIB)).collect()
}

fn small_files() -> Trace {
    let size = |name| PAGE_SIZE * (1 + hash(name) % 16);
    skewed(24_000, 100_000, 2).map(|name| (name, size(name))).collect()
}

fn scans() -> Trace {
    let mut hot = skewed(4_000, 80_000, 3);
    let mut trace = Vec::new();
    for round in 0..20 {
        trace.extend(hot.by_ref().take(4_000).map(|name| (name, 4 * MIB)));
        trace.extend((0..2_000).map(|name| (100_000 + round * 2_000 + name, 4 * MIB)));
    }
    trace
}

fn loops() -> Trace {
    (0..10).flat_map(|_| (0..12_000).map(|name| (name, 4 * MIB))).collect()
}

fn epochs() -> Trace {
    let random = Random::seeded(4);
    let mut order: Vec<u64> = (0..12_000).collect();
    let mut trace = Vec::new();
    for _ in 0..10 {
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        trace.extend(order.iter().map(|name| (*name, 4 * MIB)));
    }
    trace
}

/// Miss ratios by requests and by bytes at each scale.
type Ratios = [(f64, f64); SCALES.len()];

fn sampled(trace: &Trace, sampler: &Sampler) -> Ratios {
    for (name, size) in trace {
        let access = Access::of_page(hash(*name), 0, *size);
        sampler.read(0, &access);
    }
    let AccountCurve { reads, bytes, missed_reads, missed_bytes, .. } = sampler.curve().accounts[0];
    assert_eq!(reads, trace.len() as u64, "totals are exact");
    assert_eq!(bytes, trace.iter().map(|(_, size)| size).sum::<u64>());
    std::array::from_fn(|at| (missed_reads[at] / reads as f64, missed_bytes[at] / bytes as f64))
}

fn simulated(trace: &Trace, capacity: u64) -> Ratios {
    let bytes: u64 = trace.iter().map(|(_, size)| size).sum();
    SCALES.map(|scale| {
        let mut simulation = Simulation::new((capacity as f64 * scale) as u64);
        let missed =
            trace.iter().filter(|(name, size)| simulation.read(hash(*name), 0..1, *size) > 0);
        let missed: Vec<u64> = missed.map(|(_, size)| *size).collect();
        let missed_bytes = missed.iter().sum::<u64>();
        (missed.len() as f64 / trace.len() as f64, missed_bytes as f64 / bytes as f64)
    })
}

/// Fails where the two are more than three percentage points apart.
fn compare(name: &str, trace: &Trace, capacity: u64) -> f64 {
    let sampler = Sampler::with_segments_max(capacity, 1, 4_096);
    let (sampled, simulated) = (sampled(trace, &sampler), simulated(trace, capacity));
    let near = |one: f64, other: f64| (one - other).abs() <= 0.03;
    for (at, scale) in SCALES.into_iter().enumerate() {
        let (sampled, simulated) = (sampled[at], simulated[at]);
        assert!(
            near(sampled.0, simulated.0) && near(sampled.1, simulated.1),
            "{name} at {scale}: sampled {sampled:?}, simulated {simulated:?}"
        );
    }
    let curve = sampler.curve();
    assert!(curve.sampled_segments <= 4_096, "{name}: {} segments", curve.sampled_segments);
    curve.rate
}

/// A sampled curve is within three points of simulating everything.
fn is_near(name: &str, trace: &Trace, capacity: u64) {
    let rate = compare(name, trace, capacity);
    assert!(rate < 1.0, "{name}: the sample was everything, which proves nothing");
}

#[test]
fn a_sample_of_skewed_reads_is_near_all_of_them() {
    is_near("zipf", &zipf_like(), 1_600 * 4 * MIB);
}

#[test]
fn a_sample_of_small_files_is_near_all_of_them() {
    is_near("small files", &small_files(), 1_200 * MIB);
}

#[test]
fn a_sample_of_scans_is_near_all_of_them() {
    is_near("scans", &scans(), 1_200 * 4 * MIB);
}

#[test]
fn a_sample_of_a_loop_is_near_all_of_it() {
    is_near("loop", &loops(), 1_600 * 4 * MIB);
}

#[test]
fn a_sample_of_epochs_is_near_all_of_them() {
    is_near("epochs", &epochs(), 1_600 * 4 * MIB);
}

#[test]
fn a_sample_of_everything_is_the_simulation() {
    let trace: Trace = skewed(1_000, 20_000, 5).map(|name| (name, 4 * MIB)).collect();
    let capacity = 100 * 4 * MIB;
    let sampler = Sampler::new(capacity, 1);
    assert_eq!(sampled(&trace, &sampler), simulated(&trace, capacity));
    assert_eq!(sampler.curve().full, [true; SCALES.len()]);
}

#[test]
fn any_number_of_tiny_segments_stays_within_the_bound() {
    let sampler = Sampler::with_segments_max(1 << 40, 1, 512);
    for name in 0..40_000 {
        let access = Access::of_page(hash(name), 0, 4096);
        sampler.read(0, &access);
        if name % 100 == 0 {
            assert!(sampler.curve().sampled_segments <= 512);
        }
    }
    let curve = sampler.curve();
    assert_eq!(curve.full, [false; SCALES.len()]);
    assert!(curve.rate <= 512.0 / 40_000.0 * 2.0, "{}", curve.rate);
    let missed = curve.accounts[0].missed_reads[3];
    assert!((missed / 40_000.0 - 1.0).abs() < 0.15, "each was read once: {missed}");
}

#[test]
fn accounts_are_kept_apart_and_another_capacity_begins_anew() {
    let sampler = Sampler::new(100 * MIB, 2);
    let read = |account, name| {
        let access = Access { pages: 0..4, ahead: 4, ..Access::of_page(hash(name), 0, PAGE_SIZE) };
        sampler.read(account, &access);
    };
    read(0, 1);
    read(0, 1);
    read(1, 2);
    read(7, 3);
    let accounts = sampler.curve().accounts;
    assert_eq!((accounts[0].reads, accounts[1].reads), (2, 1));
    assert_eq!(accounts[0].missed_reads, [1.0; SCALES.len()]);
    assert_eq!(accounts[1].missed_bytes, [4.0 * PAGE_SIZE as f64; SCALES.len()]);
    assert!(!sampler.set_capacity(100 * MIB), "the same as before");
    assert_eq!(sampler.curve().accounts[0].reads, 2);
    assert!(sampler.set_capacity(200 * MIB));
    let curve = sampler.curve();
    assert_eq!((curve.capacity, curve.sampled_reads, curve.accounts[0].reads), (200 * MIB, 0, 0));
}

#[test]
fn a_sequential_reader_misses_once_a_window() {
    let sampler = Sampler::new(1 << 30, 1);
    let (content, length) = (ContentId(5), SEGMENT_SIZE);
    for start in (0..length).step_by(128 << 10) {
        let range = ByteRange::new(start, start + (128 << 10));
        sampler.read(0, &Access::new(content, length, range, 4 * MIB - (128 << 10)));
    }
    let account = sampler.curve().accounts[0];
    assert_eq!((account.reads, account.missed_reads[1]), (128, 4.0));
    assert_eq!(account.missed_bytes[1], length as f64);
}

#[test]
fn an_access_counts_pages_and_ends_with_the_segment_and_the_file() {
    let content = ContentId(9);
    let length = SEGMENT_SIZE + PAGE_SIZE + 10;
    let all = |start, end, ahead| {
        let access = Access::new(content, length, ByteRange::new(start, end), ahead);
        (access.pages, access.ahead, access.page_bytes)
    };
    assert_eq!(all(0, 1, 0), (0..1, 1, PAGE_SIZE));
    assert_eq!(all(PAGE_SIZE - 1, PAGE_SIZE + 1, 0), (0..2, 2, PAGE_SIZE));
    assert_eq!(all(0, SEGMENT_SIZE, u64::MAX), (0..256, 256, PAGE_SIZE), "ends with the segment");
    assert_eq!(all(SEGMENT_SIZE, SEGMENT_SIZE + 5, u64::MAX), (0..1, 2, PAGE_SIZE));
    assert_eq!(all(length - 1, length, 0), (1..2, 2, 10), "the last page has ten bytes");
    let names = [0, SEGMENT_SIZE]
        .map(|start| Access::new(content, length, ByteRange::new(start, start + 1), 0).name);
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_small_file_takes_its_slot_and_nothing_else() {
    // 100 bytes lie in a slot of 512: 2 MiB hold all 4,000, where blocks would need 16 times that.
    let sampler = Sampler::new(4_000 * 512, 1);
    for _round in 0..3 {
        for name in 0..4_000 {
            let content = ContentId(u128::from(hash(name)));
            sampler.read(0, &Access::new(content, 100, ByteRange::new(0, 100), 0));
        }
    }
    let curve = sampler.curve();
    assert_eq!(curve.full, [true, false, false, false]);
    assert_eq!(curve.accounts[0].missed_reads[1], 4_000.0);
    assert_eq!(curve.accounts[0].missed_bytes[1], 400_000.0);
}
