// SPDX-License-Identifier: Apache-2.0
//! The budget towards a store: how many requests and bytes go at once and per second, who goes
//! first, and what happens when the store asks to slow down or is late.
//!
//! All mounts whose requests go to one address share a budget, for that is what a store limits.
//! Pure rooms say what may pass: `bucket` a configured rate, `rate` what the store bears,
//! learnt from its refusals, `limits` both with the places, `queue` who is next, `latency`
//! when a reply is late. `turnstile` gives them a clock and wakes who may go; `lane` is a
//! mount's part of it, `budgeted` the layer.
//!
//! The layer lies beneath the retries, so that each try is admitted by itself, and above the
//! meter, so that the store's times are told without the wait for admission. The lock of the
//! latencies is taken before that of a turnstile; no lock is held over an await.

mod bucket;
mod budgeted;
mod lane;
mod latency;
mod limits;
mod queue;
mod rate;
mod turnstile;

pub use budgeted::Budgeted;
pub use lane::{Budgets, Lane, MountLimits};
pub use turnstile::{BULK_WAIT_MAX, FOREGROUND_WAIT_MAX, WAITING_MAX};
