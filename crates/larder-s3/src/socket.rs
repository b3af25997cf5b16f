// SPDX-License-Identifier: Apache-2.0
//! A client's socket, with an end to each wait that hyper leaves open.
//!
//! A client that takes no byte of its reply for too long is dropped, so that what it holds (a
//! piece of an object, a place among the connections) is given back. And a connection that is
//! closed while the client still sends is read empty for a moment first: closing it at once
//! would make the kernel reset it, and the client would lose the reply that says why.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use larder_core::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How long a closing connection is read empty.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes thrown away at a time while it is.
const SCRATCH: usize = 8 * 1024;

/// A TCP stream that notices when nothing moves.
pub(crate) struct Socket {
    stream: TcpStream,
    clock: Clock,
    write_stall: Duration,
    /// Runs out when a write has waited too long; `None` while writes go through.
    stalled: Option<BoxFuture<'static, ()>>,
    /// Runs out when a closing connection was read long enough.
    lingering: Option<BoxFuture<'static, ()>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, clock: Clock, write_stall: Duration) -> Self {
        Self { stream, clock, write_stall, stalled: None, lingering: None }
    }

    /// Passes on the result of a write, and counts the time while there is none.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let wait = self.stalled.get_or_insert_with(|| sleep(&self.clock, self.write_stall));
        ready!(wait.as_mut().poll(cx));
        tracing::debug!("s3 client took no byte of its reply for too long and was dropped");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.stream)
    }
}

/// A wait that can be kept and polled.
pub(crate) fn sleep(clock: &Clock, duration: Duration) -> BoxFuture<'static, ()> {
    let clock = clock.clone();
    Box::pin(async move { clock.sleep(duration).await })
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(self.stream().poll_shutdown(cx))?;
            self.lingering = Some(sleep(&self.clock, LINGER));
        }
        let mut scratch = [0; SCRATCH];
        loop {
            if let Some(wait) = &mut self.lingering
                && wait.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(self.stream().poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
