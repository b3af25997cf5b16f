// SPDX-License-Identifier: Apache-2.0
//! Advice: what half, twice and four times the cache would have saved, from a sample of the reads.
//!
//! The walk of a read notes each segment that it comes to, whether it is resident or not. Reads
//! that the kernel answers by itself are not seen: an open that it reads so counts as one read of
//! the whole file (ADR 31). Loads are not reads, nor is what a rule keeps out of the cache. What
//! was resident before the start the simulated caches do not know: each of them misses what it sees
//! for the first time, so that cancels out in the differences. Nor do they know pins, priorities,
//! quotas and time limits.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_cluster::wire::advice::{Advice, MountSaved, Saved, SizeAdvice, Verdict};
use larder_core::Clock;
use larder_pages::{Access, AccountCurve, Curve, SCALES, Sampler};

use crate::{Worker, disks, mount::Mount};

/// With fewer sampled reads nothing is said.
const READS_MIN: u64 = 1_000;
/// With fewer sampled segments nothing is said, unless the sample is everything.
const SEGMENTS_MIN: usize = 256;
/// The standard error of a miss ratio that is still worth saying.
const ERROR_MAX: f64 = 0.03;
/// Where the present capacity is in [`SCALES`].
const PRESENT: usize = 1;

/// The sampler and since when it looks.
#[derive(Debug)]
pub(crate) struct Advisor {
    sampler: Sampler,
    clock: Clock,
    since: Mutex<Duration>,
}

impl Advisor {
    /// For a cache of `capacity` bytes and so many mounts.
    pub(crate) fn new(capacity: u64, mounts: usize, clock: Clock) -> Self {
        let since = Mutex::new(clock.elapsed());
        Self { sampler: Sampler::new(capacity, mounts), clock, since }
    }

    /// Somebody reads from a mount.
    pub(crate) fn read(&self, mount: &Mount, access: &Access) {
        self.sampler.read(mount.account, access);
    }

    /// The capacity is this one now: where it is another than before, all begins anew.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sampler.set_capacity(capacity) {
            *since = self.clock.elapsed();
        }
    }

    fn observed(&self) -> (Curve, u64) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = self.clock.elapsed().saturating_sub(*since);
        (self.sampler.curve(), observed.as_secs())
    }
}

impl Worker {
    /// Compares with the capacity that there is now.
    pub(crate) fn follow_capacity(&self) {
        self.advisor.set_capacity(disks::capacity(&self.pages));
    }

    pub(crate) fn advice(&self) -> Advice {
        let (curve, observed_s) = self.advisor.observed();
        let mounts: Vec<&Mount> = self.mounts.all().map(AsRef::as_ref).collect();
        let sum = |of: fn(&AccountCurve) -> u64| curve.accounts.iter().map(of).sum();
        let sizes = (0..SCALES.len()).map(|at| size(&curve, &mounts, at));
        Advice {
            observed_s,
            reads: sum(|account| account.reads),
            read_bytes: sum(|account| account.bytes),
            sample_rate: curve.rate,
            sampled_reads: curve.sampled_reads,
            sampled_segments: curve.sampled_segments as u64,
            verdict: verdict(&curve),
            sizes: sizes.collect(),
        }
    }
}

fn verdict(curve: &Curve) -> Verdict {
    let is_vague = (0..SCALES.len()).any(|at| error(curve, at) > ERROR_MAX);
    let few_segments = curve.rate < 1.0 && curve.sampled_segments < SEGMENTS_MIN;
    match curve.full[PRESENT] {
        _ if curve.sampled_reads < READS_MIN => Verdict::TooLittle,
        false => Verdict::Fits,
        true if few_segments || is_vague => Verdict::TooLittle,
        true => Verdict::Enough,
    }
}

/// The standard error of the miss ratio by requests.
fn error(curve: &Curve, at: usize) -> f64 {
    let variances = curve.accounts.iter().map(|account| account.missed_reads_error[at].powi(2));
    let reads: u64 = curve.accounts.iter().map(|account| account.reads).sum();
    variances.sum::<f64>().sqrt() / (reads as f64).max(1.0)
}

/// The advice about one of the [`SCALES`].
fn size(curve: &Curve, mounts: &[&Mount], at: usize) -> SizeAdvice {
    let sum = |of: &dyn Fn(&AccountCurve) -> f64| curve.accounts.iter().map(of).sum::<f64>();
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let by_mount = mounts.iter().map(|mount| MountSaved {
        mount: mount.record.name.clone(),
        saved: saved(mount, &curve.accounts[mount.account], at),
    });
    let by_mount: Vec<MountSaved> = by_mount.collect();
    let all = by_mount.iter().fold(Saved::default(), |all, mount| all.plus(mount.saved));
    SizeAdvice {
        scale: SCALES[at],
        capacity_bytes: (curve.capacity as f64 * SCALES[at]) as u64,
        miss_ratio_by_requests: ratio(
            sum(&|account| account.missed_reads[at]),
            sum(&|account| account.reads as f64),
        ),
        miss_ratio_error: error(curve, at),
        miss_ratio_by_bytes: ratio(
            sum(&|account| account.missed_bytes[at]),
            sum(&|account| account.bytes as f64),
        ),
        saved: all,
        mounts: by_mount,
    }
}

fn saved(mount: &Mount, account: &AccountCurve, at: usize) -> Saved {
    let requests = account.missed_reads[PRESENT] - account.missed_reads[at];
    let bytes = account.missed_bytes[PRESENT] - account.missed_bytes[at];
    Saved {
        requests: requests.round() as i64,
        bytes: bytes.round() as i64,
        cost: mount.record.prices.map(|prices| prices.cost(requests, bytes)),
    }
}
