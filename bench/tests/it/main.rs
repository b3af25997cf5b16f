// SPDX-License-Identifier: Apache-2.0
//! The store proxy against a tiny origin, byte by byte over raw sockets.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod exchange;
mod origin;
mod proxy_faults;
mod proxy_passes;
