// SPDX-License-Identifier: Apache-2.0
//! A store in memory behind the interface of a worker, and a mount of it that is always taken
//! away again.

use std::{
    collections::BTreeMap,
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_client::{
    Filesystem, MountRecord, Parts,
    message::{
        CacheRequest, DiskReport, Explanation, FreeReply, FreeRequest, ListEntry, ListPage,
        ListReply, ListRequest, ListStart, LoadReply, LoadRequest, Outcome, PartReply, PartRequest,
        ReadHead, ReadReply, ReadRequest, RepeatedReads, StatReply, StatRequest, WholeRequest,
        WorkerReport,
    },
};
use larder_cluster::{
    member::{Member, WorkerId},
    registry::local::LocalRegistry,
    wire::{
        body::{Chunk, StreamedBytes},
        service::Service,
    },
};
use larder_core::{
    ByteRange, Clock, Error, Extent, Freshness, Key, MemoryBudget, Metrics, Result, Status,
    UnixMillis, Version, crc32c,
};
use larder_fuse::{FuseFace, Settings};

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Requests are answered, but not within the first poll.
    Slow,
    /// Nothing is ever answered.
    Silent,
    /// Every request fails.
    Down,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stats: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) wholes: AtomicU64,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Bytes,
    version: u64,
    modified: u64,
}

/// A local file, and a hold that tells whether somebody reads it.
type LocalCopy = (Arc<fs::File>, Arc<()>);

/// A worker whose store is a map.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: Mutex<BTreeMap<String, Content>>,
    /// What listings still show for a key: an older version.
    listed_before: Mutex<BTreeMap<String, Status>>,
    mood: Mutex<Mood>,
    versions: AtomicU64,
    /// Keys that lie whole in a local file.
    local: Mutex<BTreeMap<String, LocalCopy>>,
    /// Pages that readers found to be bad.
    pub(crate) suspects: Mutex<Vec<u32>>,
    pub(crate) counts: Counts,
}

impl Store {
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let version = self.versions.fetch_add(1, Ordering::SeqCst) + 1;
        let modified = 1_700_000_000_000 + version * 1000;
        let content = Content { bytes: bytes.into(), version, modified };
        self.objects.lock().unwrap().insert(key.to_owned(), content);
    }

    /// Overwrites, while listings go on showing what was there before.
    pub(crate) fn put_behind_listings(&self, key: &str, bytes: impl Into<Bytes>) {
        let before = self.status(key).unwrap();
        self.listed_before.lock().unwrap().insert(key.to_owned(), before);
        self.put(key, bytes);
    }

    /// Puts the object's bytes into a local file too; answers the file.
    pub(crate) fn keep(&self, key: &str) -> Arc<fs::File> {
        let bytes = self.objects.lock().unwrap()[key].bytes.clone();
        let file = Arc::new(tempfile::tempfile().unwrap());
        std::os::unix::fs::FileExt::write_all_at(&*file, &bytes, 0).unwrap();
        let local = (Arc::clone(&file), Arc::new(()));
        self.local.lock().unwrap().insert(key.to_owned(), local);
        file
    }

    /// Whether somebody reads the local file of this object.
    pub(crate) fn is_held(&self, key: &str) -> bool {
        Arc::strong_count(&self.local.lock().unwrap()[key].1) > 1
    }

    pub(crate) fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key);
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn status(&self, key: &str) -> Result<Status> {
        self.find(key).map(|(status, _)| status)
    }

    /// A version and its bytes: of one moment, for others overwrite it.
    fn find(&self, key: &str) -> Result<(Status, Bytes)> {
        let objects = self.objects.lock().unwrap();
        let content = objects.get(key).ok_or_else(|| Error::not_found("no such key"))?;
        let status = Status {
            length: content.bytes.len() as u64,
            version: Version::new(content.version.to_string()),
            modified: UnixMillis(content.modified),
            attributes: None,
        };
        Ok((status, content.bytes.clone()))
    }

    async fn pass(&self) -> Result<()> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(()),
            Mood::Slow => {
                tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>())
                    .await
                    .unwrap_err();
                Ok(())
            }
            Mood::Silent => std::future::pending().await,
            Mood::Down => Err(Error::unavailable("the store is down")),
        }
    }

    fn page(&self, request: &ListRequest) -> ListPage {
        let objects = self.objects.lock().unwrap();
        let start = match &request.start {
            ListStart::Beginning => Bound::Unbounded,
            ListStart::After(key) | ListStart::Token(key) => Bound::Excluded(key.clone()),
        };
        let mut page = ListPage::default();
        let mut last = String::new();
        for key in objects.range((start, Bound::Unbounded)).map(|(key, _)| key) {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            let cut = request.delimiter.as_ref().and_then(|delimiter| rest.find(delimiter));
            let prefix = cut.map(|at| format!("{}{}", request.prefix, &rest[..=at]));
            if prefix.is_some() && page.prefixes.last() == prefix.as_ref() {
                last = key.clone();
                continue;
            }
            if page.entries.len() + page.prefixes.len() == request.max as usize {
                page.next = Some(last);
                break;
            }
            match prefix {
                Some(prefix) => page.prefixes.push(prefix),
                None => page.entries.push(self.listed(key, &objects[key])),
            }
            last = key.clone();
        }
        page
    }

    fn listed(&self, key: &str, content: &Content) -> ListEntry {
        let now = Status {
            length: content.bytes.len() as u64,
            version: Version::new(content.version.to_string()),
            modified: UnixMillis(content.modified),
            attributes: None,
        };
        let status = self.listed_before.lock().unwrap().get(key).cloned().unwrap_or(now);
        ListEntry { key: Key::new(key).unwrap(), status }
    }
}

#[async_trait]
impl Service for Store {
    async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        self.counts.stats.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let status = self.status(request.path.key.as_str())?;
        Ok(StatReply { status, age: Duration::ZERO, outcome: Outcome::Hit })
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadReply> {
        self.counts.reads.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        let suspects = request.suspects.iter().map(|page| page.0);
        self.suspects.lock().unwrap().extend(suspects);
        let key = request.path.key.as_str();
        let (status, bytes) = self.find(key)?;
        if request.pinned.is_some_and(|pinned| pinned.version != status.version) {
            return Err(Error::stale("overwritten"));
        }
        let range = request.span.resolve(status.length);
        let cut = |range: ByteRange| {
            let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            Ok(Chunk::Bytes(StreamedBytes { bytes: bytes.slice(part), lease: None }))
        };
        let body = stream::iter(range.map(cut)).boxed();
        let head = ReadHead { status, age: Duration::ZERO, range, outcome: Outcome::Hit };
        Ok(ReadReply { head, body })
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        self.counts.lists.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        Ok(ListReply { page: Arc::new(self.page(&request)), age: Duration::ZERO })
    }

    fn note(&self, _reads: RepeatedReads) {}

    async fn count_whole(&self, _: WholeRequest) -> Result<()> {
        self.counts.wholes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn whole(&self, request: WholeRequest) -> Result<Option<Extent>> {
        let key = request.path.key.as_str();
        let Some((file, hold)) = self.local.lock().unwrap().get(key).cloned() else {
            return Ok(None);
        };
        if self.status(key)?.version != request.status.version {
            return Ok(None);
        }
        let bytes = self.objects.lock().unwrap()[key].bytes.clone();
        let range = ByteRange::new(0, bytes.len() as u64);
        let checksums = bytes.chunks(65536).map(crc32c).collect();
        Ok(Some(Extent { file, offset: 0, range, checksums, hold: Some(hold), validity: None }))
    }

    async fn part(&self, _: PartRequest) -> Result<Option<PartReply>> {
        Ok(None)
    }

    async fn load(&self, _: LoadRequest) -> Result<LoadReply> {
        Ok(LoadReply::default())
    }

    async fn free(&self, _: FreeRequest) -> Result<FreeReply> {
        Ok(FreeReply::default())
    }

    async fn explain(&self, request: StatRequest) -> Result<Explanation> {
        let status = self.status(request.path.key.as_str()).ok();
        Ok(Explanation {
            uri: format!("mem://{}", request.path.key),
            path: request.path,
            owner: "here".into(),
            age: status.as_ref().map(|_| Duration::from_millis(7)),
            status,
            freshness: "fresh".into(),
            resident_pages: 1,
            total_pages: 2,
            resident_bytes: 65536,
            fetches: 0,
            rule: None,
        })
    }

    async fn cache(&self, _: CacheRequest) -> Result<Vec<DiskReport>> {
        Err(Error::unsupported("not here"))
    }

    async fn report(&self) -> Result<WorkerReport> {
        Err(Error::unsupported("not here"))
    }
}

/// A mount with one mount in it, `lake`, and what stands behind it. Unmounts first of all when it
/// is dropped, also by a panic.
pub(crate) struct Mounted {
    pub(crate) face: Option<FuseFace>,
    pub(crate) store: Arc<Store>,
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) directory: tempfile::TempDir,
}

/// Whether this machine can mount; says so visibly when it can't.
pub(crate) fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("SKIPPED: there is no /dev/fuse here");
    }
    can
}

pub(crate) fn filesystem(store: &Arc<Store>, freshness: Freshness) -> Arc<Filesystem> {
    let member = Member { id: WorkerId(1), weight: 1, address: String::new() };
    let record = MountRecord {
        name: larder_core::MountName::new("lake").unwrap(),
        uri: "mem://".into(),
        endpoint: None,
        freshness,
        stale_if_error: None,
        prices: None,
    };
    Filesystem::new(Parts {
        registry: Arc::new(LocalRegistry::new(member, vec![record])),
        worker: Arc::clone(store) as Arc<dyn Service>,
        budget: MemoryBudget::new(64 << 20),
        clock: Clock::system(),
        metrics: Arc::new(Metrics::new()),
    })
}

pub(crate) fn settings() -> Settings {
    Settings { operation_timeout_s: 1.try_into().unwrap(), ..Settings::default() }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

impl Mounted {
    pub(crate) fn new(freshness: Freshness) -> Self {
        Self::with(freshness, &settings())
    }

    pub(crate) fn with(freshness: Freshness, settings: &Settings) -> Self {
        let store = Arc::new(Store::default());
        let filesystem = filesystem(&store, freshness);
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        let mut mounted = Self { face: None, store, filesystem, runtime, directory };
        let (filesystem, handle) = (Arc::clone(&mounted.filesystem), mounted.runtime.handle());
        let face = FuseFace::mount(settings, mounted.directory.path(), filesystem, handle.clone());
        mounted.face = Some(face.unwrap());
        assert!(is_mounted(mounted.directory.path()), "no mount, no result");
        mounted
    }

    /// Mounts the same once more.
    pub(crate) fn mount_at(&self, point: &Path) -> Result<FuseFace> {
        let filesystem = Arc::clone(&self.filesystem);
        FuseFace::mount(&settings(), point, filesystem, self.runtime.handle().clone())
    }

    /// A path below the mount `lake`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("lake").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        assert!(is_mounted(self.directory.path()), "no mount, no result");
        fs::read(self.path(name))
    }

    /// The names in a directory, in the order they came.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn count(&self, operation: &'static str, code: &str) -> u64 {
        let labels =
            larder_core::metric::FaceLabels { face: "fuse", operation, code: code.to_owned() };
        self.filesystem.metrics().face_requests.get_or_create(&labels).get()
    }
}

/// Whether a FUSE mount of ours lies exactly here.
pub(crate) fn is_mounted(point: &Path) -> bool {
    let point = point.to_str().unwrap();
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    lines.lines().any(|line| {
        line.split(' ').nth(4) == Some(point) && line.contains(" - fuse.larder larder ")
    })
}
