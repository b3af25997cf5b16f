// SPDX-License-Identifier: Apache-2.0
//! Counts what is asked of a store: requests by outcome, seconds to the reply's head, body bytes.
//!
//! The layer counts each call as one request. An adapter whose call takes further requests (the
//! HEAD behind a PUT, the parts of a large upload) counts those itself through its [`Meter`], so
//! that the sum equals what the store's own log says.

use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use larder_core::{
    Attributes, Clock, ErrorKind, Key, Metrics, MountName, Result, Span, Status,
    metric::{StoreLabels, StoreOutcomeLabels},
};

use crate::{ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage};

/// Counts requests of one mount. Cheap to clone.
#[derive(Clone)]
pub struct Meter {
    mount: Arc<str>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Meter {
    /// A meter for the requests of `mount`.
    #[must_use]
    pub fn new(mount: &MountName, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { mount: mount.as_str().into(), metrics, clock }
    }

    /// Awaits one request and counts it under `operation`; as `cancelled`, when it is dropped
    /// before its answer.
    ///
    /// # Errors
    /// What the request answered.
    pub async fn count<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let start = self.clock.elapsed();
        let mut ending = Ending { meter: self, operation, outcome: "cancelled" };
        let answer = request.await;
        ending.outcome = answer.as_ref().map_or_else(|error| outcome(error.kind()), |_| "ok");
        let seconds = self.clock.elapsed().saturating_sub(start).as_secs_f64();
        self.metrics.store_seconds.get_or_create(&self.labels(operation)).observe(seconds);
        answer
    }

    fn labels(&self, operation: &'static str) -> StoreLabels {
        StoreLabels { mount: self.mount.to_string(), operation }
    }

    /// Counts the bytes of a body as they pass.
    fn body(&self, body: ByteStream) -> ByteStream {
        let bytes = self.metrics.store_read_bytes.get_or_create(&self.labels("read")).clone();
        body.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                bytes.inc_by(chunk.len() as u64);
            }
        })
        .boxed()
    }
}

/// How a request ended, counted when it is let go of: by its answer, or by a caller that wants it
/// no more (a reader that left, a hedge that lost). The store has seen those too.
struct Ending<'a> {
    meter: &'a Meter,
    operation: &'static str,
    outcome: &'static str,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mount = self.meter.mount.to_string();
        let Self { operation, outcome, .. } = *self;
        let labels = StoreOutcomeLabels { mount, operation, outcome };
        self.meter.metrics.store_requests.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({})", self.mount)
    }
}

/// The label of an error.
fn outcome(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::NotADirectory => "not_a_directory",
        ErrorKind::IsADirectory => "is_a_directory",
        ErrorKind::NotEmpty => "not_empty",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Denied => "denied",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Stale => "stale",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Internal => "internal",
    }
}

/// A store whose requests and bytes are counted.
pub struct Metered<S> {
    inner: S,
    meter: Meter,
}

impl<S: UnderStorage> Metered<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl<S: fmt::Debug> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage> UnderStorage for Metered<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        self.meter.count("stat", self.inner.stat(key)).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let outcome = self.meter.count("read", self.inner.read(key, span, condition)).await?;
        match outcome {
            ReadOutcome::Content(mut content) => {
                content.body = self.meter.body(content.body);
                Ok(ReadOutcome::Content(content))
            }
            other => Ok(other),
        }
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        self.meter.count("stat", self.inner.part(key, number)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        self.meter.count("list", self.inner.list(request)).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        self.meter.count("write", self.inner.write(key, length, body, attributes)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.meter.count("delete", self.inner.delete(key)).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        self.meter.count("copy", self.inner.copy(from, to)).await
    }

    fn uri(&self, key: &Key) -> String {
        self.inner.uri(key)
    }
}
