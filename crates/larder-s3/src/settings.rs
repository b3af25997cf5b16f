// SPDX-License-Identifier: Apache-2.0
//! What an operator can set about the S3 face.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Settings of the S3 face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where to listen. Loopback unless set; port 0 takes a free one.
    pub address: SocketAddr,
    /// Domains below which `bucket.domain` names a bucket (virtual-host style). Path style works
    /// under every name.
    pub base_domains: Vec<String>,
    /// Answer requests that carry no signature.
    pub anonymous: bool,
    /// Connections served at once; more wait in the listener's queue.
    pub connections_max: usize,
    /// Milliseconds a connection may stay silent between requests, and a request head may take.
    pub idle_timeout_ms: u64,
    /// Milliseconds after which a client that takes no byte of its reply is dropped.
    pub write_stall_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9710)),
            base_domains: Vec::new(),
            anonymous: false,
            connections_max: 4096,
            idle_timeout_ms: 60_000,
            write_stall_ms: 60_000,
        }
    }
}

impl Settings {
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms.max(1))
    }

    pub(crate) fn write_stall(&self) -> Duration {
        Duration::from_millis(self.write_stall_ms.max(1))
    }
}
