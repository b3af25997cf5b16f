// SPDX-License-Identifier: Apache-2.0
//! What passed: figures by method and status, and one JSON line per request if a log is kept.
//!
//! A request counts when its head has arrived, a byte when it is handed to the other side, so
//! a client that has read its reply finds both in the figures. The line of a request is written
//! before its last byte is handed over, or when it ends without one.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::Clock;
use serde::Serialize;

/// Figures of one method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MethodCount {
    /// Requests whose head arrived.
    pub requests: u64,
    /// Body bytes towards the origin.
    pub request_bytes: u64,
    /// Body bytes towards the client.
    pub reply_bytes: u64,
}

/// All figures since the start or the last reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Requests of all methods.
    pub requests: u64,
    /// Body bytes towards the origin, of all methods.
    pub request_bytes: u64,
    /// Body bytes towards the client, of all methods.
    pub reply_bytes: u64,
    /// Requests that have not ended now.
    pub in_flight: u64,
    /// Client connections accepted.
    pub connections: u64,
    /// Requests that a rule hurt.
    pub faults: u64,
    /// The same by method.
    pub methods: BTreeMap<String, MethodCount>,
    /// Replies by status; 0 stands for none at all.
    pub statuses: BTreeMap<u16, u64>,
}

#[derive(Debug, Default)]
struct MethodTotals {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    reply_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Totals {
    methods: BTreeMap<String, Arc<MethodTotals>>,
    statuses: BTreeMap<u16, u64>,
    connections: u64,
    faults: u64,
}

/// Where everything is counted.
#[derive(Debug)]
pub struct Counters {
    totals: Mutex<Totals>,
    in_flight: AtomicU64,
    log: Option<Mutex<File>>,
    clock: Clock,
}

/// What is known of a request when its head has arrived.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The raw path and query.
    pub path: String,
    /// Its `Range` header.
    pub range: Option<String>,
    /// Its `If-Match` header.
    pub if_match: Option<String>,
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    asked: &'a Asked,
    status: u16,
    bytes: u64,
    request_bytes: u64,
    ms: f64,
}

impl Counters {
    /// Counters at zero, writing lines to `log` if there is one.
    #[must_use]
    pub fn new(log: Option<File>, clock: Clock) -> Self {
        Self {
            totals: Mutex::default(),
            in_flight: AtomicU64::new(0),
            log: log.map(Mutex::new),
            clock,
        }
    }

    /// Counts an accepted connection.
    pub fn connected(&self) {
        self.lock().connections += 1;
    }

    /// Counts a request that a rule picked.
    pub fn hurt(&self) {
        self.lock().faults += 1;
    }

    /// Counts a request and gives what its bytes are counted on.
    #[must_use]
    pub fn begin(self: &Arc<Self>, asked: Asked) -> Arc<Record> {
        let method = {
            let mut totals = self.lock();
            match totals.methods.get(&asked.method) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(totals.methods.entry(asked.method.clone()).or_default()),
            }
        };
        method.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Arc::new(Record {
            counters: Arc::clone(self),
            method,
            asked,
            start: self.clock.elapsed(),
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            finished: AtomicBool::new(false),
        })
    }

    /// Sets all figures to zero; requests under way go on counting where they were counted.
    pub fn reset(&self) {
        *self.lock() = Totals::default();
    }

    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let totals = self.lock();
        let mut figures = Figures {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            connections: totals.connections,
            faults: totals.faults,
            statuses: totals.statuses.clone(),
            ..Figures::default()
        };
        for (name, method) in &totals.methods {
            let count = MethodCount {
                requests: method.requests.load(Ordering::Relaxed),
                request_bytes: method.request_bytes.load(Ordering::Relaxed),
                reply_bytes: method.reply_bytes.load(Ordering::Relaxed),
            };
            figures.requests += count.requests;
            figures.request_bytes += count.request_bytes;
            figures.reply_bytes += count.reply_bytes;
            figures.methods.insert(name.clone(), count);
        }
        figures
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request while it lasts.
#[derive(Debug)]
pub struct Record {
    counters: Arc<Counters>,
    method: Arc<MethodTotals>,
    asked: Asked,
    start: Duration,
    status: AtomicU16,
    sent: AtomicU64,
    received: AtomicU64,
    finished: AtomicBool,
}

impl Record {
    /// The status that the client gets.
    pub fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        *self.counters.lock().statuses.entry(status.as_u16()).or_default() += 1;
    }

    /// Body bytes handed to the client.
    pub fn count_reply(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.method.reply_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Body bytes handed to the origin.
    pub fn count_request(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.method.request_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends the request and writes its line; the second time it does nothing.
    pub fn finish(&self) {
        if self.finished.swap(true, Ordering::Relaxed) {
            return;
        }
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        let status = self.status.load(Ordering::Relaxed);
        if status == 0 {
            *self.counters.lock().statuses.entry(0).or_default() += 1;
        }
        let Some(log) = &self.counters.log else { return };
        let taken = self.counters.clock.elapsed().saturating_sub(self.start);
        let line = Line {
            asked: &self.asked,
            status,
            bytes: self.sent.load(Ordering::Relaxed),
            request_bytes: self.received.load(Ordering::Relaxed),
            ms: (taken.as_secs_f64() * 1e6).round() / 1e3,
        };
        let mut text = serde_json::to_vec(&line).expect("strings and numbers are always JSON");
        text.push(b'\n');
        // A full disk must not stop the traffic that is being tested; the figures still count.
        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish();
    }
}
