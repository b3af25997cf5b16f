// SPDX-License-Identifier: Apache-2.0
//! The store proxy: a reverse proxy that counts, delays and breaks what passes through it.
//!
//! It speaks HTTP/1.1 on both sides and changes nothing that a signature covers: method, raw
//! path and query, Host and every end-to-end header pass as they came. Body chunks are handed
//! from one socket to the other as they were read, never copied, so that the proxy is not the
//! thing that is measured. It keeps no state besides counters, rules and the two rate limits.
//!
//! `server` accepts, `forward` takes one request through, `body` counts and shapes what flows,
//! `fault` decides which request is hurt and how, `link` is the bandwidth cap, `count` the
//! figures, and `control` lets a test read and change all that over HTTP.

pub mod body;
pub mod control;
pub mod count;
pub mod fault;
pub mod forward;
pub mod link;
pub mod server;
pub mod socket;
pub mod timer;
