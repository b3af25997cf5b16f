// SPDX-License-Identifier: Apache-2.0
//! The layer: each call waits for its admission, a late head is asked for a second time, and a
//! body holds its place and is paced until it ends or is dropped.

use std::{fmt, pin::pin, task::Poll, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_core::{Attributes, ErrorKind, Key, Result, Span, Status};

use super::{
    lane::{BytesPermit, Head, Lane, Permit},
    limits::SLICE,
};
use crate::{
    ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage,
    priority::{Class, Priority},
};

/// A store whose requests wait for their part of its budget.
pub struct Budgeted<S> {
    inner: S,
    lane: Lane,
    priority: Priority,
}

impl<S: UnderStorage> Budgeted<S> {
    /// Wraps `inner` for requests of one priority.
    pub fn new(inner: S, lane: Lane, priority: Priority) -> Self {
        Self { inner, lane, priority }
    }

    /// One request, once it is admitted.
    async fn admitted<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let mut permit = self.lane.request(&self.priority).await?;
        let answer = call.await;
        if let Err(error) = &answer {
            self.lane.failed(&mut permit, error);
        }
        answer
    }

    /// The head of a reply, by a second request where the first is late; the other is dropped.
    async fn head<T, F>(&self, head: Head, call: impl Fn() -> F) -> Result<(T, Held)>
    where
        F: Future<Output = Result<T>>,
    {
        let permit = self.lane.request(&self.priority).await?;
        let bytes = match head {
            Head::Read => self.lane.bytes(&self.priority).await?,
            Head::Stat => None,
        };
        let start = self.lane.clock.elapsed();
        let waited = || self.lane.clock.elapsed().saturating_sub(start);
        let mut first = pin!(self.request(head, permit, call()));
        let late_after = self.lane.late_after(head).unwrap_or(Duration::MAX);
        let held = |(answer, permit)| (answer, Held { permit, bytes });
        tokio::select! {
            biased;
            answer = &mut first => return answer.map(held),
            () = self.lane.clock.sleep(late_after), if late_after < Duration::MAX => {}
        }
        // A job has time.
        let second = match self.priority.class() {
            Class::Foreground => self.lane.second_request(head),
            Class::Bulk => None,
        };
        let Some(permit) = second else { return first.await.map(held) };
        let mut second = pin!(self.request(head, permit, call()));
        let answer = tokio::select! {
            biased;
            answer = &mut first => match answer {
                Err(error) if is_passing(error.kind()) => second.await,
                answer => answer,
            },
            answer = &mut second => match answer {
                Err(error) if is_passing(error.kind()) => first.await,
                answer => {
                    self.lane.second_won();
                    self.lane.took(head, waited());
                    answer
                }
            },
        };
        answer.map(held)
    }

    /// One request that was admitted, and what is learnt from it.
    async fn request<T>(
        &self,
        head: Head,
        mut permit: Permit,
        call: impl Future<Output = Result<T>>,
    ) -> Result<(T, Permit)> {
        let start = self.lane.clock.elapsed();
        match call.await {
            Ok(answer) => {
                self.lane.took(head, self.lane.clock.elapsed().saturating_sub(start));
                Ok((answer, permit))
            }
            Err(error) => {
                self.lane.failed(&mut permit, &error);
                Err(error)
            }
        }
    }

    /// The body, which holds its place and waits for its bytes.
    fn body(&self, body: ByteStream, held: Held) -> ByteStream {
        let Held { permit, bytes } = held;
        if bytes.is_none() {
            // The closure owns the permit: it goes when the stream ends or is dropped.
            let mut permit = Some(permit);
            let end = stream::poll_fn(move |_| {
                permit.take();
                Poll::Ready(None)
            });
            return body.chain(end).boxed();
        }
        let (lane, priority) = (self.lane.clone(), self.priority.clone());
        let first = (body, Bytes::new(), permit, bytes);
        stream::try_unfold(first, move |(mut body, mut rest, permit, bytes)| {
            let (lane, priority) = (lane.clone(), priority.clone());
            async move {
                let bytes = match bytes {
                    None => lane.more_bytes(&priority).await?,
                    bytes => bytes,
                };
                if rest.is_empty() {
                    let Some(chunk) = body.next().await.transpose()? else { return Ok(None) };
                    rest = chunk;
                }
                // No more than was admitted: others wait as long as they can foresee.
                let piece = rest.split_to(rest.len().min(SLICE as usize));
                if let Some(mut bytes) = bytes {
                    bytes.pass().used = piece.len() as u64;
                }
                Ok(Some((piece, (body, rest, permit, None))))
            }
        })
        .boxed()
    }
}

/// What a reply's body holds.
struct Held {
    permit: Permit,
    bytes: Option<BytesPermit>,
}

/// Whether the other of two requests may still do better.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted)
}

impl<S: fmt::Debug> fmt::Debug for Budgeted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budgeted").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage> UnderStorage for Budgeted<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        let (status, _held) = self.head(Head::Stat, || self.inner.stat(key)).await?;
        Ok(status)
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let call = || self.inner.read(key, span, condition);
        match self.head(Head::Read, call).await? {
            (ReadOutcome::Content(mut content), held) => {
                content.body = self.body(content.body, held);
                Ok(ReadOutcome::Content(content))
            }
            (other, _held) => Ok(other),
        }
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        self.admitted(self.inner.part(key, number)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        self.admitted(self.inner.list(request)).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        self.admitted(self.inner.write(key, length, body, attributes)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.admitted(self.inner.delete(key)).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        self.admitted(self.inner.copy(from, to)).await
    }

    fn uri(&self, key: &Key) -> String {
        self.inner.uri(key)
    }
}
