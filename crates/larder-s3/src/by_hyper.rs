// SPDX-License-Identifier: Apache-2.0
//! Handing a connection to hyper: for one request, or for good.
//!
//! For one request hyper is told that the connection ends with its reply, but only once the first
//! byte of that reply is out: so the reply does not say so, and the connection comes back.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use http::Request;
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{answer::Answerer, socket::Socket};

/// How long hyper has the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The reply to the request that stands at the front of what was received.
    Reply,
    /// The client or hyper ends it.
    End,
}

/// Serves what was received and what comes; gives the connection back with what was received and
/// not answered.
///
/// # Errors
/// When the connection broke, or what was received is not HTTP.
pub(crate) async fn serve(
    (builder, answerer): (&Builder, &Answerer),
    (socket, received): (Socket, BytesMut),
    until: Until,
    ending: &mut (impl Future<Output = ()> + Unpin),
) -> Result<(Socket, BytesMut), hyper::Error> {
    let begun = Arc::new(AtomicBool::new(false));
    let stream = Rewound { received, socket, begun: Arc::clone(&begun) };
    let service =
        service_fn(|request: Request<Incoming>| Box::pin(answerer.clone().answer(request)));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut asked = false;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result);
            }
            let replied = until == Until::Reply && begun.load(Ordering::Relaxed);
            if asked || !(replied || Pin::new(&mut *ending).poll(cx).is_ready()) {
                return Poll::Pending;
            }
            Pin::new(&mut connection).graceful_shutdown();
            asked = true;
        }
    })
    .await?;
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    let mut received = BytesMut::from(parts.read_buf);
    received.unsplit(stream.received);
    Ok((stream.socket, received))
}

/// A socket before which stand bytes that were received already.
struct Rewound {
    received: BytesMut,
    socket: Socket,
    /// Whether anything was sent.
    begun: Arc<AtomicBool>,
}

impl Rewound {
    fn sending(&mut self) -> Pin<&mut Socket> {
        self.begun.store(true, Ordering::Relaxed);
        Pin::new(&mut self.socket)
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let count = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received[..count]);
        self.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sending().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sending().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
