// SPDX-License-Identifier: Apache-2.0
//! The body of a reply as a stream that gives exactly what was promised, or an error.
//!
//! The chunks are hyper's own buffers, sliced but never copied. A body that ends early, goes on
//! for too long or comes too slowly is an error. A store that ignored the range is cut to it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::Stream;
use hyper::body::{Body, Incoming};
use larder_core::{Clock, Error, Result};

use super::patience::{Patience, TooSlow};

/// How much of a body is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Bytes to leave out at the beginning.
    pub(super) skip: u64,
    /// Bytes to give.
    pub(super) length: u64,
    /// What to do with what follows.
    pub(super) rest: Rest,
}

/// What to do with bytes behind those that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// They are a fault of the store.
    Refuse,
    /// They belong to the object and were not asked for: stop reading.
    Leave,
}

/// The stream.
pub(super) struct Receive {
    body: Option<Incoming>,
    wanted: Wanted,
    waiting: Waiting,
    what: Arc<str>,
}

impl Receive {
    pub(super) fn new(body: Incoming, wanted: Wanted, waiting: Waiting, what: &str) -> Self {
        Self { body: Some(body), wanted, waiting, what: what.into() }
    }

    fn fail(&mut self, said: &str) -> Error {
        self.body = None;
        Error::unavailable(format!("{} {said}", self.what))
    }

    /// The wanted part of a chunk; empty when nothing of it is.
    fn cut(&mut self, mut chunk: Bytes) -> Result<Bytes> {
        let skipped = self.wanted.skip.min(chunk.len() as u64);
        self.wanted.skip -= skipped;
        // Bounded by the length of the chunk, which is a usize.
        chunk.advance(skipped as usize);
        if chunk.len() as u64 > self.wanted.length {
            if self.wanted.rest == Rest::Refuse {
                return Err(self.fail("came with more bytes than the store had told"));
            }
            chunk.truncate(self.wanted.length as usize);
        }
        self.wanted.length -= chunk.len() as u64;
        Ok(chunk)
    }
}

impl Stream for Receive {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.wanted.length == 0 && this.wanted.rest == Rest::Leave {
                this.body = None;
            }
            let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    this.waiting.came(chunk.len());
                    let chunk = this.cut(chunk)?;
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let failure = this.fail("broke off at the store").with_source(error);
                    return Poll::Ready(Some(Err(failure)));
                }
                Poll::Ready(None) if this.wanted.length > 0 => {
                    return Poll::Ready(Some(Err(this.fail("ended early at the store"))));
                }
                Poll::Ready(None) => this.body = None,
                Poll::Pending => {
                    let too_slow = futures::ready!(this.waiting.poll_too_slow(context));
                    return Poll::Ready(Some(Err(this.fail(match too_slow {
                        TooSlow::Silent => "stopped coming: the store fell silent",
                        TooSlow::Trickle => "came too slowly from the store",
                    }))));
                }
            }
        }
    }
}

/// A [`Patience`] with its timer, which is armed only while waiting and re-armed when something
/// came in between, so that a busy body costs no timer at all.
pub(super) struct Waiting {
    clock: Clock,
    patience: Patience,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Waiting {
    pub(super) fn new(clock: Clock, read_timeout: Duration) -> Self {
        Self { clock, patience: Patience::new(read_timeout), timer: None }
    }

    fn came(&mut self, bytes: usize) {
        self.patience.came(bytes, self.clock.elapsed());
    }

    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let left = match self.patience.left(self.clock.elapsed()) {
                Ok(left) => left,
                Err(too_slow) => return Poll::Ready(too_slow),
            };
            let timer = self.timer.get_or_insert_with(|| {
                let clock = self.clock.clone();
                Box::pin(async move { clock.sleep(left).await })
            });
            futures::ready!(timer.as_mut().poll(context));
            self.timer = None;
        }
    }
}
