// SPDX-License-Identifier: Apache-2.0
//! The body of an upload: one stream of a known length, cut into parts without buffering them.
//!
//! The source is shared between the parts of a multipart upload, which are sent one after the
//! other; each takes its own share of bytes from it. A source that ends early or goes on for too
//! long fails the request, so that the store never sees a whole upload of the wrong bytes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use larder_core::{Error, Result};

use crate::ByteStream;

use super::client::{Outgoing, Progress};

/// What is to be uploaded.
#[derive(Clone)]
pub(super) struct Source(Arc<Mutex<State>>);

struct State {
    stream: ByteStream,
    /// What is left of a chunk that reached over the end of a part.
    rest: Bytes,
    /// Bytes still to come of the whole.
    left: u64,
    /// Whether the stream said that it is at its end.
    ended: bool,
}

impl Source {
    pub(super) fn new(stream: ByteStream, length: u64) -> Self {
        Self(Arc::new(Mutex::new(State { stream, rest: Bytes::new(), left: length, ended: false })))
    }

    /// The next `length` bytes as the body of a request.
    pub(super) fn take(&self, length: u64, progress: &Progress) -> Outgoing {
        let share = Share { source: self.clone(), left: length, progress: progress.clone() };
        share.boxed_unsync()
    }

    fn poll(&self, context: &mut Context<'_>, max: u64) -> Poll<Result<Bytes>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        futures::ready!(state.poll_fill(context))?;
        let length = usize::try_from(max).map_or(state.rest.len(), |max| max.min(state.rest.len()));
        Poll::Ready(Ok(state.rest.split_to(length)))
    }

    /// For an upload of no bytes: fails when there are some.
    pub(super) async fn ended(&self) -> Result<()> {
        futures::future::poll_fn(|context| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_end(context)
        })
        .await
    }
}

impl State {
    /// Sees to it that there are bytes at hand. The last ones are held back until the stream has
    /// ended, so that one which goes on fails before the store has all of it.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.rest.is_empty() {
            let next = futures::ready!(self.stream.poll_next_unpin(context));
            let wrong = "the upload has fewer bytes than were told; nothing was written";
            self.rest = next.unwrap_or_else(|| Err(Error::invalid(wrong)))?;
            let Some(left) = self.left.checked_sub(self.rest.len() as u64) else {
                return Poll::Ready(Err(too_many()));
            };
            self.left = left;
        }
        if self.left == 0 { self.poll_end(context) } else { Poll::Ready(Ok(())) }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.ended {
            match futures::ready!(self.stream.poll_next_unpin(context)) {
                None => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(_)) => return Poll::Ready(Err(too_many())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn too_many() -> Error {
    Error::invalid("the upload has more bytes than were told; nothing was written")
}

/// The bytes of one request.
struct Share {
    source: Source,
    left: u64,
    progress: Progress,
}

impl Body for Share {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = futures::ready!(self.source.poll(context, self.left))?;
        self.left -= chunk.len() as u64;
        self.progress.advance(chunk.len());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
