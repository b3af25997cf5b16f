// SPDX-License-Identifier: Apache-2.0
//! Handing a connection to hyper: for one request, or for good.
//!
//! For one request hyper sees the bytes of its head and nothing of what the client sends behind
//! it, and is told that the connection ends with the reply, but only once the first byte of that
//! reply is out: so the reply does not say so, and the connection comes back.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1::Builder,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    answer::Answerer, connection::HEAD_MAX, ending::Ending, face::Reply, plain::poll_receive,
    socket::Socket,
};

/// Answers the one request of which `head` is all; gives the connection back with what came
/// behind it. `None` when the connection ended.
pub(crate) async fn one(
    (builder, answerer): (&Builder, &Answerer),
    (socket, head, behind): (Socket, BytesMut, BytesMut),
    ending: &mut Ending,
) -> Option<(Socket, BytesMut)> {
    let begun = Arc::new(AtomicBool::new(false));
    let behind = Some(behind);
    let stream = Rewound { front: head, behind, socket, begun: Arc::clone(&begun) };
    let mut connection = builder.serve_connection(TokioIo::new(stream), service(answerer));
    let mut asked = false;
    let result = std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result);
            }
            let replied = begun.load(Ordering::Relaxed);
            if asked || !(replied || Pin::new(&mut *ending).poll(cx).is_ready()) {
                return Poll::Pending;
            }
            Pin::new(&mut connection).graceful_shutdown();
            asked = true;
        }
    })
    .await;
    let Rewound { mut socket, behind, .. } = connection.into_parts().io.into_inner();
    match result {
        Ok(()) => Some((socket, behind.unwrap_or_default())),
        Err(error) => {
            tracing::debug!(%error, "s3 connection ended early");
            if let Err(error) = socket.shutdown().await {
                tracing::debug!(%error, "s3 connection can't be shut down");
            }
            None
        }
    }
}

/// Serves what was received and all that comes, to the end of the connection.
pub(crate) async fn all(
    (builder, answerer): (&Builder, &Answerer),
    (socket, received): (Socket, BytesMut),
    ending: &mut Ending,
) {
    let begun = Arc::default();
    let stream = Rewound { front: received, behind: None, socket, begun };
    let mut connection = builder.serve_connection(TokioIo::new(stream), service(answerer));
    let result = tokio::select! {
        biased;
        result = &mut connection => result,
        () = ending => {
            Pin::new(&mut connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "s3 connection ended early");
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Reply, std::convert::Infallible>> + Send>>;

fn service(
    answerer: &Answerer,
) -> impl Service<
    Request<Incoming>,
    Response = Reply,
    Error = std::convert::Infallible,
    Future = Answering,
> + Unpin
+ use<> {
    let answerer = answerer.clone();
    service_fn(move |request| -> Answering { Box::pin(answerer.clone().answer(request)) })
}

/// A socket before which stand bytes that were received already.
struct Rewound {
    front: BytesMut,
    /// Where hyper is to see nothing behind the front: what comes there, up to its capacity.
    behind: Option<BytesMut>,
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
        let Self { front, behind, socket, .. } = &mut *self;
        if !front.is_empty() {
            let count = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..count]);
            front.advance(count);
            return Poll::Ready(Ok(()));
        }
        let Some(behind) = behind else { return Pin::new(socket).poll_read(cx, buffer) };
        // Only the end of it is hyper's business: nobody waits for the reply any more.
        while behind.len() < HEAD_MAX {
            match ready!(poll_receive(socket, behind, cx)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                result => result?,
            }
        }
        Poll::Pending
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
