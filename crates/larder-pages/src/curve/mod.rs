// SPDX-License-Identifier: Apache-2.0
//! What a smaller and larger cache would have missed: a miss-ratio curve sampled from live reads.
//!
//! Spatial sampling as in SHARDS (Waldspurger et al., FAST 2015): a segment is looked at always or
//! never, by a hash of its name, so each sampled segment shows its whole history. The sample runs
//! through miniatures (the same, ATC 2017) of the page store's own policy, one for each of
//! [`SCALES`]: a hundredth of the segments in a hundredth of the bytes misses as all of them do in
//! all. The number of segments is bounded: when a miniature holds too many, the sample is halved,
//! and every miniature with it.
//!
//! A read of a segment outside the sample costs a hash, a comparison and two relaxed additions;
//! one inside takes a lock and four steps of the policy. Pure apart from that lock: no I/O, no
//! clock. What a curve says about money is not said here.

mod sample;
mod sampler;
mod strata;
#[cfg(test)]
mod tests;

pub use sampler::{Access, AccountCurve, Curve, Sampler};

/// The capacities of the curve, in halves of the present one.
const HALVES: [u64; 4] = [1, 2, 4, 8];

/// The same in times of the present capacity.
pub const SCALES: [f64; HALVES.len()] = [0.5, 1.0, 2.0, 4.0];
