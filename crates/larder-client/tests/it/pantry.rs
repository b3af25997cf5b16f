// SPDX-License-Identifier: Apache-2.0
//! A worker for tests: every even page of a file is an extent of a local file, every odd page
//! bytes; pages can be made rotten until they are reported.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_client::{Filesystem, Parts};
use larder_cluster::{
    member::{Member, WorkerId},
    mounts::MountRecord,
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
    ByteRange, Clock, Error, Extent, Freshness, Generations, Key, MemoryBudget, Metrics, MountName,
    PAGE_SIZE, PageIndex, Path, Result, Status, UnixMillis, Version, crc32c, page,
};

#[derive(Debug, Default)]
pub(crate) struct Pantry {
    files: Mutex<BTreeMap<String, Jar>>,
    /// Pages whose extent carries a wrong checksum until they are named as suspects.
    pub(crate) rotten: Mutex<Vec<PageIndex>>,
    pub(crate) reads: Mutex<Vec<ReadRequest>>,
    /// Bodies end after so many chunks, without an error.
    pub(crate) chunks_max: Mutex<Option<usize>>,
    pub(crate) lists: Mutex<u32>,
    /// Files are handed out as local files too.
    pub(crate) whole: Mutex<bool>,
    /// Loads never end.
    pub(crate) loads_hang: Mutex<bool>,
    /// Extents tell whether they are still valid.
    pub(crate) generations: Mutex<Option<Arc<Generations>>>,
    /// Repeated reads that were counted, and their bytes.
    pub(crate) repeated: Mutex<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Jar {
    bytes: Bytes,
    file: Arc<File>,
    status: Status,
}

pub(crate) fn mount() -> MountName {
    MountName::new("lake").unwrap()
}

pub(crate) fn path(key: &str) -> Path {
    Path::new(mount(), Key::new(key).unwrap())
}

pub(crate) fn filesystem(pantry: &Arc<Pantry>) -> Arc<Filesystem> {
    filesystem_at(pantry, Clock::system())
}

pub(crate) fn filesystem_at(pantry: &Arc<Pantry>, clock: Clock) -> Arc<Filesystem> {
    let member = Member { id: WorkerId(1), weight: 1, address: String::new() };
    let record = MountRecord {
        name: mount(),
        uri: "memory://pantry".into(),
        endpoint: None,
        freshness: Freshness::default(),
        stale_if_error: None,
        prices: None,
    };
    Filesystem::new(Parts {
        registry: Arc::new(LocalRegistry::new(member, vec![record])),
        worker: Arc::clone(pantry) as Arc<dyn Service>,
        budget: MemoryBudget::new(4 << 20),
        clock,
        metrics: Arc::new(Metrics::new()),
    })
}

impl Pantry {
    /// The local file behind a key.
    pub(crate) fn file(&self, key: &str) -> Arc<File> {
        Arc::clone(&self.files.lock().unwrap()[key].file)
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let status = Status {
            length: bytes.len() as u64,
            version: Version::new(format!("{:08x}", crc32c(bytes))),
            modified: UnixMillis(0),
            attributes: None,
        };
        let jar = Jar { bytes: Bytes::copy_from_slice(bytes), file: Arc::new(file), status };
        self.files.lock().unwrap().insert(key.to_owned(), jar);
    }

    fn jar(&self, path: &Path) -> Result<Jar> {
        let jar = self.files.lock().unwrap().get(path.key.as_str()).cloned();
        jar.ok_or_else(|| Error::not_found(format!("there is no {path}")))
    }

    fn chunk(&self, jar: &Jar, index: PageIndex, part: ByteRange) -> Chunk {
        let whole = index.range(jar.status.length);
        if index.0 % 2 == 1 {
            let bytes = jar.bytes.slice(part.start as usize..part.end as usize);
            return Chunk::Bytes(StreamedBytes { bytes, lease: None });
        }
        let mut checksum = crc32c(&jar.bytes[whole.start as usize..whole.end as usize]);
        if self.rotten.lock().unwrap().contains(&index) {
            checksum ^= 1;
        }
        let extent = Extent {
            file: Arc::clone(&jar.file),
            offset: whole.start,
            range: whole,
            checksums: Box::new([checksum]),
            hold: None,
            validity: self.generations.lock().unwrap().as_ref().map(|all| all.present(0)),
        };
        Chunk::Resident { extent, part }
    }
}

#[async_trait]
impl Service for Pantry {
    async fn stat(&self, request: StatRequest) -> Result<StatReply> {
        let status = self.jar(&request.path)?.status;
        Ok(StatReply { status, age: Duration::ZERO, outcome: Outcome::Hit })
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadReply> {
        self.reads.lock().unwrap().push(request.clone());
        self.rotten.lock().unwrap().retain(|page| !request.suspects.contains(page));
        let jar = self.jar(&request.path)?;
        if !request.suspects.is_empty() {
            jar.file.write_all_at(&jar.bytes, 0).unwrap();
        }
        let range = request.span.resolve(jar.status.length);
        let asked = range.unwrap_or(ByteRange::new(0, 0));
        let pages = page::pages_of(asked).map(PageIndex);
        let chunks = pages.map(|index| {
            let part = index.range(jar.status.length).overlap(asked).unwrap();
            Ok(self.chunk(&jar, index, part))
        });
        let max = self.chunks_max.lock().unwrap().unwrap_or(usize::MAX);
        let chunks: Vec<Result<Chunk>> = chunks.take(max).collect();
        let outcome = Outcome::Hit;
        let head = ReadHead { status: jar.status.clone(), age: Duration::ZERO, range, outcome };
        Ok(ReadReply { head, body: stream::iter(chunks).boxed() })
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        *self.lists.lock().unwrap() += 1;
        let files = self.files.lock().unwrap();
        let mut page = ListPage::default();
        let after = match &request.start {
            ListStart::Beginning => String::new(),
            ListStart::After(key) | ListStart::Token(key) => key.clone(),
        };
        let mut last = String::new();
        for (key, jar) in files.range(request.prefix.clone()..) {
            let Some(rest) = key.strip_prefix(&request.prefix) else { break };
            let split = request.delimiter.as_ref().and_then(|delimiter| rest.find(delimiter));
            let name =
                split.map_or(key.clone(), |at| format!("{}{}", request.prefix, &rest[..=at]));
            if name <= after || page.prefixes.contains(&name) {
                continue;
            }
            if page.entries.len() + page.prefixes.len() == request.max as usize {
                page.next = Some(last);
                break;
            }
            last.clone_from(&name);
            match split {
                Some(_) => page.prefixes.push(name),
                None => page
                    .entries
                    .push(ListEntry { key: Key::new(key).unwrap(), status: jar.status.clone() }),
            }
        }
        Ok(ListReply { page: Arc::new(page), age: Duration::ZERO })
    }

    fn note(&self, reads: RepeatedReads) {
        let mut repeated = self.repeated.lock().unwrap();
        *repeated = (repeated.0 + reads.reads, repeated.1 + reads.bytes);
    }

    async fn count_whole(&self, _: WholeRequest) -> Result<()> {
        Ok(())
    }

    async fn whole(&self, request: WholeRequest) -> Result<Option<Extent>> {
        let jar = self.jar(&request.path)?;
        if jar.status.version != request.status.version || !*self.whole.lock().unwrap() {
            return Ok(None);
        }
        let range = ByteRange::new(0, jar.status.length);
        let checksums = jar.bytes.chunks(PAGE).map(crc32c).collect();
        Ok(Some(Extent { file: jar.file, offset: 0, range, checksums, hold: None, validity: None }))
    }

    async fn part(&self, _request: PartRequest) -> Result<Option<PartReply>> {
        Ok(None)
    }

    async fn load(&self, request: LoadRequest) -> Result<LoadReply> {
        if *self.loads_hang.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        let length = self.jar(&request.path)?.status.length;
        if length == 13 {
            return Err(Error::unavailable("the store did not answer"));
        }
        Ok(LoadReply { length, fetched_bytes: length, not_kept_bytes: 0 })
    }

    async fn free(&self, _request: FreeRequest) -> Result<FreeReply> {
        Ok(FreeReply::default())
    }

    async fn explain(&self, _request: StatRequest) -> Result<Explanation> {
        Err(Error::unsupported("not in this test"))
    }

    async fn cache(&self, _: CacheRequest) -> Result<Vec<DiskReport>> {
        Err(Error::unsupported("not in this test"))
    }

    async fn report(&self) -> Result<WorkerReport> {
        Err(Error::unsupported("not in this test"))
    }
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let random = larder_core::Random::seeded(length as u64);
    (0..length).map(|_| random.next() as u8).collect()
}

pub(crate) const PAGE: usize = PAGE_SIZE as usize;
