// SPDX-License-Identifier: Apache-2.0
//! How urgent a request to a store is: somebody waits for it, or a job does.
//!
//! A [`Priority`] goes with everything that is asked for one purpose: the request, each of its
//! tries and the body behind it. It can be raised while they are under way, which is what a
//! reader does that joins the fetch of a job.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Who waits for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A reader.
    Foreground,
    /// A job over many files.
    Bulk,
}

impl Class {
    /// Both, the first one first.
    pub(crate) const ALL: [Self; 2] = [Self::Foreground, Self::Bulk];

    /// The word for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Bulk => "bulk",
        }
    }
}

/// The class of what is under way for one purpose. Clones share it.
#[derive(Debug, Clone)]
pub struct Priority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    foreground: AtomicBool,
    raised: Notify,
}

impl Priority {
    /// One that begins as `class`.
    #[must_use]
    pub fn new(class: Class) -> Self {
        let foreground = AtomicBool::new(class == Class::Foreground);
        Self(Arc::new(Inner { foreground, raised: Notify::new() }))
    }

    /// What it is now.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.0.foreground.load(Ordering::SeqCst) { Class::Foreground } else { Class::Bulk }
    }

    /// Somebody of `class` waits from now on: a reader makes it foreground, and it stays that.
    pub fn join(&self, class: Class) {
        if class == Class::Foreground && !self.0.foreground.swap(true, Ordering::SeqCst) {
            self.0.raised.notify_waiters();
        }
    }

    /// Waits until it is foreground.
    pub async fn raised(&self) {
        let raised = self.0.raised.notified();
        tokio::pin!(raised);
        raised.as_mut().enable();
        if self.class() == Class::Bulk {
            raised.await;
        }
    }
}
