// SPDX-License-Identifier: Apache-2.0
//! The budgets of all stores, and each mount's lane in the budget of its store.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use larder_core::{
    Clock, Error, ErrorKind, Metrics, MountName, Result,
    metric::{MountLabels, StoreAddressLabels, WaitingLabels},
};

use super::{
    latency::Latency,
    limits::{Bytes, Requests},
    turnstile::{Coming, Line, Passed, Turnstile},
};
use crate::priority::{Class, Priority};

/// What one mount may ask of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountLimits {
    /// Requests under way at once, bodies included; at least 1.
    pub concurrent_requests: u32,
    /// Requests a second, at least 1; `None`: as many as the store bears.
    pub requests_per_second: Option<u32>,
    /// Body bytes a second, at least 65,536; `None`: as many as come.
    pub bytes_per_second: Option<u64>,
}

/// The budgets of all stores, by the address where requests go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Budgets(Arc<Mutex<HashMap<String, Weak<StoreBudget>>>>);

impl Budgets {
    /// A lane for one more mount in the budget of the store at `address`, which is made for the
    /// first.
    #[must_use]
    pub fn lane(
        &self,
        address: &str,
        (mount, limits): (&MountName, MountLimits),
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Lane {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let known = budgets.get(address).and_then(Weak::upgrade);
        let budget = known.unwrap_or_else(|| {
            let budget = Arc::new(StoreBudget::new(address, clock.clone(), &metrics));
            budgets.insert(address.to_owned(), Arc::downgrade(&budget));
            budget
        });
        drop(budgets);
        Lane::new(budget, mount, limits, (clock, metrics))
    }
}

/// What is shared by all mounts of one store.
#[derive(Debug)]
struct StoreBudget {
    address: String,
    requests: Arc<Turnstile<Requests>>,
    latencies: Mutex<[Latency; 2]>,
}

impl StoreBudget {
    fn new(address: &str, clock: Clock, metrics: &Metrics) -> Self {
        let labels = StoreAddressLabels { store: address.to_owned() };
        let shown = metrics.store_request_limit.get_or_create(&labels).clone();
        Self {
            address: address.to_owned(),
            requests: Turnstile::new(Requests::new(shown), clock),
            latencies: Mutex::new([Latency::new(), Latency::new()]),
        }
    }

    fn latencies(&self) -> MutexGuard<'_, [Latency; 2]> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kinds of requests whose heads are worth a second request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Stat,
    Read,
}

/// One mount's part of its store's budget. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    budget: Arc<StoreBudget>,
    line: Line,
    bytes: Option<Arc<Turnstile<Bytes>>>,
    labels: MountLabels,
    pub(super) clock: Clock,
    metrics: Arc<Metrics>,
}

/// The right to one request.
pub(super) type Permit = Passed<Requests>;
/// The right to some bytes.
pub(super) type BytesPermit = Passed<Bytes>;

impl Lane {
    fn new(
        budget: Arc<StoreBudget>,
        mount: &MountName,
        limits: MountLimits,
        (clock, metrics): (Clock, Arc<Metrics>),
    ) -> Self {
        let now = clock.elapsed();
        let number = budget.requests.add_mount(|requests| {
            requests.add_mount(
                limits.concurrent_requests.max(1),
                limits.requests_per_second.map(|rate| rate.max(1)),
                now,
            );
        });
        let bytes = limits.bytes_per_second.map(|rate| {
            let turnstile = Turnstile::new(Bytes::new(rate.max(1), now), clock.clone());
            turnstile.add_mount(|_| ());
            turnstile
        });
        let waiting = Class::ALL.map(|class| {
            let labels = WaitingLabels { mount: mount.to_string(), class: class.as_str() };
            metrics.store_waiting.get_or_create(&labels).clone()
        });
        let line = Line { mount: number, waiting };
        let labels = MountLabels { mount: mount.to_string() };
        Self { budget, line, bytes, labels, clock, metrics }
    }

    /// The address whose budget this is a part of.
    pub(crate) fn address(&self) -> &str {
        &self.budget.address
    }

    /// Whether so many more requests would leave room for others, and the first pass at once.
    pub(crate) fn has_room(&self, more: u32, class: Class) -> bool {
        let mount = self.line.mount;
        self.budget.requests.would_pass(mount, class, |requests, now| {
            !requests.is_slowed(now) && requests.is_half_free_with(more, mount)
        })
    }

    /// Waits until a request may be sent.
    pub(super) async fn request(&self, priority: &Priority) -> Result<Permit> {
        self.budget.requests.pass(&self.line, priority, Coming::New).await
    }

    /// Waits until some bytes may come; `None`: as many as do.
    pub(super) async fn bytes(&self, priority: &Priority) -> Result<Option<BytesPermit>> {
        self.pass_bytes(priority, Coming::New).await
    }

    /// The same for a body that has begun: it is not refused because others came meanwhile.
    pub(super) async fn more_bytes(&self, priority: &Priority) -> Result<Option<BytesPermit>> {
        self.pass_bytes(priority, Coming::Again).await
    }

    async fn pass_bytes(&self, priority: &Priority, coming: Coming) -> Result<Option<BytesPermit>> {
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let line = Line { mount: 0, waiting: self.line.waiting.clone() };
        bytes.pass(&line, priority, coming).await.map(Some)
    }

    /// A second request for a reader whose first is late: only where nobody waits, the store has
    /// not asked to slow down, and few requests are second ones.
    pub(super) fn second_request(&self, head: Head) -> Option<Permit> {
        let mut latencies = self.budget.latencies();
        let permit = self.budget.requests.try_pass(
            self.line.mount,
            Class::Foreground,
            |requests, now| !requests.is_slowed(now) && latencies[head as usize].take_hedge(),
        )?;
        self.metrics.store_hedges.get_or_create(&self.labels).inc();
        Some(permit)
    }

    /// The second request was the first to be answered.
    pub(super) fn second_won(&self) {
        self.metrics.store_hedges_won.get_or_create(&self.labels).inc();
    }

    /// When a reply is late.
    pub(super) fn late_after(&self, head: Head) -> Option<Duration> {
        self.budget.latencies()[head as usize].late_after()
    }

    /// The head of a reply took so long.
    pub(super) fn took(&self, head: Head, time: Duration) {
        self.budget.latencies()[head as usize].took(time);
    }

    /// Learns from a failure.
    pub(super) fn failed(&self, permit: &mut Permit, error: &Error) {
        if error.kind() != ErrorKind::Exhausted {
            return;
        }
        self.metrics.store_throttled.get_or_create(&self.labels).inc();
        let (sent, wait) = (permit.pass().sent, error.retry_after());
        self.budget.requests.tell(|requests, now| requests.refused(sent, wait, now));
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({})", self.labels.mount)
    }
}
