// SPDX-License-Identifier: Apache-2.0
//! The interface of a worker as its clients see it, whatever carries it.

use std::fmt::Debug;

use async_trait::async_trait;
use larder_core::{Extent, Result};

use super::message::{
    CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListReply, ListRequest,
    LoadReply, LoadRequest, PartReply, PartRequest, ReadReply, ReadRequest, RepeatedReads,
    StatReply, StatRequest, WholeRequest, WorkerReport,
};

/// What a worker answers. Implemented by the worker itself and by each transport that reaches
/// one; a call may be dropped at any await without harm to others.
#[async_trait]
pub trait Service: Send + Sync + Debug {
    /// The status of a file, by the mount's freshness rule.
    async fn stat(&self, request: StatRequest) -> Result<StatReply>;
    /// Bytes of one version of a file.
    async fn read(&self, request: ReadRequest) -> Result<ReadReply>;
    /// Counts reads that the client answered by itself. Waits for nothing.
    fn note(&self, reads: RepeatedReads);
    /// A local file that is an exact copy of one version, as one extent at its start, if the
    /// worker has one and can pass it on (a Unix socket passes the descriptor, TCP answers
    /// `None`). Asks no store. The receiver compares the checksums, as with any extent.
    async fn whole(&self, request: WholeRequest) -> Result<Option<Extent>>;
    /// Says that somebody opened what [`Service::whole`] gave and reads it without asking: it
    /// counts as one read of all of it, for want of knowing more.
    async fn count_whole(&self, request: WholeRequest) -> Result<()>;
    /// One page of a listing, by the mount's freshness rule.
    async fn list(&self, request: ListRequest) -> Result<ListReply>;
    /// Where a part of a multipart object lies; `None` where the store does not tell.
    async fn part(&self, request: PartRequest) -> Result<Option<PartReply>>;
    /// Makes one file resident.
    async fn load(&self, request: LoadRequest) -> Result<LoadReply>;
    /// Drops what is resident.
    async fn free(&self, request: FreeRequest) -> Result<FreeReply>;
    /// All that is known about one file, without asking the store.
    async fn explain(&self, request: StatRequest) -> Result<Explanation>;
    /// Changes one of the worker's cache directories and tells how all of them are then.
    async fn cache(&self, request: CacheRequest) -> Result<Vec<DiskReport>>;
    /// How the worker is doing.
    async fn report(&self) -> Result<WorkerReport>;
}
