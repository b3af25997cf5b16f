// SPDX-License-Identifier: Apache-2.0
//! The end of the face, as its connections learn of it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::sync::watch;

/// The end of the face, for one connection.
pub(crate) struct Ending {
    signal: watch::Receiver<()>,
    coming: BoxFuture<'static, ()>,
}

impl Ending {
    /// Comes when the sender is dropped.
    pub(crate) fn new(signal: &watch::Receiver<()>) -> Self {
        let mut own = signal.clone();
        let coming = async move { while own.changed().await.is_ok() {} };
        Self { signal: signal.clone(), coming: Box::pin(coming) }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.signal.has_changed().is_err()
    }
}

impl Future for Ending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_here() { Poll::Ready(()) } else { self.coming.as_mut().poll(cx) }
    }
}
