// SPDX-License-Identifier: Apache-2.0
//! Every metric of Larder, declared once with its unit and its meaning.
//!
//! Rooms count through this struct; the HTTP face prints the registry. Labels have few values
//! by construction (mounts, operations, outcomes), never paths or keys.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Labels of what is counted per request to a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// The mount whose store was asked.
    pub mount: String,
    /// One of [`STORE_OPERATIONS`].
    pub operation: &'static str,
}

/// Labels of how requests to a store ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreOutcomeLabels {
    /// The mount whose store was asked.
    pub mount: String,
    /// One of [`STORE_OPERATIONS`].
    pub operation: &'static str,
    /// One of [`STORE_OUTCOMES`].
    pub outcome: &'static str,
}

/// Labels of what is told per store, which several mounts may share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreAddressLabels {
    /// Where requests go: scheme and authority, or a directory.
    pub store: String,
}

/// Labels of what waits for its part of a store's budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WaitingLabels {
    /// The mount whose store is to be asked.
    pub mount: String,
    /// `foreground` (somebody waits for it) or `bulk` (a job).
    pub class: &'static str,
}

/// A gauge of a rate.
pub type RateGauge = Gauge<f64, AtomicU64>;
/// A gauge of a number of things.
pub type CountGauge = Gauge;

/// Labels of reads and the bytes they gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReadLabels {
    /// The mount that was read.
    pub mount: String,
    /// `hit` (nothing from the store), `miss` (all from the store) or `part`.
    pub outcome: &'static str,
}

/// Labels of what is told of a mount as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MountLabels {
    /// The mount.
    pub mount: String,
}

/// Labels of bytes by where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// The mount that was read.
    pub mount: String,
    /// `cache` or `store`; `load` for what was fetched to become resident, which no reader got.
    pub source: &'static str,
}

/// Labels of requests that came in at a face.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FaceLabels {
    /// `s3`, `fuse` or `http`.
    pub face: &'static str,
    /// The operation in the face's own words.
    pub operation: &'static str,
    /// `ok` or the face's own error code.
    pub code: String,
}

/// The operations of an under storage, as labels.
pub const STORE_OPERATIONS: [&str; 7] = ["stat", "list", "read", "part", "write", "delete", "copy"];

/// How a request to a store can end, as labels: `ok`, the error's kind, or `cancelled` when nobody
/// waited for its answer any more.
pub const STORE_OUTCOMES: [&str; 15] = [
    "ok",
    "cancelled",
    "not_found",
    "already_exists",
    "not_a_directory",
    "is_a_directory",
    "not_empty",
    "invalid",
    "denied",
    "unsupported",
    "stale",
    "unavailable",
    "exhausted",
    "corrupt",
    "internal",
];

/// What was asked of one store since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreTotals {
    /// Requests, each retry counted.
    pub requests: u64,
    /// Body bytes received.
    pub read_bytes: u64,
}

/// All metrics; one instance per process, shared by reference.
#[derive(Debug)]
pub struct Metrics {
    /// Requests sent to under storages, counting each retry.
    pub store_requests: Family<StoreOutcomeLabels, Counter>,
    /// Body bytes received from under storages.
    pub store_read_bytes: Family<StoreLabels, Counter>,
    /// Seconds until the head of the store's reply.
    pub store_seconds: Family<StoreLabels, Histogram>,
    /// What was asked of under storages so far, by the prices of the mount, in their currency.
    pub store_cost: Family<MountLabels, Gauge<f64, AtomicU64>>,
    /// What would have been asked of them too without the cache.
    pub store_cost_avoided: Family<MountLabels, Gauge<f64, AtomicU64>>,
    /// Requests a second that a store bears, learnt from its refusals; 0: it has not asked to slow
    /// down of late, and nothing is limited.
    pub store_request_limit: Family<StoreAddressLabels, RateGauge>,
    /// Replies by which a store asked to slow down (429, 503).
    pub store_throttled: Family<MountLabels, Counter>,
    /// Second requests sent because the reply to the first was late.
    pub store_hedges: Family<MountLabels, Counter>,
    /// Second requests that were answered before the first.
    pub store_hedges_won: Family<MountLabels, Counter>,
    /// Requests and bodies that wait for their part of the store's budget.
    pub store_waiting: Family<WaitingLabels, CountGauge>,
    /// Reads answered, by whether the store was needed.
    pub reads: Family<ReadLabels, Counter>,
    /// Bytes given to readers, by where they came from, and bytes loaded.
    pub read_bytes: Family<SourceLabels, Counter>,
    /// Statuses answered without asking the store, and with.
    pub stats: Family<ReadLabels, Counter>,
    /// Bytes of pages resident on this worker, as allocated on disk.
    pub pages_resident_bytes: Gauge,
    /// Bytes the page store may hold.
    pub pages_capacity_bytes: Gauge,
    /// Pages written to the page store.
    pub pages_filled: Counter,
    /// Pages evicted to make room.
    pub pages_evicted: Counter,
    /// Pages fetched but not kept: no room, a full queue or a failing disk.
    pub pages_not_kept: Counter,
    /// Pages that failed their checksum, were dropped and not served.
    pub pages_corrupt: Counter,
    /// Bytes of resident pages read again by the scrubber.
    pub pages_scrubbed_bytes: Counter,
    /// Pages that the scrubber found rotten and dropped.
    pub pages_rotten: Counter,
    /// When the scrubber's last whole pass ended on the cache directory where that is longest
    /// ago, in Unix seconds; 0 while one has had none.
    pub scrub_passed_seconds: Gauge,
    /// Times that a cache directory was taken out of service because its disk failed.
    pub cache_directory_faults: Counter,
    /// Cache directories out of service because their disk failed.
    pub cache_directories_out: Gauge,
    /// Bytes of the memory budget in use.
    pub memory_used_bytes: Gauge,
    /// The memory budget.
    pub memory_budget_bytes: Gauge,
    /// Requests at the faces.
    pub face_requests: Family<FaceLabels, Counter>,
    /// Lengths of the files that the kernel was given to read by itself, at each open.
    pub passthrough_bytes: Counter,
}

fn store_seconds() -> Histogram {
    Histogram::new([
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set, all at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store_seconds: Family::new_with_constructor(store_seconds),
            store_requests: Default::default(),
            store_read_bytes: Default::default(),
            store_cost: Default::default(),
            store_cost_avoided: Default::default(),
            store_request_limit: Default::default(),
            store_throttled: Default::default(),
            store_hedges: Default::default(),
            store_hedges_won: Default::default(),
            store_waiting: Default::default(),
            reads: Default::default(),
            read_bytes: Default::default(),
            stats: Default::default(),
            pages_resident_bytes: Default::default(),
            pages_capacity_bytes: Default::default(),
            pages_filled: Default::default(),
            pages_evicted: Default::default(),
            pages_not_kept: Default::default(),
            pages_corrupt: Default::default(),
            pages_scrubbed_bytes: Default::default(),
            pages_rotten: Default::default(),
            scrub_passed_seconds: Default::default(),
            cache_directory_faults: Default::default(),
            cache_directories_out: Default::default(),
            memory_used_bytes: Default::default(),
            memory_budget_bytes: Default::default(),
            face_requests: Default::default(),
            passthrough_bytes: Default::default(),
        }
    }

    /// Enters every metric into `registry` under the prefix `larder`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("larder");
        self.register_store(registry);
        self.register_store_budget(registry);
        self.register_pages(registry);
        let bytes = || Unit::Bytes;
        registry.register("reads", "Reads answered, by outcome", self.reads.clone());
        registry.register_with_unit(
            "read",
            "Bytes given to readers, by source; load: made resident, given to nobody",
            bytes(),
            self.read_bytes.clone(),
        );
        registry.register("stats", "Statuses answered, by outcome", self.stats.clone());
        registry.register_with_unit(
            "memory_used",
            "Memory budget in use",
            bytes(),
            self.memory_used_bytes.clone(),
        );
        registry.register_with_unit(
            "memory_budget",
            "Memory budget of the process",
            bytes(),
            self.memory_budget_bytes.clone(),
        );
        registry.register(
            "face_requests",
            "Requests at the faces, by operation and code",
            self.face_requests.clone(),
        );
        registry.register_with_unit(
            "passthrough_opened",
            "Lengths of files given to the kernel to read by itself, at each open; how much of \
             them it reads is not known",
            bytes(),
            self.passthrough_bytes.clone(),
        );
    }

    /// What was asked of one mount's store so far, over all operations and outcomes.
    #[must_use]
    pub fn store_totals(&self, mount: &str) -> StoreTotals {
        let mut totals = StoreTotals::default();
        for operation in STORE_OPERATIONS {
            let mount = mount.to_owned();
            for outcome in STORE_OUTCOMES {
                let labels = StoreOutcomeLabels { mount: mount.clone(), operation, outcome };
                totals.requests += self.store_requests.get(&labels).map_or(0, |count| count.get());
            }
            let labels = StoreLabels { mount, operation };
            totals.read_bytes += self.store_read_bytes.get(&labels).map_or(0, |count| count.get());
        }
        totals
    }

    fn register_store(&self, registry: &mut Registry) {
        registry.register(
            "store_requests",
            "Requests sent to under storages, each retry counted",
            self.store_requests.clone(),
        );
        registry.register_with_unit(
            "store_read",
            "Body bytes received from under storages",
            Unit::Bytes,
            self.store_read_bytes.clone(),
        );
        registry.register_with_unit(
            "store_reply",
            "Time until the head of the store's reply",
            Unit::Seconds,
            self.store_seconds.clone(),
        );
        registry.register(
            "store_cost",
            "Cost of requests and bytes asked of the store since start, by the mount's prices",
            self.store_cost.clone(),
        );
        registry.register(
            "store_cost_avoided",
            "Cost of requests and bytes answered from the cache instead since start",
            self.store_cost_avoided.clone(),
        );
    }

    fn register_store_budget(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_request_limit",
            "Requests a second that the store bears, as learnt from its refusals; 0: no limit",
            Unit::Other("per_second".to_owned()),
            self.store_request_limit.clone(),
        );
        registry.register(
            "store_throttled",
            "Replies by which the store asked to slow down",
            self.store_throttled.clone(),
        );
        registry.register(
            "store_hedges",
            "Second requests sent because the reply to the first was late",
            self.store_hedges.clone(),
        );
        registry.register(
            "store_hedges_won",
            "Second requests that were answered before the first",
            self.store_hedges_won.clone(),
        );
        registry.register(
            "store_waiting",
            "Requests and bodies that wait for their part of the store's budget, by class",
            self.store_waiting.clone(),
        );
    }

    fn register_pages(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "pages_resident",
            "Pages resident, as allocated on disk",
            Unit::Bytes,
            self.pages_resident_bytes.clone(),
        );
        registry.register_with_unit(
            "pages_capacity",
            "What the page store may hold",
            Unit::Bytes,
            self.pages_capacity_bytes.clone(),
        );
        registry.register("pages_filled", "Pages written", self.pages_filled.clone());
        registry.register(
            "pages_evicted",
            "Pages evicted to make room",
            self.pages_evicted.clone(),
        );
        registry.register(
            "pages_not_kept",
            "Pages fetched but not kept",
            self.pages_not_kept.clone(),
        );
        registry.register(
            "pages_corrupt",
            "Pages that failed their checksum and were dropped",
            self.pages_corrupt.clone(),
        );
        registry.register_with_unit(
            "pages_scrubbed",
            "Resident pages read again by the scrubber",
            Unit::Bytes,
            self.pages_scrubbed_bytes.clone(),
        );
        registry.register(
            "pages_rotten",
            "Pages that the scrubber found rotten and dropped",
            self.pages_rotten.clone(),
        );
        registry.register_with_unit(
            "scrub_passed",
            "Unix time of the last whole scrub of the cache directory where that is longest ago",
            Unit::Seconds,
            self.scrub_passed_seconds.clone(),
        );
        registry.register(
            "cache_directory_faults",
            "Times a cache directory went out of service because its disk failed",
            self.cache_directory_faults.clone(),
        );
        registry.register(
            "cache_directories_out",
            "Cache directories out of service because their disk failed",
            self.cache_directories_out.clone(),
        );
    }
}
