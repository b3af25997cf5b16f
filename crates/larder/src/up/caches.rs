// SPDX-License-Identifier: Apache-2.0
//! Which directories hold pages, and how much each may hold.
//!
//! A size that nobody configured is decided once and kept in the state: if it were computed anew
//! from the free space at each start, a cache that fills up would shrink itself.

use std::path::PathBuf;

use larder_core::{ByteSize, Result};

use crate::{
    config,
    machine::{Disk, default_cache_size},
    state::State,
};

/// A directory for pages.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    /// Where.
    pub(super) path: PathBuf,
    /// What it may hold.
    pub(super) size: ByteSize,
}

/// The configured directories, or the one in the state directory.
pub(super) fn decide(configured: &[config::Cache], state: &State) -> Result<Vec<Cache>> {
    let mut wanted: Vec<(PathBuf, Option<ByteSize>)> =
        configured.iter().map(|cache| (cache.path.clone(), cache.size)).collect();
    if wanted.is_empty() {
        wanted.push((state.path("cache"), None));
    }
    let mut decided = state.decided_sizes();
    let before = decided.len();
    let mut caches = Vec::new();
    for (path, size) in wanted {
        let size = match (size, decided.get(&path)) {
            (Some(size), _) => size,
            (None, Some(bytes)) => ByteSize(*bytes),
            (None, None) => {
                let size = default_cache_size(&Disk::of(&path)?);
                decided.insert(path.clone(), size.0);
                size
            }
        };
        caches.push(Cache { path, size });
    }
    if decided.len() > before {
        state.keep_decided_sizes(&decided)?;
    }
    Ok(caches)
}
