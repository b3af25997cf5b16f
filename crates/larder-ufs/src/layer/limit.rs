// SPDX-License-Identifier: Apache-2.0
//! Bounds how many requests a store has under way, bodies included.
//!
//! A place is held until the body ends or is dropped, because that is what occupies a connection
//! there. The wait for a place is bounded too: past it the caller hears `Exhausted`.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use larder_core::{Attributes, Clock, Error, Key, Result, Span, Status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage};

/// How long a request waits for its place.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// A store with a bounded number of requests under way.
pub struct Limited<S> {
    inner: S,
    places: Arc<Semaphore>,
    clock: Clock,
}

impl<S: UnderStorage> Limited<S> {
    /// Wraps `inner`; at most `max` requests at once.
    pub fn new(inner: S, max: u32, clock: Clock) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(max.max(1) as usize)), clock }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        tokio::select! {
            place = Arc::clone(&self.places).acquire_owned() => {
                Ok(place.expect("the semaphore is never closed"))
            }
            () = self.clock.sleep(WAIT_MAX) => Err(Error::exhausted(
                "too many requests to this store are under way; \
                 raise max_concurrent_requests or send fewer at once",
            )),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limited").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage> UnderStorage for Limited<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        let _place = self.place().await?;
        self.inner.stat(key).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let place = self.place().await?;
        match self.inner.read(key, span, condition).await? {
            ReadOutcome::Content(mut content) => {
                // The closure owns the place: it goes when the stream ends or is dropped.
                let mut place = Some(place);
                let end = futures::stream::poll_fn(move |_| {
                    place.take();
                    std::task::Poll::Ready(None)
                });
                content.body = content.body.chain(end).boxed();
                Ok(ReadOutcome::Content(content))
            }
            other => Ok(other),
        }
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        let _place = self.place().await?;
        self.inner.part(key, number).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let _place = self.place().await?;
        self.inner.list(request).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        let _place = self.place().await?;
        self.inner.write(key, length, body, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let _place = self.place().await?;
        self.inner.delete(key).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        let _place = self.place().await?;
        self.inner.copy(from, to).await
    }

    fn uri(&self, key: &Key) -> String {
        self.inner.uri(key)
    }
}
