// SPDX-License-Identifier: Apache-2.0
//! A worker on a scratch directory with one mount, and reading as a client does it.

use std::{os::unix::fs::FileExt, sync::Arc, time::Duration};

use futures::StreamExt;
use larder_cluster::{
    member::WorkerId,
    mounts::{MountRecord, Prices},
    wire::{
        body::{Body, Chunk},
        message::{ReadHead, ReadRequest},
        service::Service,
    },
};
use larder_core::{
    ByteSize, Clock, Freshness, Key, MemoryBudget, Metrics, MountName, Path, Random, Result, Span,
    Status, UnixMillis, crc32c, page,
};
use larder_pages::DirectoryOptions;
use larder_ufs::{
    layer::budget::{Budgets, MountLimits},
    mount::MountedStore,
};
use larder_worker::{Parts, Rule, Store, Worker};

use crate::counting::Counting;

pub(crate) struct Kitchen {
    pub(crate) worker: Arc<Worker>,
    pub(crate) store: Arc<Counting>,
    pub(crate) clock: Clock,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: MemoryBudget,
}

/// How a kitchen differs from the usual one.
pub(crate) struct Recipe {
    pub(crate) freshness: Freshness,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) prices: Option<Prices>,
    pub(crate) capacity: u64,
    pub(crate) clock: Clock,
    pub(crate) rules: Vec<Rule>,
    /// Requests to the store in a second; `None`: a store without layers.
    pub(crate) rate: Option<u32>,
    /// Requests to the store under way at once, where there is a rate.
    pub(crate) places: u32,
    /// The memory budget.
    pub(crate) memory: u64,
    /// Bytes that may wait for the disk.
    pub(crate) fill_queue: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            freshness: Freshness::default(),
            stale_if_error: None,
            prices: None,
            capacity: 1 << 30,
            clock: Clock::manual(UnixMillis(1_800_000_000_000)),
            rules: Vec::new(),
            rate: None,
            places: 128,
            memory: 64 << 20,
            fill_queue: 64 << 20,
        }
    }
}

impl Kitchen {
    pub(crate) fn new(recipe: Recipe) -> Self {
        let store = Counting::new();
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let storage = mounted(&recipe, Arc::clone(&store), &metrics);
        let budget = MemoryBudget::new(recipe.memory);
        let shared = (budget.clone(), Arc::clone(&metrics));
        let worker = open_with(&recipe, storage, directory.path(), shared);
        Self { worker, store, clock: recipe.clock, directory, metrics, budget }
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Status {
        self.store.memory.put(&Key::new(key).unwrap(), bytes.to_vec())
    }

    pub(crate) async fn read(&self, key: &str, span: Span) -> Result<(ReadHead, Vec<u8>)> {
        self.read_with(request(key, span)).await
    }

    pub(crate) async fn read_with(&self, request: ReadRequest) -> Result<(ReadHead, Vec<u8>)> {
        let reply = self.worker.read(request).await?;
        let bytes = drain(reply.body).await?;
        Ok((reply.head, bytes))
    }
}

/// The store with the layers that the recipe wants.
fn mounted(recipe: &Recipe, store: Arc<Counting>, metrics: &Arc<Metrics>) -> MountedStore {
    let Some(rate) = recipe.rate else { return MountedStore::bare(store) };
    let limits = MountLimits {
        concurrent_requests: recipe.places,
        requests_per_second: Some(rate),
        bytes_per_second: None,
    };
    let (mount, clock) = (MountName::new("lake").unwrap(), recipe.clock.clone());
    let metrics = Arc::clone(metrics);
    let lane = Budgets::default().lane("kitchen", (&mount, limits), clock.clone(), metrics);
    MountedStore::new(store, lane, clock, Arc::new(Random::seeded(1)))
}

pub(crate) fn open_worker(
    recipe: &Recipe,
    store: Arc<Counting>,
    directory: &std::path::Path,
) -> Arc<Worker> {
    let shared = (MemoryBudget::new(recipe.memory), Arc::new(Metrics::new()));
    open_with(recipe, MountedStore::bare(store), directory, shared)
}

fn open_with(
    recipe: &Recipe,
    storage: MountedStore,
    directory: &std::path::Path,
    (budget, metrics): (MemoryBudget, Arc<Metrics>),
) -> Arc<Worker> {
    let record = MountRecord {
        name: MountName::new("lake").unwrap(),
        uri: "memory://kitchen".into(),
        endpoint: None,
        freshness: recipe.freshness,
        stale_if_error: recipe.stale_if_error,
        prices: recipe.prices,
    };
    let cache =
        DirectoryOptions { path: directory.join("cache"), capacity: ByteSize(recipe.capacity) };
    let pages = larder_pages::Options {
        directories: vec![cache],
        fill_queue_bytes_max: ByteSize(recipe.fill_queue),
        ..Default::default()
    };
    Worker::open(Parts {
        id: WorkerId(1),
        metadata: directory.join("meta"),
        pages,
        stores: vec![Store { record, storage }],
        rules: recipe.rules.clone(),
        budget,
        clock: recipe.clock.clone(),
        metrics,
    })
    .unwrap()
}

pub(crate) fn path(key: &str) -> Path {
    Path::new(MountName::new("lake").unwrap(), Key::new(key).unwrap())
}

pub(crate) fn request(key: &str, span: Span) -> ReadRequest {
    ReadRequest {
        path: path(key),
        span,
        pinned: None,
        attributes: false,
        ahead: 0,
        suspects: Vec::new(),
    }
}

/// Takes a body as a client does: extents are read and each page is checked.
pub(crate) async fn drain(mut body: Body) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk? {
            Chunk::Bytes(streamed) => all.extend_from_slice(&streamed.bytes),
            Chunk::Resident { extent, part } => {
                let whole = page::align(part, extent.range.end);
                let mut bytes = vec![0; whole.length() as usize];
                let at = extent.offset + whole.start - extent.range.start;
                extent.file.read_exact_at(&mut bytes, at).unwrap();
                let first = page::pages_of(extent.range).start;
                for (index, page) in page::pages_of(whole).zip(bytes.chunks(65536)) {
                    let expected = extent.checksums[(index - first) as usize];
                    if crc32c(page) != expected {
                        return Err(larder_core::Error::corrupt(format!("page {index}")));
                    }
                }
                let from = (part.start - whole.start) as usize;
                all.extend_from_slice(&bytes[from..from + part.length() as usize]);
            }
        }
    }
    Ok(all)
}

pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let random = Random::seeded(seed);
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes())
        .take(length / 8 + 1)
        .flatten()
        .collect();
    bytes.truncate(length);
    bytes
}
