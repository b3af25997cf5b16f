// SPDX-License-Identifier: Apache-2.0
//! Opening and closing the worker, on threads that may block.

use std::{path::PathBuf, sync::Arc};

use larder_cluster::member::WorkerId;
use larder_core::{ByteSize, Clock, Error, MemoryBudget, Metrics};
use larder_pages::{DirectoryOptions, Options, Scrub};
use larder_worker::{Rule, Store, Worker};

use super::caches::Cache;
use crate::exit::Failure;

/// Of all descriptors, the page store may keep one part in so many open.
const DESCRIPTORS_PART: u64 = 4;
/// Of the memory budget, pages waiting for the disk may take one part in so many.
const FILL_QUEUE_PART: u64 = 4;

/// What the worker is opened with.
pub(super) struct Parts<'a> {
    pub(super) id: WorkerId,
    pub(super) metadata: PathBuf,
    pub(super) caches: &'a [Cache],
    pub(super) scrub_rate: ByteSize,
    pub(super) rules: Vec<Rule>,
    pub(super) descriptors: u64,
    pub(super) stores: Vec<Store>,
    pub(super) budget: MemoryBudget,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) async fn open(parts: Parts<'_>) -> Result<Arc<Worker>, Failure> {
    let directories = parts
        .caches
        .iter()
        .map(|cache| DirectoryOptions { path: cache.path.clone(), capacity: cache.size })
        .collect();
    let defaults = Options::default();
    let queue = ByteSize(parts.budget.total() / FILL_QUEUE_PART).min(defaults.fill_queue_bytes_max);
    let descriptors_max = (parts.descriptors / DESCRIPTORS_PART).clamp(64, 8192);
    let pages = Options {
        directories,
        descriptors_max: usize::try_from(descriptors_max).unwrap_or(64),
        fill_queue_bytes_max: queue,
        scrub: Scrub { bytes_per_second: parts.scrub_rate, ..Scrub::default() },
        ..defaults
    };
    let parts = larder_worker::Parts {
        id: parts.id,
        metadata: parts.metadata,
        pages,
        stores: parts.stores,
        rules: parts.rules,
        budget: parts.budget,
        clock: parts.clock,
        metrics: parts.metrics,
    };
    let opened = tokio::task::spawn_blocking(move || Worker::open(parts)).await;
    let opened = opened.unwrap_or_else(|error| {
        Err(Error::internal("opening the cache panicked").with_source(error))
    });
    opened.map_err(|error| Failure::of_place(&error))
}

/// Writes out what is gathered. A failure costs speed at the next start and nothing else.
pub(super) async fn close(worker: Arc<Worker>) {
    match tokio::task::spawn_blocking(move || worker.close()).await {
        Ok(Ok(())) => tracing::info!("stopped"),
        Ok(Err(error)) => tracing::warn!(%error, "the cache was not closed cleanly"),
        Err(error) => tracing::error!(%error, "closing the cache panicked"),
    }
}
