// SPDX-License-Identifier: Apache-2.0
//! The load generator: signed requests prepared once, sent over raw keep-alive sockets.
//!
//! Its threads live in the harness, never in a server under test, so its CPU is nobody's figure.

pub mod connection;
pub mod generator;
pub mod signing;
