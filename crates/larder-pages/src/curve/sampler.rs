// SPDX-License-Identifier: Apache-2.0
//! The front of the curve for many threads: the comparison without a lock, and exact totals.

use std::{
    f64::consts::LN_2,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_core::{
    ByteRange, ContentId, PageIndex, SEGMENT_PAGES, SegmentIndex,
    page::{self, pages_of},
};

use super::{
    HALVES,
    sample::{Sample, spread},
    strata::Strata,
};
use crate::{
    IndexKey,
    catalogue::{self, SEGMENT_OVERHEAD},
    slab,
};

/// Segments in a miniature at most: some hundred bytes of memory each, in four miniatures.
const SEGMENTS_MAX: usize = 8192;

/// One read of one segment, or of a file that is kept in a slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The segment's name, a hash.
    pub(super) name: u64,
    /// The pages read, by their number in the segment.
    pub(super) pages: Range<u32>,
    /// Up to which page a fetch would run on; at least the end of `pages`.
    pub(super) ahead: u32,
    /// Bytes of a page.
    pub(super) page_bytes: u64,
    /// What is taken on disk beside the bytes of the pages.
    pub(super) overhead: u64,
}

impl Access {
    /// The read of `range` of a content, which is not empty and lies within one segment; a fetch
    /// for it would bring `ahead` more bytes.
    #[must_use]
    pub fn new(content: ContentId, length: u64, range: ByteRange, ahead: u64) -> Self {
        let pages = pages_of(range);
        let segment = SegmentIndex(pages.start / SEGMENT_PAGES);
        let first = segment.first_page().0;
        let count = pages.end - pages.start;
        let bytes = page::align(range, length).length();
        let end = range.end.saturating_add(ahead).min(length).max(range.end);
        Self {
            name: catalogue::hash(IndexKey { content, segment }),
            pages: pages.start - first..pages.end - first,
            ahead: (PageIndex::at(end - 1).0 + 1 - first).min(SEGMENT_PAGES),
            page_bytes: bytes / u64::from(count.max(1)),
            overhead: slab::slot_bytes(length).map_or(SEGMENT_OVERHEAD, |slot| slot - length),
        }
    }

    /// The read of one page of `page_bytes` in the segment `name`, which is a hash.
    #[must_use]
    pub fn of_page(name: u64, page: u32, page_bytes: u64) -> Self {
        let ahead = page + 1;
        Self { name, pages: page..ahead, ahead, page_bytes, overhead: SEGMENT_OVERHEAD }
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.pages.end - self.pages.start) * self.page_bytes
    }
}

/// All that was read of one account, sampled or not.
#[derive(Debug, Default)]
struct Total {
    reads: AtomicU64,
    bytes: AtomicU64,
}

/// Samples the reads of a page store.
#[derive(Debug)]
pub struct Sampler {
    segments_max: usize,
    threshold: AtomicU64,
    totals: Box<[Total]>,
    sample: Mutex<Sample>,
}

/// What was read and what caches of other capacities would have missed of it.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The present capacity in bytes.
    pub capacity: u64,
    /// The share of segments in the sample.
    pub rate: f64,
    /// Sampled reads.
    pub sampled_reads: u64,
    /// Segments of the sample in the largest simulated cache.
    pub sampled_segments: usize,
    /// Whether the cache of each of [`SCALES`](super::SCALES) was full at some time: where it was
    /// not, it missed only what was read for the first time.
    pub full: [bool; HALVES.len()],
    /// By account.
    pub accounts: Vec<AccountCurve>,
}

/// One account of a [`Curve`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccountCurve {
    /// Reads of segments, exact.
    pub reads: u64,
    /// Bytes of the pages read, exact.
    pub bytes: u64,
    /// Reads with something missing at each of [`SCALES`](super::SCALES), estimated.
    pub missed_reads: [f64; HALVES.len()],
    /// The standard errors of those.
    pub missed_reads_error: [f64; HALVES.len()],
    /// Bytes to fetch at each of [`SCALES`](super::SCALES), estimated.
    pub missed_bytes: [f64; HALVES.len()],
}

impl Sampler {
    /// A sampler for a page store of `capacity` bytes whose reads belong to so many accounts.
    #[must_use]
    pub fn new(capacity: u64, accounts: usize) -> Self {
        Self::with_segments_max(capacity, accounts, SEGMENTS_MAX)
    }

    /// The same with another bound on the sample: more segments are more accurate and more memory.
    #[must_use]
    pub fn with_segments_max(capacity: u64, accounts: usize, segments_max: usize) -> Self {
        let sample = Sample::new(capacity, accounts, segments_max);
        Self {
            segments_max,
            threshold: AtomicU64::new(sample.threshold()),
            totals: (0..accounts).map(|_| Total::default()).collect(),
            sample: Mutex::new(sample),
        }
    }

    /// The page store has this capacity from now on: where it had another, all begins anew and
    /// the answer is true.
    pub fn set_capacity(&self, capacity: u64) -> bool {
        let mut sample = self.sample();
        if sample.capacity() == capacity {
            return false;
        }
        *sample = Sample::new(capacity, self.totals.len(), self.segments_max);
        self.threshold.store(sample.threshold(), Ordering::Relaxed);
        for total in &self.totals {
            total.reads.store(0, Ordering::Relaxed);
            total.bytes.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Notes a read of `account`, one of those the sampler was made for.
    pub fn read(&self, account: usize, access: &Access) {
        let Some(total) = self.totals.get(account) else { return };
        total.reads.fetch_add(1, Ordering::Relaxed);
        total.bytes.fetch_add(access.bytes(), Ordering::Relaxed);
        let place = spread(access.name);
        if place > self.threshold.load(Ordering::Relaxed) {
            return;
        }
        let mut sample = self.sample();
        // Another thread may have halved the sample since.
        if place <= sample.threshold() && sample.read(account, access) {
            self.threshold.store(sample.threshold(), Ordering::Relaxed);
        }
    }

    /// The curve of everything read so far.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let sample = self.sample();
        let accounts = self.totals.iter().zip(&sample.strata);
        let rate = sample.rate();
        let sizes = sample.sizes_error();
        Curve {
            capacity: sample.capacity(),
            rate,
            sampled_reads: sample.reads,
            sampled_segments: sample.segments(),
            full: sample.full(),
            accounts: accounts.map(|(total, strata)| total.curve(strata, rate, sizes)).collect(),
        }
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Total {
    /// `sizes_error`: the relative error of the size of each miniature, set against what it serves.
    fn curve(&self, strata: &Strata, rate: f64, sizes_error: [f64; HALVES.len()]) -> AccountCurve {
        let (reads, bytes) =
            (self.reads.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let by_reads = |at: usize| {
            strata.estimate(reads as f64, rate, |stratum| (stratum.reads, stratum.missed_reads[at]))
        };
        let by_bytes = |at: usize| {
            strata.estimate(bytes as f64, rate, |stratum| (stratum.bytes, stratum.missed_bytes[at]))
        };
        let missed_reads = std::array::from_fn(|at| by_reads(at).value.min(reads as f64));
        AccountCurve {
            reads,
            bytes,
            missed_reads,
            missed_reads_error: std::array::from_fn(|at| {
                by_reads(at).error.hypot(slope(&missed_reads, at) * sizes_error[at])
            }),
            missed_bytes: std::array::from_fn(|at| by_bytes(at).value),
        }
    }
}

/// How fast misses fall there when the cache grows by a factor of e: the steeper side.
fn slope(missed: &[f64; HALVES.len()], at: usize) -> f64 {
    let falls = missed.windows(2).map(|pair| (pair[0] - pair[1]).abs() / LN_2);
    let beside = at.saturating_sub(1)..=at;
    falls
        .enumerate()
        .filter(|(side, _)| beside.contains(side))
        .map(|(_, fall)| fall)
        .fold(0.0, f64::max)
}
