// SPDX-License-Identifier: Apache-2.0
//! What a smaller or larger cache would have saved, as a worker tells it.

use larder_core::MountName;
use serde::{Deserialize, Serialize};

/// What caches of other capacities would have missed of what was read, estimated by a sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// For so many seconds reads were looked at: since the start, or since the capacity changed.
    pub observed_s: u64,
    /// Reads in that time, one for each segment that a read touches.
    pub reads: u64,
    /// Bytes of the pages that were read.
    pub read_bytes: u64,
    /// The share of segments in the sample, from 0 to 1.
    pub sample_rate: f64,
    /// Reads of segments in the sample.
    pub sampled_reads: u64,
    /// Segments of the sample that the largest simulated cache holds.
    pub sampled_segments: u64,
    /// How much the rest is worth.
    pub verdict: Verdict,
    /// From the smallest cache to the largest; the present capacity is one of them.
    pub sizes: Vec<SizeAdvice>,
}

/// Whether there was enough traffic to say something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There was not: the figures mean nothing.
    #[default]
    TooLittle,
    /// All that was read so far fits: nothing is known of larger caches.
    Fits,
    /// There was.
    Enough,
}

/// A cache of another capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeAdvice {
    /// Times the present capacity.
    pub scale: f64,
    /// Bytes.
    pub capacity_bytes: u64,
    /// The share of reads that would have needed the store.
    pub miss_ratio_by_requests: f64,
    /// The standard error of that: the sample is a part of the segments.
    pub miss_ratio_error: f64,
    /// Bytes it would have fetched for each byte read.
    pub miss_ratio_by_bytes: f64,
    /// What it would have saved in that time, set against the present capacity.
    pub saved: Saved,
    /// The same by mount.
    pub mounts: Vec<MountSaved>,
}

/// Savings; below zero what it would have needed in addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Requests to stores.
    pub requests: i64,
    /// Bytes from stores.
    pub bytes: i64,
    /// What those cost; `None` where no mount has prices.
    pub cost: Option<f64>,
}

/// The savings of one mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountSaved {
    /// Which.
    pub mount: MountName,
    /// How much.
    #[serde(flatten)]
    pub saved: Saved,
}

impl Saved {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let cost = match (self.cost, other.cost) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Self {
            requests: self.requests.saturating_add(other.requests),
            bytes: self.bytes.saturating_add(other.bytes),
            cost,
        }
    }
}
