// SPDX-License-Identifier: Apache-2.0
//! The S3 face against its front door: a socket, with a worker in memory behind it.

#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test")]

mod auth;
mod client;
mod connections;
mod listings;
mod mixed;
mod objects;
mod refusals;
mod worker;
