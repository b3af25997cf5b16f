// SPDX-License-Identifier: Apache-2.0
//! Generated traces: the patterns that break one policy or another, each repeatable by its seed.

use std::ops::Range;

use larder_core::Random;

use super::trace::{Kind, PAGES_OF_A_SEGMENT, Request, Trace};

const MIB: u64 = 1 << 20;
const SEGMENT: u64 = 16 * MIB;
const PAGE: u64 = 64 << 10;

/// All generated traces.
#[must_use]
pub fn all() -> Vec<Trace> {
    let mut traces: Vec<Trace> = [0.6, 0.8, 1.0, 1.2].map(zipf).into();
    traces.extend([
        zipf_of_many_sizes(),
        scans_between_zipf(),
        loop_of_segments(),
        shuffled_epochs(),
        drifting_zipf(),
        loop_then_zipf(),
        scans_of_pages(),
        training_on_pages(),
    ]);
    traces
}

/// Traces of many more segments than a sample holds: 3 TiB.
#[must_use]
pub fn large() -> Vec<Trace> {
    [0.7, 1.0]
        .map(|alpha| {
            let (zipf, random) = (Zipf::new(200_000, alpha), Random::seeded(9));
            let requests = (0..1_500_000).map(|_| segment(zipf.draw(&random)));
            Trace::objects(format!("zipf {alpha} of 200,000"), requests.collect())
        })
        .into()
}

/// Draws ranks so that the chance of rank r is proportional to 1 / (r+1)^alpha.
struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    fn new(ranks: usize, alpha: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-alpha);
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    fn draw(&self, random: &Random) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let at = unit(random) * total;
        self.cumulative.partition_point(|sum| *sum <= at) as u64
    }
}

/// A number from 0 up to 1.
fn unit(random: &Random) -> f64 {
    (random.next() >> 11) as f64 / (1_u64 << 53) as f64
}

fn segment(name: u64) -> Request {
    Request { name, size: SEGMENT }
}

fn zipf(alpha: f64) -> Trace {
    let (zipf, random) = (Zipf::new(10_000, alpha), Random::seeded(1));
    let requests = (0..200_000).map(|_| segment(zipf.draw(&random)));
    Trace::objects(format!("zipf {alpha}"), requests.collect())
}

/// Small files and segments, sizes over four decades and without regard to popularity.
fn zipf_of_many_sizes() -> Trace {
    let (zipf, random) = (Zipf::new(20_000, 0.9), Random::seeded(2));
    let size = |name: u64| {
        let exponent = unit(&Random::seeded(name)) * 8.0;
        (65_536.0 * exponent.exp2()) as u64
    };
    let requests = (0..300_000).map(|_| {
        let name = zipf.draw(&random);
        Request { name, size: size(name) }
    });
    Trace::objects("zipf 0.9, sizes 64 KiB to 16 MiB", requests.collect())
}

fn scans_between_zipf() -> Trace {
    let (zipf, random) = (Zipf::new(8_000, 0.9), Random::seeded(3));
    let mut requests = Vec::new();
    let mut scanned = 1_000_000;
    for _ in 0..40 {
        requests.extend((0..5_000).map(|_| segment(zipf.draw(&random))));
        requests.extend((scanned..scanned + 1_000).map(segment));
        scanned += 1_000;
    }
    Trace::objects("zipf 0.9 and scans", requests)
}

fn loop_of_segments() -> Trace {
    let requests = (0..40).flat_map(|_| (0..4_000).map(segment));
    Trace::objects("loop", requests.collect())
}

/// Every sample once in an epoch, each time in another order.
fn shuffled_epochs() -> Trace {
    let random = Random::seeded(4);
    let mut order: Vec<u64> = (0..5_000).collect();
    let mut requests = Vec::new();
    for _ in 0..30 {
        shuffle(&mut order, &random);
        requests.extend(order.iter().copied().map(segment));
    }
    Trace::objects("shuffled epochs", requests)
}

pub(super) fn shuffle<T>(order: &mut [T], random: &Random) {
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
}

/// What is popular changes all the time: today's partition is read most.
fn drifting_zipf() -> Trace {
    let (zipf, random) = (Zipf::new(4_000, 0.9), Random::seeded(5));
    let requests = (0..200_000_u64).map(|at| segment(at / 20 + zipf.draw(&random)));
    Trace::objects("drifting zipf", requests.collect())
}

/// Two jobs one after the other and again: nothing learnt of one serves the other.
fn loop_then_zipf() -> Trace {
    let (zipf, random) = (Zipf::new(6_000, 1.0), Random::seeded(6));
    let mut requests = Vec::new();
    for _ in 0..2 {
        requests.extend((0..12).flat_map(|_| (100_000..104_000).map(segment)));
        requests.extend((0..60_000).map(|_| segment(zipf.draw(&random))));
    }
    Trace::objects("loop, then zipf, twice", requests)
}

fn pages(segment: u64, pages: Range<u64>) -> impl Iterator<Item = Request> {
    pages.map(move |page| Request { name: segment * PAGES_OF_A_SEGMENT + page, size: PAGE })
}

/// Point reads of a few pages in popular segments, and sequential reads of whole cold files.
fn scans_of_pages() -> Trace {
    let (zipf, random) = (Zipf::new(1_000, 0.9), Random::seeded(7));
    let mut requests = Vec::new();
    for scanned in 0..600 {
        for _ in 0..400 {
            let start = random.below(PAGES_OF_A_SEGMENT / 4) * 4;
            requests.extend(pages(zipf.draw(&random), start..start + 4));
        }
        requests.extend(pages(1_000_000 + scanned, 0..PAGES_OF_A_SEGMENT));
    }
    Trace { name: "page reads and scans".into(), requests, kind: Kind::Pages }
}

/// Shards of 16 segments, each read from front to back, in another order in each epoch.
fn training_on_pages() -> Trace {
    let random = Random::seeded(8);
    let mut shards: Vec<u64> = (0..50).collect();
    let mut requests = Vec::new();
    for _ in 0..8 {
        shuffle(&mut shards, &random);
        for shard in &shards {
            let segments = shard * 16..shard * 16 + 16;
            requests.extend(segments.flat_map(|segment| pages(segment, 0..PAGES_OF_A_SEGMENT)));
        }
    }
    Trace { name: "shards in shuffled epochs".into(), requests, kind: Kind::Pages }
}
