// SPDX-License-Identifier: Apache-2.0
//! The worker's front door: what it is made of, and which file answers which request.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use larder_cluster::{
    member::WorkerId,
    wire::{
        message::{
            CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListReply, ListRequest,
            LoadReply, LoadRequest, PartReply, PartRequest, ReadReply, ReadRequest, RepeatedReads,
            StatReply, StatRequest, WholeRequest, WorkerReport,
        },
        service::Service,
    },
};
use larder_core::{Clock, Extent, MemoryBudget, Metrics, Path, Result};
use larder_meta::MetaStore;
use larder_pages::PageStore;

use crate::{
    advise::Advisor,
    disks,
    index::ResidencyIndex,
    list::ListCache,
    miss::Flights,
    mount::{Mounts, Store},
    rules::{Rule, RuleBook, Rules},
    single::SingleFlight,
    status::Opened,
};

/// What a [`Worker`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its identity.
    pub id: WorkerId,
    /// Where the metadata store lies.
    pub metadata: PathBuf,
    /// Where and how many pages are kept; its clock is the worker's, its classes are the rules'.
    pub pages: larder_pages::Options,
    /// What it serves.
    pub stores: Vec<Store>,
    /// What of the cache which files may have, at first.
    pub rules: Vec<Rule>,
    /// The memory budget of the process.
    pub budget: MemoryBudget,
    /// Time.
    pub clock: Clock,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// A worker. Owns its metadata store and its page store; shares the rest.
#[derive(Debug)]
pub struct Worker {
    pub(crate) this: Weak<Self>,
    pub(crate) id: WorkerId,
    pub(crate) mounts: Mounts,
    pub(crate) meta: Arc<MetaStore>,
    pub(crate) pages: Arc<PageStore>,
    pub(crate) budget: MemoryBudget,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) flights: Flights,
    pub(crate) openings: SingleFlight<Path, Opened>,
    pub(crate) listings: ListCache,
    pub(crate) advisor: Advisor,
    pub(crate) rules: RuleBook,
    pub(crate) started: Duration,
}

impl Worker {
    /// Opens the stores on disk. Serves at once, also after a crash.
    ///
    /// # Errors
    /// One clear sentence when a directory can't be used or is in use by another process.
    pub fn open(parts: Parts) -> Result<Arc<Self>> {
        let Parts { id, metadata, mut pages, stores, rules, budget, clock, metrics } = parts;
        let rules = Arc::new(Rules::new(rules)?);
        pages.clock = clock.clone();
        pages.classes = rules.classes();
        let meta = MetaStore::open(larder_meta::Options::new(metadata))?;
        let index = Arc::new(ResidencyIndex::new(Arc::clone(&meta)));
        let pages = PageStore::open(pages, index, Arc::clone(&metrics))?;
        let started = clock.elapsed();
        let advisor = Advisor::new(disks::capacity(&pages), stores.len(), clock.clone());
        let worker = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            id,
            mounts: Mounts::new(stores, &metrics),
            meta,
            pages,
            budget,
            clock,
            metrics,
            flights: Flights::default(),
            openings: SingleFlight::new(),
            listings: ListCache::new(),
            advisor,
            rules: RuleBook::new(Arc::clone(&rules)),
            started,
        });
        worker.sort_out_behind(&[&rules])?;
        Ok(worker)
    }

    /// Writes out what is gathered and closes the stores on disk; requests after this fail or
    /// miss. Blocks.
    ///
    /// # Errors
    /// What the disks said; nothing but speed is lost.
    pub fn close(&self) -> Result<()> {
        self.pages.close()?;
        self.meta.close()
    }

    /// The worker as something a task can keep.
    pub(crate) fn shared(&self) -> Arc<Self> {
        self.this.upgrade().expect("a method runs, so the worker lives")
    }
}

#[async_trait]
impl Service for Worker {
    async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        self.answer_stat(request).await
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadReply> {
        self.answer_read(request).await
    }

    fn note(&self, reads: RepeatedReads) {
        self.count_repeated(&reads);
    }

    async fn count_whole(&self, request: WholeRequest) -> Result<()> {
        self.count_whole_read(&request)
    }

    async fn whole(&self, request: WholeRequest) -> Result<Option<Extent>> {
        self.answer_whole(&request)
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        self.answer_list(request).await
    }

    async fn part(&self, request: PartRequest) -> Result<Option<PartReply>> {
        self.answer_part(request).await
    }

    async fn load(&self, request: LoadRequest) -> Result<LoadReply> {
        self.answer_load(request).await
    }

    async fn free(&self, request: FreeRequest) -> Result<FreeReply> {
        self.answer_free(request).await
    }

    async fn explain(&self, request: StatRequest) -> Result<Explanation> {
        self.answer_explain(&request.path)
    }

    async fn cache(&self, request: CacheRequest) -> Result<Vec<DiskReport>> {
        self.answer_cache(request).await
    }

    async fn report(&self) -> Result<WorkerReport> {
        Ok(self.answer_report())
    }
}
