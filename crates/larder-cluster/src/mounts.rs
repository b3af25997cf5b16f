// SPDX-License-Identifier: Apache-2.0
//! Mount records: which name stands for which under-storage prefix, with the mount's policy.
//! No secrets: each worker finds credentials by itself.

use std::time::Duration;

use larder_core::{FileId, Freshness, Key, MountName};
use serde::{Deserialize, Serialize};

/// One mount as every process knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The name: a bucket on the S3 face, a top directory on FUSE.
    pub name: MountName,
    /// `s3://bucket/prefix` or `file:///directory`.
    pub uri: String,
    /// Where the store answers, when not at its public address; part of a file's identity.
    pub endpoint: Option<String>,
    /// How old a status may be.
    pub freshness: Freshness,
    /// How long past its freshness a status may still be used while the store does not answer.
    pub stale_if_error: Option<Duration>,
    /// What the store charges, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

/// What a store charges, in a currency that Larder need not know: costs are in the same.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Prices {
    /// A million requests, of whatever kind.
    pub per_million_requests: f64,
    /// 2^30 bytes read from the store.
    pub per_gib: f64,
}

impl Prices {
    /// What so many requests and bytes cost. Both may be estimates, or differences below zero.
    #[must_use]
    pub fn cost(&self, requests: f64, bytes: f64) -> f64 {
        self.per_million_requests * requests / 1e6 + self.per_gib * bytes / f64::from(1 << 30)
    }
}

impl MountRecord {
    /// The canonical URI of a file: two mounts of one bucket give one object one URI, and equal
    /// bucket names at different endpoints stay apart.
    #[must_use]
    pub fn file_uri(&self, key: &Key) -> String {
        let base = self.uri.trim_end_matches('/');
        let endpoint = self.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/'));
        let length = base.len() + key.as_str().len() + endpoint.map_or(0, str::len) + 2;
        // Pushed, not formatted: this is on the way of every request.
        let mut uri = String::with_capacity(length);
        uri.push_str(base);
        uri.push('/');
        uri.push_str(key.as_str());
        if let Some(endpoint) = endpoint {
            uri.push('@');
            uri.push_str(endpoint);
        }
        uri
    }

    /// The id of a file: what placement and pages are keyed by.
    #[must_use]
    pub fn file_id(&self, key: &Key) -> FileId {
        FileId::of_uri(&self.file_uri(key))
    }
}
