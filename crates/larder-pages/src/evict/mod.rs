// SPDX-License-Identifier: Apache-2.0
//! Which segment goes when room is needed: S3-FIFO (Yang et al., SOSP 2023), weighted by bytes.
//!
//! Pure: no I/O, no clock, no lock; a simulator can drive it with a trace. Each directory is a
//! *lane* of its own, with a small queue for newcomers (a tenth of the bytes), a main queue for
//! what was read again, and a ghost that remembers what lately left the small queue.
//!
//! One departure from the paper: a segment has 256 pages, so a single sequential scan touches it
//! many times. Touches count once per *tick*, and a tick is a 128th of the lane's capacity
//! admitted; a scan is one or two touches and does not push hot segments out.
//!
//! Small files are evicted by the same queues as the segments of others, each by its weight.
//!
//! Until the first eviction the main queue takes what the small one has no share for (ADR 16).

mod ghost;
mod nodes;
mod policy;
mod simulation;
#[cfg(test)]
mod tests;

pub(crate) use nodes::{GROUP, Slot};
pub(crate) use policy::{Admission, LaneIndex, Policy};
pub use simulation::Simulation;
pub(crate) use simulation::Wanted;
