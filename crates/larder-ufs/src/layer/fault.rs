// SPDX-License-Identifier: Apache-2.0
//! Breaks a store on purpose, for tests: named toxics, on chosen calls, and a count of all calls.
//!
//! A rule says which calls it meets, counted from the moment it was added; several may meet one
//! call and act in the order they were added. Nothing here is random: what happens is written in
//! the test.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_core::{Attributes, Clock, Error, ErrorKind, Key, Result, Span, Status, Version};

use crate::{ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage};

/// The calls of the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`UnderStorage::stat`]
    Stat,
    /// [`UnderStorage::read`]
    Read,
    /// [`UnderStorage::part`]
    Part,
    /// [`UnderStorage::list`]
    List,
    /// [`UnderStorage::write`]
    Write,
    /// [`UnderStorage::delete`]
    Delete,
    /// [`UnderStorage::copy`]
    Copy,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toxic {
    /// The call fails with this kind; the store is not asked.
    Fail(ErrorKind),
    /// The same, and the error asks for this wait.
    FailWithRetryAfter(ErrorKind, Duration),
    /// The store does what was asked, then the call fails: the answer is lost.
    LoseAnswer(ErrorKind),
    /// The store is asked this much later.
    Delay(Duration),
    /// The call never ends.
    Hang,
    /// The body fails with `Unavailable` after so many bytes.
    CutBody(u64),
    /// The body stops coming after so many bytes and never ends.
    StallBody(u64),
    /// Each chunk of the body comes this much later.
    SlowBody(Duration),
    /// All of the body comes as one chunk.
    OneChunk,
    /// The body's byte at this place (counted from the body's start) has one bit flipped.
    FlipBit(u64),
    /// The status tells this version instead of the true one.
    WrongVersion(Version),
}

/// Which calls meet which toxic.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<Operation>,
    skip: u64,
    times: u64,
    toxic: Toxic,
}

impl Rule {
    /// Every call of `operation` from now on.
    #[must_use]
    pub fn on(operation: Operation, toxic: Toxic) -> Self {
        Self { operation: Some(operation), skip: 0, times: u64::MAX, toxic }
    }

    /// Every call of any kind from now on.
    #[must_use]
    pub fn on_any(toxic: Toxic) -> Self {
        Self { operation: None, skip: 0, times: u64::MAX, toxic }
    }

    /// Spares the first `calls` of them.
    #[must_use]
    pub fn skip(self, calls: u64) -> Self {
        Self { skip: calls, ..self }
    }

    /// Ends after so many hits.
    #[must_use]
    pub fn times(self, hits: u64) -> Self {
        Self { times: hits, ..self }
    }

    /// Whether it meets this call; counts.
    fn hits(&mut self, operation: Operation) -> bool {
        if self.operation.is_some_and(|own| own != operation) || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// The rules of a [`Faulty`] store and the calls it met. Cheap to clone; a test keeps one.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Rule>,
    calls: Vec<Operation>,
}

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.inner().rules.push(rule);
    }

    /// Forgets all rules; the counts stay.
    pub fn clear(&self) {
        self.inner().rules.clear();
    }

    /// Calls of `operation` so far, those that failed by a rule included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> usize {
        self.inner().calls.iter().filter(|call| **call == operation).count()
    }

    /// All calls so far.
    #[must_use]
    pub fn all_calls(&self) -> usize {
        self.inner().calls.len()
    }

    fn meet(&self, operation: Operation) -> Vec<Toxic> {
        let mut inner = self.inner();
        inner.calls.push(operation);
        let hit = inner.rules.iter_mut().filter_map(|rule| {
            let hits = rule.hits(operation);
            hits.then(|| rule.toxic.clone())
        });
        hit.collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store that breaks as its [`Faults`] say.
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
    clock: Clock,
}

impl<S: UnderStorage> Faulty<S> {
    /// Wraps `inner`; `faults` is kept by the test too.
    pub fn new(inner: S, faults: Faults, clock: Clock) -> Self {
        Self { inner, faults, clock }
    }

    /// What happens before the store is asked.
    async fn before(&self, operation: Operation) -> Result<Vec<Toxic>> {
        let toxics = self.faults.meet(operation);
        for toxic in &toxics {
            match toxic {
                Toxic::Fail(kind) => return Err(broken(*kind)),
                Toxic::FailWithRetryAfter(kind, wait) => {
                    return Err(broken(*kind).with_retry_after(*wait));
                }
                Toxic::Delay(time) => self.clock.sleep(*time).await,
                Toxic::Hang => std::future::pending::<()>().await,
                _ => {}
            }
        }
        Ok(toxics)
    }

    fn spoil_body(&self, body: ByteStream, toxic: &Toxic) -> ByteStream {
        let clock = self.clock.clone();
        match toxic {
            Toxic::CutBody(after) => {
                let end = stream::iter([Err(broken(ErrorKind::Unavailable))]);
                first_bytes(body, *after).chain(end).boxed()
            }
            Toxic::StallBody(after) => first_bytes(body, *after).chain(stream::pending()).boxed(),
            Toxic::SlowBody(time) => {
                let time = *time;
                body.then(move |chunk| {
                    let clock = clock.clone();
                    async move {
                        clock.sleep(time).await;
                        chunk
                    }
                })
                .boxed()
            }
            Toxic::OneChunk => stream::once(joined(body)).boxed(),
            Toxic::FlipBit(at) => flip(body, *at),
            _ => body,
        }
    }
}

fn broken(kind: ErrorKind) -> Error {
    Error::new(kind, "this call was broken on purpose by a test")
}

fn lost<T>(toxics: &[Toxic], answer: T) -> Result<T> {
    let kind = toxics.iter().find_map(|toxic| match toxic {
        Toxic::LoseAnswer(kind) => Some(*kind),
        _ => None,
    });
    kind.map_or(Ok(answer), |kind| Err(broken(kind)))
}

fn mistold(toxics: &[Toxic], mut status: Status) -> Status {
    for toxic in toxics {
        if let Toxic::WrongVersion(version) = toxic {
            status.version = version.clone();
        }
    }
    status
}

/// The first `count` bytes of a body, then its end.
fn first_bytes(body: ByteStream, count: u64) -> ByteStream {
    stream::unfold((body, count), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = match body.next().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(error), (body, 0))),
        };
        let length = left.min(chunk.len() as u64);
        // At most the length of the chunk, which is a usize.
        Some((Ok(chunk.slice(..length as usize)), (body, left - length)))
    })
    .boxed()
}

async fn joined(mut body: ByteStream) -> Result<Bytes> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.into())
}

fn flip(body: ByteStream, at: u64) -> ByteStream {
    let mut start = 0_u64;
    body.map(move |chunk| {
        let chunk = chunk?;
        let place = at.checked_sub(start).filter(|place| *place < chunk.len() as u64);
        start += chunk.len() as u64;
        let Some(place) = place else { return Ok(chunk) };
        let mut bytes = chunk.to_vec();
        // Inside the chunk, whose length is a usize.
        bytes[place as usize] ^= 1;
        Ok(Bytes::from(bytes))
    })
    .boxed()
}

impl<S: fmt::Debug> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage> UnderStorage for Faulty<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        let toxics = self.before(Operation::Stat).await?;
        lost(&toxics, mistold(&toxics, self.inner.stat(key).await?))
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let toxics = self.before(Operation::Read).await?;
        let outcome = match self.inner.read(key, span, condition).await? {
            ReadOutcome::Content(mut content) => {
                content.status = mistold(&toxics, content.status);
                for toxic in &toxics {
                    content.body = self.spoil_body(content.body, toxic);
                }
                ReadOutcome::Content(content)
            }
            other => other,
        };
        lost(&toxics, outcome)
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        let toxics = self.before(Operation::Part).await?;
        lost(&toxics, self.inner.part(key, number).await?)
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let toxics = self.before(Operation::List).await?;
        lost(&toxics, self.inner.list(request).await?)
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        let toxics = self.before(Operation::Write).await?;
        let status = self.inner.write(key, length, body, attributes).await?;
        lost(&toxics, mistold(&toxics, status))
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let toxics = self.before(Operation::Delete).await?;
        self.inner.delete(key).await?;
        lost(&toxics, ())
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        let toxics = self.before(Operation::Copy).await?;
        let status = self.inner.copy(from, to).await?;
        lost(&toxics, mistold(&toxics, status))
    }

    fn uri(&self, key: &Key) -> String {
        self.inner.uri(key)
    }
}
