// SPDX-License-Identifier: Apache-2.0
//! An under storage that counts requests and bytes, and can be slow or broken on demand.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use larder_core::{Attributes, Clock, Error, Key, Result, Span, Status};
use larder_ufs::{
    memory::MemoryStore,
    under_storage::{
        ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage,
    },
};

#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) memory: MemoryStore,
    pub(crate) stats: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) lists: AtomicU64,
    /// Body bytes that were taken from this store.
    pub(crate) bytes: Arc<AtomicU64>,
    pub(crate) down: AtomicBool,
    /// Takes requests and never answers.
    pub(crate) silent: AtomicBool,
    /// Bodies break after so many bytes, once each.
    pub(crate) breaks: Mutex<Vec<u64>>,
    /// Body chunks are cut to this length.
    pub(crate) chunk_max: Mutex<usize>,
    /// The next body gives so many bytes and then nothing, without an end.
    pub(crate) stalls_after: Mutex<Option<usize>>,
    /// What each read asked for.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Wait before each body chunk.
    pub(crate) chunk_wait: Mutex<Duration>,
    /// The way to the store, where its bandwidth is limited.
    pub(crate) line: Mutex<Option<Arc<Line>>>,
}

/// A way of limited bandwidth. Time on it is a manual clock's and passes only while everybody
/// waits for bytes, so what is measured depends on nothing else.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) clock: Clock,
    /// Time between two chunks of one body.
    pub(crate) each: Duration,
    /// Time between two chunks of all bodies.
    pub(crate) all: Duration,
    /// Time until the first chunk of a body, beside that.
    pub(crate) first: Duration,
    /// When the line is free again.
    free_at: Mutex<Duration>,
    /// Bodies that wait, by when their next chunk is here.
    waiting: Mutex<BTreeSet<(Duration, u64)>>,
    bodies: AtomicU64,
    /// How many waited at once at most.
    pub(crate) most: AtomicU64,
}

impl Line {
    pub(crate) fn new(
        clock: Clock,
        first: Duration,
        (each, all): (Duration, Duration),
    ) -> Arc<Self> {
        Arc::new(Self {
            clock,
            each,
            all,
            first,
            free_at: Mutex::default(),
            waiting: Mutex::default(),
            bodies: AtomicU64::new(0),
            most: AtomicU64::new(0),
        })
    }

    /// Waits for the next chunk of a body.
    async fn chunk(&self, body: u64, is_first: bool) {
        let first = if is_first { self.first } else { Duration::ZERO };
        let now = self.clock.elapsed();
        let ready = {
            let mut free_at = self.free_at.lock().unwrap();
            *free_at = (*free_at).max(now) + self.all;
            (*free_at).max(now + self.each) + first
        };
        let waiter = Waiter { line: self, entry: (ready, body) };
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.insert(waiter.entry);
            self.most.fetch_max(waiting.len() as u64, Ordering::SeqCst);
        }
        while self.clock.elapsed() < ready {
            // Everybody else may do what there is to do first.
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            let next = self.waiting.lock().unwrap().first().copied();
            if next == Some(waiter.entry) {
                self.clock.advance(ready.saturating_sub(self.clock.elapsed()));
            }
        }
    }
}

struct Waiter<'a> {
    line: &'a Line,
    entry: (Duration, u64),
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.line.waiting.lock().unwrap().remove(&self.entry);
    }
}

impl Counting {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryStore::new("kitchen", Clock::system()),
            stats: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            bytes: Arc::default(),
            down: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            breaks: Mutex::default(),
            chunk_max: Mutex::new(usize::MAX),
            stalls_after: Mutex::default(),
            asked: Mutex::default(),
            chunk_wait: Mutex::default(),
            line: Mutex::default(),
        })
    }

    pub(crate) fn requests(&self) -> u64 {
        [&self.stats, &self.reads, &self.lists].iter().map(|n| n.load(Ordering::SeqCst)).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    fn count(&self, counter: &AtomicU64) -> Result<()> {
        counter.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("the store is down"));
        }
        Ok(())
    }

    async fn answers(&self) {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }

    fn counted(&self, body: ByteStream) -> ByteStream {
        let bytes = Arc::clone(&self.bytes);
        let wait = *self.chunk_wait.lock().unwrap();
        let mut left = self.breaks.lock().unwrap().pop().unwrap_or(u64::MAX);
        let clock = Clock::system();
        let line = self.line.lock().unwrap().clone();
        let number = line.as_ref().map_or(0, |line| line.bodies.fetch_add(1, Ordering::SeqCst));
        let body = cut(body, *self.chunk_max.lock().unwrap());
        let body = match self.stalls_after.lock().unwrap().take() {
            Some(bytes) => stalling(body, bytes),
            None => body,
        };
        let mut is_first = true;
        body.then(move |chunk| {
            let is_first = std::mem::take(&mut is_first);
            let (clock, line) = (clock.clone(), line.clone());
            async move {
                if let Some(line) = line {
                    line.chunk(number, is_first).await;
                }
                if !wait.is_zero() {
                    clock.sleep(wait).await;
                }
                chunk
            }
        })
        .map(move |chunk| {
            let chunk = chunk?;
            if (chunk.len() as u64) > left {
                return Err(Error::unavailable("connection reset"));
            }
            left -= chunk.len() as u64;
            bytes.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            Ok(chunk)
        })
        .boxed()
    }
}

/// A body in chunks of at most `max` bytes.
fn cut(body: ByteStream, max: usize) -> ByteStream {
    body.flat_map(move |chunk| {
        let parts: Vec<_> = match chunk {
            Ok(chunk) => (0..chunk.len())
                .step_by(max)
                .map(|start| Ok(chunk.slice(start..chunk.len().min(start.saturating_add(max)))))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(parts)
    })
    .boxed()
}

/// The first `left` bytes of a body, and then silence.
fn stalling(body: ByteStream, mut left: usize) -> ByteStream {
    let cut = body.map(move |chunk| {
        let mut chunk = chunk?;
        chunk.truncate(left);
        left -= chunk.len();
        Ok(chunk)
    });
    let some = cut
        .take_while(|chunk| std::future::ready(!chunk.as_ref().is_ok_and(bytes::Bytes::is_empty)));
    some.chain(futures::stream::pending()).boxed()
}

#[async_trait]
impl UnderStorage for Counting {
    async fn stat(&self, key: &Key) -> Result<Status> {
        self.count(&self.stats)?;
        self.answers().await;
        self.memory.stat(key).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        self.count(&self.reads)?;
        self.answers().await;
        self.asked.lock().unwrap().push(format!("{span:?} {condition:?}"));
        Ok(match self.memory.read(key, span, condition).await? {
            ReadOutcome::Content(mut content) => {
                content.body = self.counted(content.body);
                ReadOutcome::Content(content)
            }
            other => other,
        })
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        self.memory.part(key, number).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        self.count(&self.lists)?;
        self.memory.list(request).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        self.memory.write(key, length, body, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.memory.delete(key).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        self.memory.copy(from, to).await
    }

    fn uri(&self, key: &Key) -> String {
        self.memory.uri(key)
    }
}
