// SPDX-License-Identifier: Apache-2.0
//! Placement: the pure function from members and keys to owners.
//!
//! Specified for other languages in `proto/README.md`, with golden vectors in `proto/ring.json`;
//! why it is this function and no other is said in `docs/adr/0002-placement.md`.

mod cost;
mod key;
mod table;
#[cfg(test)]
mod tests;

pub use table::{OWNERS_MAX, Ring, SLOT_BITS};
