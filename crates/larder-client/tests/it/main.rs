// SPDX-License-Identifier: Apache-2.0
//! The file system at its front door, over a worker that answers from a local file: some pages
//! as extents, some as bytes, some of them rotten.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod directories;
mod local;
mod pantry;
mod reads;
mod small_reads;
