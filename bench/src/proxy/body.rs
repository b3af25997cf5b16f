// SPDX-License-Identifier: Apache-2.0
//! A body on its way through: counted, held to the line's rate, and broken if a rule says so.
//!
//! Chunks are passed on as they are. Where a fault begins inside a chunk, the chunk is split
//! (two views of the same memory), so that exactly the promised number of bytes passes.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use larder_core::Clock;

use super::{count::Record, link::Link, socket::ResetMark};

/// What stands between the last good byte and a cut, so that the former is on the wire.
const FLUSH: Duration = Duration::from_millis(10);

/// Which way a body flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the origin.
    ToOrigin,
    /// From the origin to the client.
    ToClient,
}

/// What happens in the midst of a body.
#[derive(Debug)]
pub enum Turn {
    /// The connection is reset.
    Reset(ResetMark),
    /// The connection is closed in order.
    Close,
    /// Nothing comes for this long.
    Stall(Duration),
    /// The body ends in order, as if there were no more.
    End,
}

/// A turn and the byte at which it comes.
#[derive(Debug)]
pub struct Break {
    /// Body bytes that pass before.
    pub after: u64,
    /// What happens then.
    pub turn: Turn,
}

impl Content {
    fn of(self, chunk: Bytes) -> Bytes {
        match self {
            Self::True => chunk,
            Self::Inverted => chunk.iter().map(|byte| !byte).collect::<Vec<_>>().into(),
        }
    }
}

/// How a body is to flow.
#[derive(Debug)]
pub struct Shape {
    /// Which way.
    pub direction: Direction,
    /// The lines it takes part in.
    pub links: Vec<Arc<Link>>,
    /// What happens in its midst.
    pub broken: Option<Break>,
    /// The largest chunk that passes in one piece.
    pub chunk_max: usize,
    /// Which bytes it has.
    pub content: Content,
}

/// Which bytes a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Those that came.
    True,
    /// Those that came, each bit inverted.
    Inverted,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A body that flows as its [`Shape`] says.
pub struct Shaped {
    inner: Incoming,
    shape: Shape,
    record: Arc<Record>,
    clock: Clock,
    wait: Option<Wait>,
    /// A chunk that waits for its turn on the line.
    held: Option<Bytes>,
    /// What was behind the point of a break.
    rest: Option<Bytes>,
    passed: u64,
    ending: bool,
    over: bool,
}

impl Shaped {
    /// Lets `inner` flow as `shape` says, counted on `record`.
    #[must_use]
    pub fn new(inner: Incoming, shape: Shape, record: Arc<Record>, clock: Clock) -> Self {
        Self {
            inner,
            shape,
            record,
            clock,
            wait: None,
            held: None,
            rest: None,
            passed: 0,
            ending: false,
            over: false,
        }
    }

    /// The same behind one type with bodies that the proxy makes itself.
    #[must_use]
    pub fn boxed(self) -> BoxBody<Bytes, BoxError> {
        BoxBody::new(self)
    }

    /// Cuts a chunk where the break comes or it grows too large, keeping the rest.
    fn split(&mut self, mut chunk: Bytes) -> Bytes {
        let point = self.shape.broken.as_ref().map_or(u64::MAX, |point| point.after - self.passed);
        let room = usize::try_from(point).unwrap_or(usize::MAX).min(self.shape.chunk_max);
        if chunk.len() > room {
            self.rest = Some(chunk.split_off(room));
        }
        self.passed += chunk.len() as u64;
        chunk
    }

    /// Begins the break if its byte is reached.
    fn turn(&mut self) -> bool {
        let Some(point) = self.shape.broken.take_if(|point| point.after <= self.passed) else {
            return false;
        };
        let pause = match point.turn {
            Turn::Reset(mark) => {
                mark.set();
                self.ending = true;
                FLUSH
            }
            Turn::Close => {
                self.ending = true;
                FLUSH
            }
            Turn::Stall(pause) => pause,
            Turn::End => {
                self.over = true;
                return true;
            }
        };
        self.pause(pause);
        true
    }

    fn pause(&mut self, pause: Duration) {
        let clock = self.clock.clone();
        self.wait = Some(Box::pin(async move { clock.sleep(pause).await }));
    }

    /// How long this chunk has to wait for the slowest of its lines.
    fn queue(&self, bytes: usize) -> Duration {
        let now = || self.clock.elapsed();
        let waits = self.shape.links.iter().map(|link| link.reserve(bytes, now()));
        waits.max().unwrap_or_default()
    }

    /// What is left of a body that ends before its time.
    fn left_to_tell(&self) -> Option<u64> {
        match &self.shape.broken {
            Some(Break { after, turn: Turn::End }) => Some(after - self.passed),
            _ => None,
        }
    }

    fn deliver(&self, chunk: Bytes) -> Frame<Bytes> {
        let bytes = chunk.len() as u64;
        match self.shape.direction {
            Direction::ToOrigin => self.record.count_request(bytes),
            Direction::ToClient => {
                self.record.count_reply(bytes);
                if self.is_end_stream() {
                    self.record.finish();
                }
            }
        }
        Frame::data(chunk)
    }
}

/// The error type of all bodies of the proxy.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Body for Shaped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            if self.ending {
                self.record.finish();
                let broken = io::Error::other("the body was broken off by a rule");
                return Poll::Ready(Some(Err(broken.into())));
            }
            if let Some(chunk) = self.held.take() {
                return Poll::Ready(Some(Ok(self.deliver(chunk))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if self.turn() {
                continue;
            }
            let chunk = match self.rest.take() {
                Some(rest) => rest,
                None => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => self.shape.content.of(chunk),
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                },
            };
            let chunk = self.split(chunk);
            let wait = self.queue(chunk.len());
            if !wait.is_zero() {
                self.pause(wait);
            }
            self.held = Some(chunk);
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.over || self.left_to_tell() == Some(0) {
            return self.held.is_none();
        }
        let empty = self.held.is_none() && self.rest.is_none() && self.wait.is_none();
        empty && !self.ending && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left_to_tell() {
            Some(left) => SizeHint::with_exact(left),
            None => self.inner.size_hint(),
        }
    }
}
