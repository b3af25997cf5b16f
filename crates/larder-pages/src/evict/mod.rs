// SPDX-License-Identifier: Apache-2.0
//! Which segment goes when room is needed: a window for newcomers before a main part, weighted by
//! bytes, under the rule that a contest finds best for what is read just now (ADR 30).
//!
//! Pure: no I/O, no clock, no lock; a simulator can drive it with a trace. Each directory is a
//! *lane* of its own: `policy` is the front door, `queues` the lists of one lane, `rule` who may
//! pass from the window to the main part, `contest` the miniatures that choose the rule, `ghost`
//! what is known of segments that left.
//!
//! A segment has 256 pages, so a single sequential scan touches it many times. Touches count once
//! per *tick*, and a tick is a 128th of the lane's capacity admitted; a scan is one or two touches
//! and does not push hot segments out.
//!
//! Small files are evicted by the same queues as the segments of others, each by its weight.

mod contest;
mod count;
mod ghost;
mod name_hasher;
mod nodes;
mod policy;
mod queues;
mod rule;
mod simulation;
#[cfg(test)]
mod tests;

use name_hasher::NameHasher;
pub(crate) use nodes::{GROUP, Slot};
pub(crate) use policy::{Admission, LaneIndex, Policy};
pub use simulation::Simulation;
pub(crate) use simulation::Wanted;
