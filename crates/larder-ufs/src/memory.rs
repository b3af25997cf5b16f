// SPDX-License-Identifier: Apache-2.0
//! A store in memory: the reference for the conformance suite and a stand-in for tests.
//!
//! It holds every raw key, keeps attributes, and gives each write a new version, also when the
//! bytes are the same, so that a test can tell two writes apart. Nothing is ever lost or late:
//! put [`crate::layer::fault`] around it for that.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use larder_core::{
    Attributes, ByteRange, Clock, Error, Key, Result, Span, Status, UnixMillis, Version,
};

use crate::{
    ByteStream, Condition, Content, ListEntry, ListPage, ListRequest, ListStart, PartInfo,
    ReadOutcome, UnderStorage,
};

/// Body chunks have this many bytes, so that tests see more than one.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    status: Status,
}

/// Objects in memory.
#[derive(Debug)]
pub struct MemoryStore {
    name: String,
    clock: Clock,
    objects: Mutex<BTreeMap<String, Object>>,
    writes: AtomicU64,
}

impl MemoryStore {
    /// An empty store; `name` stands in its URIs (`memory://name/key`).
    #[must_use]
    pub fn new(name: &str, clock: Clock) -> Self {
        let name = name.to_owned();
        Self { name, clock, objects: Mutex::default(), writes: AtomicU64::new(0) }
    }

    /// Stores `bytes` under `key` at once.
    pub fn put(&self, key: &Key, bytes: impl Into<Bytes>) -> Status {
        self.insert(key, bytes.into(), &Attributes::default())
    }

    fn insert(&self, key: &Key, bytes: Bytes, attributes: &Attributes) -> Status {
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        let sum = larder_core::crc32c(&bytes);
        let status = Status {
            length: bytes.len() as u64,
            version: Version::new(format!("{sum:08x}{count:024x}")),
            modified: UnixMillis(self.clock.now().0 / 1000 * 1000),
            attributes: Some(Box::new(attributes.clone())),
        };
        let object = Object { bytes, status: status.clone() };
        self.objects().insert(key.as_str().to_owned(), object);
        status
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &Key) -> Result<Object> {
        let object = self.objects().get(key.as_str()).cloned();
        object.ok_or_else(|| Error::not_found(format!("{} does not exist", self.uri(key))))
    }
}

fn chunks(bytes: Bytes) -> ByteStream {
    let whole = (0..bytes.len()).step_by(CHUNK);
    let parts: Vec<_> =
        whole.map(|start| Ok(bytes.slice(start..bytes.len().min(start + CHUNK)))).collect();
    futures::stream::iter(parts).boxed()
}

fn refuse_root(key: &Key) -> Result<()> {
    if key.is_root() {
        return Err(Error::invalid("an empty key names the mount itself, not a file"));
    }
    Ok(())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderStorage for MemoryStore {
    async fn stat(&self, key: &Key) -> Result<Status> {
        Ok(self.find(key)?.status)
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let Object { bytes, status } = self.find(key)?;
        match condition {
            Condition::Match(version) if *version != status.version => {
                return Err(Error::stale(format!("{} has a new version", self.uri(key))));
            }
            Condition::NoneMatch(version) if *version == status.version => {
                return Ok(ReadOutcome::Unchanged);
            }
            _ => {}
        }
        let Some(range) = span.resolve(status.length) else {
            return Ok(ReadOutcome::OutOfRange(status));
        };
        // The range lies inside bytes that are in memory, so it fits in a usize.
        let body = chunks(bytes.slice(range.start as usize..range.end as usize));
        Ok(ReadOutcome::Content(Content { status, range, body }))
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        let status = self.find(key)?.status;
        if number != 1 {
            return Err(Error::invalid(format!("{} has only one part", self.uri(key))));
        }
        let range = ByteRange::new(0, status.length);
        Ok(Some((status, PartInfo { range, count: None })))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let objects = self.objects();
        let prefix = request.prefix.as_str();
        let (after, rolled) = match &request.start {
            ListStart::Beginning => (None, None),
            ListStart::After(key) => (Some(key.as_str()), None),
            ListStart::Token(token) => match token.split_at_checked(1) {
                Some(("k", key)) => (Some(key), None),
                Some(("p", rolled)) => (Some(rolled), Some(rolled)),
                _ => return Err(Error::invalid("the continuation token is not one of ours")),
            },
        };
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = ListPage::default();
        let mut last = String::new();
        for (key, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            if rolled.is_some_and(|rolled| key.starts_with(rolled)) {
                continue;
            }
            let group = request.delimiter.as_deref().and_then(|delimiter| {
                let at = key[prefix.len()..].find(delimiter)?;
                Some(&key[..prefix.len() + at + delimiter.len()])
            });
            if group.is_some() && group == page.prefixes.last().map(String::as_str) {
                continue;
            }
            if page.entries.len() + page.prefixes.len() >= request.max.clamp(1, 1000) as usize {
                page.next = Some(last);
                break;
            }
            match group {
                Some(group) => {
                    last = format!("p{group}");
                    page.prefixes.push(group.to_owned());
                }
                None => {
                    last = format!("k{key}");
                    let status = Status { attributes: None, ..object.status.clone() };
                    page.entries.push(ListEntry { key: Key::new(key)?, status });
                }
            }
        }
        Ok(page)
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        mut body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        refuse_root(key)?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        if bytes.len() as u64 != length {
            let got = bytes.len();
            return Err(Error::invalid(format!("the body has {got} bytes, {length} were told")));
        }
        Ok(self.insert(key, bytes.freeze(), attributes))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.objects().remove(key.as_str());
        Ok(())
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        refuse_root(to)?;
        let Object { bytes, status } = self.find(from)?;
        Ok(self.insert(to, bytes, &status.attributes.unwrap_or_default()))
    }

    fn uri(&self, key: &Key) -> String {
        format!("memory://{}/{key}", self.name)
    }
}
