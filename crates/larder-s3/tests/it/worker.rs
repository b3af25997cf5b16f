// SPDX-License-Identifier: Apache-2.0
//! A worker that holds a few objects in memory, can be told to fail, and counts what it is asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use larder_client::{Filesystem, MountRecord, Parts};
use larder_cluster::{
    member::{Member, WorkerId},
    registry::local::LocalRegistry,
    wire::{
        body::{Chunk, StreamedBytes},
        message::{
            CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListEntry, ListPage,
            ListReply, ListRequest, ListStart, LoadReply, LoadRequest, Outcome, PartReply,
            PartRequest, ReadHead, ReadReply, ReadRequest, RepeatedReads, StatReply, StatRequest,
            WholeRequest, WorkerReport,
        },
        service::Service,
    },
};
use larder_core::{
    Attributes, ByteRange, Clock, Error, ErrorKind, Extent, Freshness, Key, MemoryBudget, Metrics,
    MountName, Result, Status, UnixMillis, Version,
};
use larder_s3::{Keys, S3Face, Settings};
use tokio::{
    sync::{RwLock, oneshot},
    task::JoinHandle,
};

/// Bytes of one chunk of a body.
const CHUNK: usize = 64 * 1024;

pub(crate) const ACCESS: &str = "LARDERTEST";
pub(crate) const SECRET: &str = "not/a+real=secret";
/// When every object was written: Wed, 01 Jan 2020 00:00:01.900 GMT.
pub(crate) const MODIFIED: UnixMillis = UnixMillis(1_577_836_801_900);

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    pub(crate) attributes: Attributes,
    /// Lengths of the parts, where the store tells.
    pub(crate) parts: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    objects: Mutex<BTreeMap<String, Object>>,
    fault: Mutex<Option<(ErrorKind, Option<Duration>)>>,
    /// So many bytes of each body come, then an error.
    cut: Mutex<Option<usize>>,
    /// Reads wait while this is held.
    pub(crate) gate: RwLock<()>,
    /// Reads that wait.
    pub(crate) waiting: AtomicU64,
    pub(crate) requests: AtomicU64,
}

impl Memory {
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let etag = format!("etag-{key}-{}", bytes.len()).replace(|c: char| !c.is_ascii(), "_");
        let attributes = Attributes::default();
        self.insert(key, Object { bytes, etag, attributes, parts: Vec::new() });
    }

    pub(crate) fn insert(&self, key: &str, object: Object) {
        self.objects.lock().unwrap().insert(key.into(), object);
    }

    pub(crate) fn fail(&self, kind: ErrorKind, retry_after: Option<Duration>) {
        *self.fault.lock().unwrap() = Some((kind, retry_after));
    }

    pub(crate) fn cut_bodies_after(&self, bytes: usize) {
        *self.cut.lock().unwrap() = Some(bytes);
    }

    async fn pass_gate(&self) {
        struct Waits<'a>(&'a AtomicU64);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waits = Waits(&self.waiting);
        drop(self.gate.read().await);
    }

    fn find(&self, key: &Key) -> Result<Object> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if let Some((kind, wait)) = *self.fault.lock().unwrap() {
            let error = Error::new(kind, "the store says no");
            return Err(match wait {
                Some(wait) => error.with_retry_after(wait),
                None => error,
            });
        }
        let objects = self.objects.lock().unwrap();
        objects.get(key.as_str()).cloned().ok_or_else(|| Error::not_found("no such object"))
    }
}

impl Object {
    fn status(&self) -> Status {
        Status {
            length: self.bytes.len() as u64,
            version: Version::from_etag(&self.etag),
            modified: MODIFIED,
            attributes: Some(Box::new(self.attributes.clone())),
        }
    }
}

#[async_trait]
impl Service for Memory {
    async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        let status = self.find(&request.path.key)?.status();
        Ok(StatReply { status, age: Duration::from_secs(7), outcome: Outcome::Hit })
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadReply> {
        self.pass_gate().await;
        let object = self.find(&request.path.key)?;
        let status = object.status();
        if request.pinned.is_some_and(|pinned| pinned.version != status.version) {
            return Err(Error::stale("overwritten"));
        }
        let range = request.span.resolve(status.length);
        let ByteRange { start, end } = range.unwrap_or(ByteRange::new(0, 0));
        let mut bytes = object.bytes.slice(start as usize..end as usize);
        let mut chunks = Vec::new();
        let mut left = self.cut.lock().unwrap().unwrap_or(usize::MAX);
        while !bytes.is_empty() && left > 0 {
            let bytes = bytes.split_to(bytes.len().min(CHUNK).min(left));
            left -= bytes.len();
            chunks.push(Ok(Chunk::Bytes(StreamedBytes { bytes, lease: None })));
        }
        if left == 0 {
            chunks.push(Err(Error::unavailable("the store went away")));
        }
        let head = ReadHead { status, age: Duration::from_secs(7), range, outcome: Outcome::Miss };
        Ok(ReadReply { head, body: futures::stream::iter(chunks).boxed() })
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let start = match request.start {
            ListStart::Beginning => String::new(),
            ListStart::After(key) => key,
            ListStart::Token(token) => token.strip_prefix("behind ").expect("our own").to_owned(),
        };
        let mut page = ListPage::default();
        let mut last = String::new();
        if request.mount.as_str() == "pond" {
            return Ok(ListReply { page: Arc::new(page), age: Duration::ZERO });
        }
        for (key, object) in self.objects.lock().unwrap().iter() {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            if *key <= start || page.prefixes.last().is_some_and(|p| key.starts_with(p)) {
                continue;
            }
            if page.entries.len() + page.prefixes.len() == request.max as usize {
                page.next = Some(format!("behind {last}"));
                break;
            }
            let delimiter = request.delimiter.as_deref().unwrap_or("\0none");
            if let Some(at) = rest.find(delimiter) {
                let prefix = &key[..request.prefix.len() + at + delimiter.len()];
                last = format!("{prefix}{}", char::MAX);
                page.prefixes.push(prefix.to_owned());
            } else {
                last = key.clone();
                let status = Status { attributes: None, ..object.status() };
                page.entries.push(ListEntry { key: Key::new(key)?, status });
            }
        }
        Ok(ListReply { page: Arc::new(page), age: Duration::from_secs(3) })
    }

    fn note(&self, _reads: RepeatedReads) {}

    async fn count_whole(&self, _: WholeRequest) -> Result<()> {
        Ok(())
    }

    async fn whole(&self, _: WholeRequest) -> Result<Option<Extent>> {
        Ok(None)
    }

    async fn part(&self, request: PartRequest) -> Result<Option<PartReply>> {
        let object = self.find(&request.path.key)?;
        let number = request.number as usize;
        if object.parts.is_empty() {
            return Ok(None);
        }
        let length = *object.parts.get(number - 1).ok_or_else(|| Error::invalid("no such part"))?;
        let start: u64 = object.parts[..number - 1].iter().sum();
        Ok(Some(PartReply {
            status: object.status(),
            range: ByteRange::new(start, start + length),
            count: u32::try_from(object.parts.len()).ok(),
        }))
    }

    async fn load(&self, _: LoadRequest) -> Result<LoadReply> {
        Err(Error::unsupported("not here"))
    }

    async fn free(&self, _: FreeRequest) -> Result<FreeReply> {
        Err(Error::unsupported("not here"))
    }

    async fn explain(&self, _: StatRequest) -> Result<Explanation> {
        Err(Error::unsupported("not here"))
    }

    async fn cache(&self, _: CacheRequest) -> Result<Vec<DiskReport>> {
        Err(Error::unsupported("not here"))
    }

    async fn report(&self) -> Result<WorkerReport> {
        Err(Error::unsupported("not here"))
    }
}

/// A running face over an empty worker.
pub(crate) struct Stage {
    pub(crate) memory: Arc<Memory>,
    pub(crate) address: SocketAddr,
    pub(crate) filesystem: Arc<Filesystem>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<()>>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// Any free port is taken, whatever the settings say.
    pub(crate) async fn with(settings: Settings) -> Self {
        let settings = Settings { address: "127.0.0.1:0".parse().unwrap(), ..settings };
        let memory = Arc::new(Memory::default());
        let filesystem = filesystem(Arc::clone(&memory));
        let mut keys = Keys::new();
        keys.insert(ACCESS, SECRET.into()).unwrap();
        let face = S3Face::bind(settings, keys, Arc::clone(&filesystem)).await.unwrap();
        let address = face.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(face.run(async move { drop(stopped.await) }));
        Self { memory, address, filesystem, stop: Some(stop), task }
    }

    /// How often an operation was counted with this code.
    pub(crate) fn counted(&self, operation: &'static str, code: &str) -> u64 {
        let labels =
            larder_core::metric::FaceLabels { face: "s3", operation, code: code.to_owned() };
        self.filesystem.metrics().face_requests.get_or_create(&labels).get()
    }

    /// Asks the face to end and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        self.task.await.expect("the face does not panic")
    }
}

pub(crate) fn filesystem(memory: Arc<Memory>) -> Arc<Filesystem> {
    let record = |name: &str| MountRecord {
        name: MountName::new(name).unwrap(),
        uri: format!("s3://{name}"),
        endpoint: None,
        freshness: Freshness::default(),
        stale_if_error: None,
        prices: None,
    };
    let member = Member { id: WorkerId(1), weight: 1, address: String::new() };
    let registry = LocalRegistry::new(member, vec![record("lake"), record("pond")]);
    Filesystem::new(Parts {
        registry: Arc::new(registry),
        worker: memory,
        budget: MemoryBudget::new(64 << 20),
        clock: Clock::system(),
        metrics: Arc::new(Metrics::new()),
    })
}
