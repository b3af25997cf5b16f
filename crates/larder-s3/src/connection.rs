// SPDX-License-Identifier: Apache-2.0
//! One connection from its first byte to its last: plain reads are answered here, the rest by
//! hyper.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures::future::BoxFuture;
use hyper::server::conn::http1::Builder;
use larder_core::Clock;
use tokio::io::AsyncWriteExt;

use crate::{
    answer::Answerer,
    by_hyper,
    ending::Ending,
    front::{Front, Judge, PlainRead},
    plain::{Exchange, poll_receive},
    socket::{Socket, sleep},
};

/// Bytes of a plain read's head at most; a longer one is hyper's, which takes more.
pub(crate) const HEAD_MAX: usize = 8 * 1024;

/// What the connections of a face share.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) answerer: Answerer,
    pub(crate) builder: Builder,
    pub(crate) clock: Clock,
    /// How long a client may be silent between requests, and take for a head.
    pub(crate) idle_timeout: Duration,
}

/// A connection.
pub(crate) struct Connection {
    common: Common,
    /// Resolves when the face shuts down.
    ending: Ending,
    /// When the last reply was out.
    quiet_since: Duration,
    /// Wakes when the client may have been silent for too long.
    alarm: BoxFuture<'static, ()>,
}

impl Connection {
    pub(crate) fn new(common: Common, ending: Ending) -> Self {
        let quiet_since = common.clock.elapsed();
        let alarm = sleep(&common.clock, common.idle_timeout);
        Self { common, ending, quiet_since, alarm }
    }

    /// Serves until the client or the face ends it.
    pub(crate) async fn run(mut self, mut socket: Socket) {
        let mut received = BytesMut::with_capacity(HEAD_MAX);
        loop {
            match self.front(&received) {
                Front::Partial if received.len() < HEAD_MAX => {
                    if self.receive(&mut socket, &mut received).await.is_err() {
                        // Between two requests nothing is on its way that a reset could lose.
                        if received.is_empty() {
                            return;
                        }
                        break;
                    }
                    continue;
                }
                Front::Plain(read) => {
                    if let Err(error) = self.answer(&mut socket, &mut received, &read).await {
                        tracing::debug!(%error, "s3 connection ended early");
                        return;
                    }
                    received.advance(read.length);
                }
                Front::Single(length) => {
                    let head = received.split_to(length);
                    let lent = (socket, head, received);
                    let shared = (&self.common.builder, &self.common.answerer);
                    match by_hyper::one(shared, lent, &mut self.ending).await {
                        Some(back) => (socket, received) = back,
                        None => return,
                    }
                }
                Front::Partial | Front::Foreign => {
                    let shared = (&self.common.builder, &self.common.answerer);
                    by_hyper::all(shared, (socket, received), &mut self.ending).await;
                    return;
                }
            }
            if self.ending.is_here() {
                break;
            }
            self.quiet_since = self.common.clock.elapsed();
        }
        if let Err(error) = socket.shutdown().await {
            tracing::debug!(%error, "s3 connection can't be shut down");
        }
    }

    fn front(&self, received: &[u8]) -> Front {
        let Answerer { face, signatures, .. } = &self.common.answerer;
        let now = self.common.clock.now();
        Judge { signatures, domains: &face.domains, now }.front(received)
    }

    async fn answer(
        &mut self,
        socket: &mut Socket,
        received: &mut BytesMut,
        read: &PlainRead,
    ) -> io::Result<()> {
        let exchange = Exchange { socket, received, ending: &mut self.ending };
        exchange.answer(&self.common.answerer.face, read).await
    }

    /// Waits for more of a head.
    ///
    /// # Errors
    /// When there will be none: the client is gone or was silent for too long, or the face ends
    /// while no request is under way.
    async fn receive(&mut self, socket: &mut Socket, received: &mut BytesMut) -> io::Result<()> {
        received.reserve(HEAD_MAX - received.len());
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll_receive(socket, received, cx) {
                return Poll::Ready(result);
            }
            if received.is_empty() && Pin::new(&mut self.ending).poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            loop {
                ready!(self.alarm.as_mut().poll(cx));
                let Common { clock, idle_timeout, .. } = &self.common;
                let quiet = clock.elapsed().saturating_sub(self.quiet_since);
                let Some(rest) = idle_timeout.checked_sub(quiet).filter(|rest| !rest.is_zero())
                else {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                };
                self.alarm = sleep(clock, rest);
            }
        })
        .await
    }
}
