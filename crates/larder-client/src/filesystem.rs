// SPDX-License-Identifier: Apache-2.0
//! The front door: one method per thing a face can want. Each routes the request to the owner
//! and translates nothing.

use std::{sync::Arc, time::Duration};

use larder_cluster::{
    mounts::MountRecord,
    registry::local::LocalRegistry,
    wire::{
        message::{
            CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListReply, ListRequest,
            PartReply, PartRequest, StatReply, StatRequest, WorkerReport,
        },
        service::Service,
    },
};
use larder_core::{
    Clock, Error, FileId, MemoryBudget, Metrics, MountName, Path, Result, SegmentIndex,
};

use crate::{buffer::BufferPool, local::CheckedFiles, route::Route, window::Windows};

/// No request to a worker may take longer than this before its reply begins.
pub const REPLY_WAIT_MAX: Duration = Duration::from_secs(120);

/// What a [`Filesystem`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who the workers are and what is mounted.
    pub registry: Arc<LocalRegistry>,
    /// The worker in this process.
    pub worker: Arc<dyn Service>,
    /// The memory budget of the process.
    pub budget: MemoryBudget,
    /// Time.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// Larder's name space, for faces. Shared by reference between all of them.
#[derive(Debug)]
pub struct Filesystem {
    pub(crate) route: Route,
    pub(crate) registry: Arc<LocalRegistry>,
    pub(crate) budget: MemoryBudget,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) buffers: BufferPool,
    pub(crate) checked: Arc<CheckedFiles>,
    pub(crate) windows: Windows,
}

impl Filesystem {
    /// Joins the parts; no I/O.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { registry, worker, budget, clock, metrics } = parts;
        let route = Route::new(Arc::clone(&registry), worker);
        let buffers = BufferPool::new(budget.total());
        let checked = Arc::default();
        let windows = Windows::new(&budget);
        Arc::new(Self { route, registry, budget, clock, metrics, buffers, checked, windows })
    }

    /// Every mount, ordered by name.
    #[must_use]
    pub fn mounts(&self) -> Arc<[MountRecord]> {
        self.registry.mounts()
    }

    /// The mount of this name.
    ///
    /// # Errors
    /// `NotFound`, naming the mounts there are.
    pub fn mount(&self, name: &MountName) -> Result<MountRecord> {
        self.with_mount(name, MountRecord::clone)
    }

    /// Looks at the mount of this name where it lies.
    fn with_mount<T>(&self, name: &MountName, look: impl FnOnce(&MountRecord) -> T) -> Result<T> {
        let mounts = self.mounts();
        let found = mounts.binary_search_by(|record| record.name.cmp(name));
        found.map(|at| look(&mounts[at])).map_err(|_| {
            let names: Vec<&str> = mounts.iter().map(|record| record.name.as_str()).collect();
            Error::not_found(format!("there is no mount '{name}'; mounted: {}", names.join(", ")))
        })
    }

    /// The status of one file.
    ///
    /// # Errors
    /// `NotFound` when neither the mount nor such a file exists; else what the store answered.
    pub async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        let worker = self.owner(&request.path)?;
        self.bounded(worker.stat(request)).await
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// `NotFound` for an unknown mount or a missing bucket; else what the store answered.
    pub async fn list(&self, request: ListRequest) -> Result<ListReply> {
        self.with_mount(&request.mount, |_| ())?;
        let worker = self.route.listing_owner(&request.mount, &request.prefix)?;
        self.bounded(worker.list(request)).await
    }

    /// Where a part of a multipart object lies; `None` where the store does not tell.
    ///
    /// # Errors
    /// `Invalid` when there is no such part; else as [`Filesystem::stat`].
    pub async fn part(&self, request: PartRequest) -> Result<Option<PartReply>> {
        let worker = self.owner(&request.path)?;
        self.bounded(worker.part(request)).await
    }

    /// Drops what is held of a file, or with `recursive` of all whose keys start with the path's.
    ///
    /// # Errors
    /// `NotFound` for an unknown mount.
    pub async fn free(&self, request: FreeRequest) -> Result<FreeReply> {
        let worker = self.owner(&request.path)?;
        worker.free(request).await
    }

    /// What is known about one file, without asking the store.
    ///
    /// # Errors
    /// `NotFound` for an unknown mount.
    pub async fn explain(&self, path: &Path) -> Result<Explanation> {
        let worker = self.owner(path)?;
        let request = StatRequest { path: path.clone(), attributes: false };
        self.bounded(worker.explain(request)).await
    }

    /// Changes a cache directory of the worker on this machine.
    ///
    /// # Errors
    /// When the directory is not known, or its disk can't be used.
    pub async fn cache(&self, request: CacheRequest) -> Result<Vec<DiskReport>> {
        let worker = self.route.workers().next().cloned();
        let worker = worker.ok_or_else(|| Error::unavailable("no worker is serving"))?;
        self.bounded(worker.cache(request)).await
    }

    /// How each worker is doing.
    ///
    /// # Errors
    /// `Unavailable` when a worker does not answer.
    pub async fn report(&self) -> Result<Vec<WorkerReport>> {
        let mut reports = Vec::new();
        for worker in self.route.workers() {
            reports.push(self.bounded(worker.report()).await?);
        }
        Ok(reports)
    }

    /// Bytes of the memory budget in use.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.budget.used()
    }

    /// The metrics of this process, for faces to count their requests in.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The clock of this process.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The worker that owns the status (and the first segment) of a file.
    pub(crate) fn owner(&self, path: &Path) -> Result<Arc<dyn Service>> {
        self.route.owner(self.file_id(path)?, SegmentIndex(0))
    }

    pub(crate) fn file_id(&self, path: &Path) -> Result<FileId> {
        self.with_mount(&path.mount, |mount| mount.file_id(&path.key))
    }

    /// Waits for a reply, at most [`REPLY_WAIT_MAX`].
    pub(crate) async fn bounded<T>(&self, reply: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            reply = reply => reply,
            () = self.clock.sleep(REPLY_WAIT_MAX) => Err(Error::unavailable(format!(
                "no reply from the worker within {} s", REPLY_WAIT_MAX.as_secs()
            ))),
        }
    }
}
