// SPDX-License-Identifier: Apache-2.0
//! The FUSE face against its front door: real mounts of a store in memory, used through the
//! kernel as any program would.

#![expect(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod mounting;
mod names;
mod passthrough;
mod reading;
mod support;
mod versions;
