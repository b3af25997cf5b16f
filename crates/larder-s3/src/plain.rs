// SPDX-License-Identifier: Apache-2.0
//! The reply to a plain read, from the bytes of its head to the last of its body.
//!
//! The head and the first bytes of the body leave in one gathered write. The next bytes are asked
//! for when the former are gone, so a slow client holds one piece. When the rest can't be had the
//! connection is cut, as [`crate::body`] does.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use larder_client::message::ReadHead;
use larder_core::{ByteRange, Error, Path, UnixMillis};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::{
    answer::{self, REQUEST_ID},
    ending::Ending,
    face::{Face, Reply},
    front::PlainRead,
    headers::{self, Heading},
    object::{self, Plain},
    operation::Operation,
    refusal::Refusal,
    socket::Socket,
};

/// Bytes of a reply's head that need no second allocation.
const HEAD_USUAL: usize = 1024;

/// A connection while one plain read is answered.
pub(crate) struct Exchange<'a> {
    pub(crate) socket: &'a mut Socket,
    /// What the client sends in the meantime is collected here, up to its capacity.
    pub(crate) received: &'a mut BytesMut,
    /// Once it is here the client is told to send nothing more.
    pub(crate) ending: &'a mut Ending,
}

impl Exchange<'_> {
    /// Answers.
    ///
    /// # Errors
    /// When the connection can't go on: the client is gone, or the body was cut.
    pub(crate) async fn answer(mut self, face: &Face, read: &PlainRead) -> io::Result<()> {
        let asked = object::get_plain(face, &read.address, read.range.as_ref());
        let result = self.unless_gone(asked).await?;
        let operation = Some(Operation::GetObject);
        face.count(operation, result.as_ref().err().map(|refusal| &*refusal.code));
        let mut head = Head(Vec::with_capacity(HEAD_USUAL));
        match result {
            Ok(plain) => {
                let partial = read.range.is_some();
                head.begin(if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
                head.describe(&plain.reading.head, plain.range, partial);
                self.end(&mut head, face, (plain.range.length(), &face.request_id()));
                self.send(head.0, plain).await
            }
            Err(refusal) => self.refuse(face, read, &refusal, head).await,
        }
    }

    /// Ends a head.
    fn end(&self, head: &mut Head, face: &Face, (length, id): (u64, &HeaderValue)) {
        head.put(header::CONTENT_LENGTH, &length.to_string());
        head.put(REQUEST_ID, id.to_str().unwrap_or(""));
        head.date(face.filesystem.clock().now());
        if self.ending.is_here() {
            head.put(header::CONNECTION, "close");
        }
        head.0.extend_from_slice(b"\r\n");
    }

    async fn refuse(
        &mut self,
        face: &Face,
        read: &PlainRead,
        refusal: &Refusal,
        mut head: Head,
    ) -> io::Result<()> {
        let id = face.request_id();
        let reply: Reply = answer::to_reply(refusal, &Method::GET, &read.resource, &id);
        let (parts, mut body) = reply.into_parts();
        let body = body.take_bytes().unwrap_or_default();
        head.begin(parts.status);
        for (name, value) in &parts.headers {
            head.put(name, value.to_str().unwrap_or(""));
        }
        self.end(&mut head, face, (body.len() as u64, &id));
        self.write(head.0.into(), body).await
    }

    /// Sends the head and the whole body.
    async fn send(&mut self, head: Vec<u8>, plain: Plain) -> io::Result<()> {
        let Plain { path, mut reading, range } = plain;
        let mut head = Bytes::from(head);
        let mut rest = range.length();
        while rest > 0 {
            let next = self.unless_gone(reading.body.next()).await?;
            let next = next.unwrap_or_else(|| {
                Err(Error::unavailable("the bytes ended before the object did"))
            });
            let bytes = next.map_err(|error| cut(&path, rest, &error))?;
            rest = rest.checked_sub(bytes.len() as u64).ok_or_else(|| {
                cut(&path, rest, &Error::internal("more bytes came than the object has"))
            })?;
            self.write(std::mem::take(&mut head), bytes).await?;
        }
        self.write(head, Bytes::new()).await
    }

    /// Writes both, in one call where the socket has room.
    async fn write(&mut self, mut head: Bytes, mut body: Bytes) -> io::Result<()> {
        while head.has_remaining() || body.has_remaining() {
            let written = std::future::poll_fn(|cx| {
                let slices = [IoSlice::new(&head), IoSlice::new(&body)];
                let from = usize::from(head.is_empty());
                Pin::new(&mut *self.socket).poll_write_vectored(cx, &slices[from..])
            });
            let written = written.await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_head = written.min(head.len());
            head.advance(of_head);
            body.advance(written - of_head);
        }
        Ok(())
    }

    /// Waits, but not for a client that has closed its side: what is done for it ends.
    async fn unless_gone<T>(&mut self, wait: impl Future<Output = T>) -> io::Result<T> {
        let mut wait = pin!(wait);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = wait.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            while self.received.len() < self.received.capacity() {
                ready!(poll_receive(self.socket, self.received, cx))?;
            }
            Poll::Pending
        })
        .await
    }
}

/// Receives into what room there is.
///
/// # Errors
/// `UnexpectedEof` when the client has closed its side.
pub(crate) fn poll_receive(
    socket: &mut Socket,
    received: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let count = ready!(pin!(socket.read_buf(received)).poll(cx))?;
    Poll::Ready(if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
}

fn cut(path: &Path, missing_bytes: u64, reason: &Error) -> io::Error {
    tracing::warn!(%path, %reason, missing_bytes, "s3 reply cut short");
    io::Error::other("the rest of the object can't be had")
}

/// The head of a reply, as it is sent.
struct Head(Vec<u8>);

impl Head {
    fn begin(&mut self, status: StatusCode) {
        let reason = status.canonical_reason().unwrap_or("");
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    fn describe(&mut self, head: &ReadHead, range: ByteRange, partial: bool) {
        headers::describe(&head.status, (head.age, head.outcome), self);
        if partial {
            self.put(header::CONTENT_RANGE, &object::content_range(range, head.status.length));
        }
    }

    fn date(&mut self, now: UnixMillis) {
        self.put(header::DATE, &httpdate::fmt_http_date(now.to_system_time()));
    }
}

impl Heading for Head {
    fn put(&mut self, name: impl AsRef<str>, value: &str) -> bool {
        let name = name.as_ref().as_bytes();
        let legal = !name.is_empty() && name.iter().all(|&c| is_token(c)) && is_value(value);
        if legal {
            self.0.extend(name.iter().map(u8::to_ascii_lowercase));
            for part in [": ", value, "\r\n"] {
                self.0.extend_from_slice(part.as_bytes());
            }
        }
        legal
    }
}

/// Letters of a field's name (RFC 9110 §5.6.2).
fn is_token(letter: u8) -> bool {
    letter.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&letter)
}

/// Whether a field can have this value: no controls, so that it can't become two fields.
fn is_value(value: &str) -> bool {
    value.bytes().all(|c| c == b'\t' || (c >= b' ' && c != 0x7f))
}
