// SPDX-License-Identifier: Apache-2.0
//! A worker that holds one file, `/lake/a b`, and tells of one that breaks off, `/lake/broken`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_client::{
    MountRecord,
    advice::Advice,
    message::{
        CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListEntry, ListPage,
        ListReply, ListRequest, LoadReply, LoadRequest, MountReport, Outcome, PartReply,
        PartRequest, ReadHead, ReadReply, ReadRequest, RepeatedReads, StatReply, StatRequest,
        WholeRequest, WorkerReport,
    },
};
use larder_cluster::wire::{
    body::{Chunk, StreamedBytes},
    service::Service,
};
use larder_core::{Error, Extent, Key, Path, Result, Status, UnixMillis, Version};

/// What the file holds.
pub(crate) const CONTENT: &[u8] = b"0123456789";

#[derive(Debug)]
pub(crate) struct OneFile(pub(crate) MountRecord);

fn status() -> Status {
    Status {
        length: CONTENT.len() as u64,
        version: Version::new("v1"),
        modified: UnixMillis(1_700_000_000_000),
        attributes: None,
    }
}

fn known(path: &Path) -> Result<Status> {
    match path.key.as_str() {
        "a b" | "broken" => Ok(status()),
        "throttled" => Err(Error::exhausted("slow down").with_retry_after(Duration::from_secs(7))),
        "denied" => Err(Error::denied("no rights")),
        _ => Err(Error::not_found(format!("there is no {path}"))),
    }
}

#[async_trait]
impl Service for OneFile {
    async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        let status = known(&request.path)?;
        Ok(StatReply { status, age: Duration::from_secs(3), outcome: Outcome::Hit })
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadReply> {
        let status = known(&request.path)?;
        let range = request.span.resolve(status.length);
        let head = ReadHead { status, age: Duration::ZERO, range, outcome: Outcome::Hit };
        let part = range.map_or(0..0, |range| range.start as usize..range.end as usize);
        let bytes = Bytes::from_static(CONTENT).slice(part);
        let streamed = |bytes| Ok(Chunk::Bytes(StreamedBytes { bytes, lease: None }));
        let body = if request.path.key.as_str() == "broken" {
            // What came before the break is on its way before the break is known.
            let broken = async {
                tokio::task::yield_now().await;
                Err(Error::unavailable("the store went away"))
            };
            stream::iter([streamed(bytes.slice(..4))]).chain(stream::once(broken)).boxed()
        } else {
            stream::iter((!bytes.is_empty()).then(|| streamed(bytes))).boxed()
        };
        Ok(ReadReply { head, body })
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        let key = Key::new("a b")?;
        let entries = if "a b".starts_with(&request.prefix) {
            vec![ListEntry { key, status: status() }]
        } else {
            Vec::new()
        };
        let page = ListPage { entries, prefixes: Vec::new(), next: None };
        Ok(ListReply { page: Arc::new(page), age: Duration::ZERO })
    }

    fn note(&self, _reads: RepeatedReads) {}

    async fn count_whole(&self, _: WholeRequest) -> Result<()> {
        Ok(())
    }

    async fn whole(&self, _: WholeRequest) -> Result<Option<Extent>> {
        Ok(None)
    }

    async fn part(&self, _: PartRequest) -> Result<Option<PartReply>> {
        Ok(None)
    }

    async fn load(&self, request: LoadRequest) -> Result<LoadReply> {
        let length = known(&request.path)?.length;
        Ok(LoadReply { length, fetched_bytes: length, not_kept_bytes: 0 })
    }

    async fn free(&self, request: FreeRequest) -> Result<FreeReply> {
        Ok(FreeReply { files: 1, bytes: if request.recursive { 20 } else { 10 } })
    }

    async fn explain(&self, request: StatRequest) -> Result<Explanation> {
        Ok(Explanation {
            uri: self.0.file_uri(&request.path.key),
            path: request.path,
            owner: "1".into(),
            status: Some(status()),
            age: None,
            freshness: "fresh for 57 s more".into(),
            resident_pages: 1,
            total_pages: 1,
            resident_bytes: 10,
            fetches: 0,
            rule: None,
        })
    }

    async fn cache(&self, _: CacheRequest) -> Result<Vec<DiskReport>> {
        Err(Error::unsupported("not here"))
    }

    async fn report(&self) -> Result<WorkerReport> {
        Ok(WorkerReport {
            id: "1".into(),
            uptime_s: 5,
            capacity_bytes: 1000,
            resident_bytes: 10,
            segments: 1,
            statuses: 1,
            memory_budget_bytes: 8 << 20,
            memory_used_bytes: 4096,
            disks: Vec::new(),
            mounts: vec![MountReport {
                record: self.0.clone(),
                store_requests: 2,
                store_read_bytes: 10,
                cache_read_bytes: 10,
                streamed_read_bytes: 10,
                loaded_bytes: 0,
                reads: 2,
                reads_hit: 1,
                avoided_requests: 1,
                cost: None,
                cost_avoided: None,
                last_error: Some("secret-host refused".into()),
            }],
            advice: Advice::default(),
            rules: Vec::new(),
        })
    }
}
