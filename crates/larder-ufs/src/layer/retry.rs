// SPDX-License-Identifier: Apache-2.0
//! Tries again what may be tried again.
//!
//! Only calls that can be repeated without harm (a write's body is gone after the first try, so
//! a write is never repeated here), only before a body began, and only on `Unavailable` and
//! `Exhausted`. The wait grows exponentially with full jitter, so that many callers who failed
//! together do not come back together; the wait that the store asked for is a lower bound. Tries
//! and total time are bounded; when a wait would pass the total, the error is handed up at once.
//!
//! A store that asks to slow down is there and will answer, so it is given more tries than one
//! that does not answer, and its time counts from its first refusal: what a request waited for
//! its admission is not the store's.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use larder_core::{Attributes, Clock, Error, ErrorKind, Key, Random, Result, Span, Status};

use crate::{
    ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage,
    priority::{Class, Priority},
};

/// The bounds of retrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries at most, the first included.
    pub tries_max: u32,
    /// No try starts later than this after the first.
    pub total_max: Duration,
    /// Tries at most, the first included, of which the last was refused with `Exhausted`.
    pub throttled_tries_max: u32,
    /// No try that follows such a refusal starts later than this after the first failure.
    pub throttled_total_max: Duration,
    /// The upper bound of the first wait; it doubles with each further one.
    pub wait_first: Duration,
    /// The upper bound of every wait.
    pub wait_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 5,
            total_max: Duration::from_secs(20),
            throttled_tries_max: 8,
            throttled_total_max: Duration::from_secs(20),
            wait_first: Duration::from_millis(100),
            wait_max: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// For a job, which has time to wait until a store is itself again.
    #[must_use]
    pub fn bulk() -> Self {
        let throttled_total_max = Duration::from_secs(600);
        Self { throttled_tries_max: 1000, throttled_total_max, ..Self::default() }
    }

    /// The upper bound of the wait behind try `tries` (from 1).
    fn bound(&self, tries: u32) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.wait_first.saturating_mul(doubled).min(self.wait_max)
    }
}

/// A store whose repeatable calls are tried again.
pub struct Retried<S> {
    inner: S,
    patience: Patience,
    clock: Clock,
    random: Arc<Random>,
}

/// Whose patience decides on another try.
#[derive(Debug)]
enum Patience {
    Fixed(RetryPolicy),
    /// That of whoever waits at that moment: a reader that joins a job is not as patient.
    Of(Priority),
}

impl Patience {
    fn policy(&self) -> RetryPolicy {
        match self {
            Self::Fixed(policy) => *policy,
            Self::Of(priority) => match priority.class() {
                Class::Foreground => RetryPolicy::default(),
                Class::Bulk => RetryPolicy::bulk(),
            },
        }
    }

    /// Waits until a reader joins a job; for ever where none can.
    async fn ends(&self) {
        match self {
            Self::Of(priority) if priority.class() == Class::Bulk => priority.raised().await,
            _ => std::future::pending().await,
        }
    }
}

impl<S: UnderStorage> Retried<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, policy: RetryPolicy, clock: Clock, random: Arc<Random>) -> Self {
        Self { inner, patience: Patience::Fixed(policy), clock, random }
    }

    /// Wraps `inner` for one purpose. When it becomes urgent while a try is waited for, that try
    /// is made at once, and it is the last unless a reader would have waited so long too.
    pub fn with(inner: S, priority: Priority, clock: Clock, random: Arc<Random>) -> Self {
        Self { inner, patience: Patience::Of(priority), clock, random }
    }

    async fn retried<T, F>(&self, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let start = self.clock.elapsed();
        let mut failed_first = None;
        let mut tries = 1;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let failed_first = *failed_first.get_or_insert_with(|| self.clock.elapsed());
            let wait = self.wait_after(&error, tries, (start, failed_first));
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(tries, ?wait, %error, "store request failed; trying again");
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.patience.ends() => {}
            }
            tries += 1;
        }
    }

    /// How long to wait before the next try; `None` when there is to be none.
    fn wait_after(
        &self,
        error: &Error,
        tries: u32,
        (start, failed_first): (Duration, Duration),
    ) -> Option<Duration> {
        let policy = self.patience.policy();
        let (tries_max, total_max, since) = match error.kind() {
            ErrorKind::Unavailable => (policy.tries_max, policy.total_max, start),
            ErrorKind::Exhausted => {
                (policy.throttled_tries_max, policy.throttled_total_max, failed_first)
            }
            _ => return None,
        };
        if tries >= tries_max {
            return None;
        }
        let bound = policy.bound(tries).as_micros();
        let jitter = self.random.below(u64::try_from(bound).unwrap_or(u64::MAX).max(1));
        let asked = error.retry_after().unwrap_or_default();
        let wait = asked.saturating_add(Duration::from_micros(jitter));
        let until = self.clock.elapsed().saturating_sub(since).saturating_add(wait);
        (until <= total_max).then_some(wait)
    }
}

impl<S: fmt::Debug> fmt::Debug for Retried<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retried").field(&self.inner).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage> UnderStorage for Retried<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        self.retried(|| self.inner.stat(key)).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        self.retried(|| self.inner.read(key, span, condition)).await
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        self.retried(|| self.inner.part(key, number)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        self.retried(|| self.inner.list(request)).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        self.inner.write(key, length, body, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.retried(|| self.inner.delete(key)).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        self.retried(|| self.inner.copy(from, to)).await
    }

    fn uri(&self, key: &Key) -> String {
        self.inner.uri(key)
    }
}
