// SPDX-License-Identifier: Apache-2.0
//! The store proxy against a tiny origin, byte by byte over raw sockets.

mod exchange;
mod origin;
mod proxy_faults;
mod proxy_passes;
