// SPDX-License-Identifier: Apache-2.0
//! Mount records: which name stands for which under-storage prefix, with the mount's policy.
//! No secrets: each worker finds credentials by itself.

use std::time::Duration;

use larder_core::{Freshness, MountName};
use serde::{Deserialize, Serialize};

/// One mount as every process knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The name: a bucket on the S3 face, a top directory on FUSE.
    pub name: MountName,
    /// `s3://bucket/prefix` or `file:///directory`.
    pub uri: String,
    /// How old a status may be.
    pub freshness: Freshness,
    /// How long past its freshness a status may still be used while the store does not answer.
    pub stale_if_error: Option<Duration>,
}
