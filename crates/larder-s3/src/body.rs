// SPDX-License-Identifier: Apache-2.0
//! The body of a reply that carries object bytes.
//!
//! Bytes go from the client's stream to hyper as they are, without a copy; the next piece is
//! asked for only when hyper has room for it, so a slow reader holds one piece. The length is
//! known, so the reply has `Content-Length`. When the rest can't be had, the connection is cut:
//! a short body is the only way HTTP/1.1 has to say so.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http_body::{Body, Frame, SizeHint};
use larder_core::{Path, Result};

/// Object bytes on their way out.
pub(crate) struct ObjectBody {
    path: Path,
    bytes: BoxStream<'static, Result<Bytes>>,
    rest: u64,
}

impl ObjectBody {
    /// A body of exactly `length` bytes.
    pub(crate) fn new(path: Path, length: u64, bytes: BoxStream<'static, Result<Bytes>>) -> Self {
        Self { path, bytes, rest: length }
    }

    fn cut(&mut self, reason: impl fmt::Display) -> io::Error {
        tracing::warn!(path = %self.path, %reason, missing_bytes = self.rest, "s3 reply cut short");
        io::Error::other("the rest of the object can't be had")
    }
}

impl Body for ObjectBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.bytes.poll_next_unpin(cx)) {
            Some(Ok(bytes)) if bytes.len() as u64 <= self.rest => {
                self.rest -= bytes.len() as u64;
                Ok(Frame::data(bytes))
            }
            Some(Ok(_)) => Err(self.cut("more bytes came than the object has")),
            Some(Err(error)) => Err(self.cut(error)),
            None => Err(self.cut("the bytes ended before the object did")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}
