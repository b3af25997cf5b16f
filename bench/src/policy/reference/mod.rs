// SPDX-License-Identifier: Apache-2.0
//! The published policies, one file each, written for the simulator and nothing else.
//!
//! They follow the papers, and `libcachesim` where the papers leave sizes open.

mod arc;
mod fifo;
mod lfu;
mod lru;
mod queue;
mod s3_fifo;
mod sieve;
mod w_tiny_lfu;

pub use arc::Arc;
pub use fifo::Fifo;
pub use lfu::Lfu;
pub use lru::Lru;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use w_tiny_lfu::WTinyLfu;

use super::trace::Request;

/// A cache that is read through: what is missing comes in, if it may.
pub trait Cache {
    /// Reads an object; whether it was there.
    fn read(&mut self, request: Request) -> bool;
}
