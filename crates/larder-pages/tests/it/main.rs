// SPDX-License-Identifier: Apache-2.0
//! The page store against its front door: what is put is what is read, whatever is evicted,
//! killed, flipped or taken away, and the disk never holds more than it may.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bench;
mod crash;
mod descriptors;
mod directory;
mod model;
mod power;
mod rot;
mod rules;
mod scrub;
mod small;
mod store;
mod validity;
mod whole;
