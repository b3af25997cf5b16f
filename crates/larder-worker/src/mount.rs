// SPDX-License-Identifier: Apache-2.0
//! A mount as the worker serves it: the record, the open under storage and its last word.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_cluster::{mounts::MountRecord, wire::message::Outcome};
use larder_core::{
    ContentId, Error, ErrorKind, FileId, Key, Metrics, MountName, Result, Version,
    metric::{ReadLabels, SourceLabels},
};
use larder_ufs::mount::MountedStore;
use prometheus_client::metrics::{counter::Counter, family::Family};

use crate::miss::{StoreCost, Streams};

/// A mount and its opened under storage, as the composing program gives them.
#[derive(Debug, Clone)]
pub struct Store {
    /// The record every process knows.
    pub record: MountRecord,
    /// Its store, with its layers.
    pub storage: MountedStore,
}

#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) record: MountRecord,
    pub(crate) storage: MountedStore,
    /// Grows when what is known is dropped, so that cached listings of before are not used.
    pub(crate) generation: AtomicU64,
    /// What a request costs there, for those who plan one.
    pub(crate) cost: StoreCost,
    /// How many bodies at once its bandwidth needs; shared by all mounts of one store.
    pub(crate) streams: Arc<Streams>,
    /// Its number among the mounts.
    pub(crate) account: usize,
    /// Where its requests are counted.
    pub(crate) counters: Counters,
    last_error: Mutex<Option<String>>,
}

/// The counters of one mount, looked up once instead of at each request.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Bytes read from the page store.
    pub(crate) from_cache: Counter,
    /// Bytes read as they came from the store.
    pub(crate) from_store: Counter,
    /// Bytes that were made resident and given to nobody.
    pub(crate) loaded: Counter,
    reads: BTreeMap<Outcome, Counter>,
    stats: BTreeMap<Outcome, Counter>,
}

impl Counters {
    fn new(metrics: &Metrics, mount: &str) -> Self {
        let bytes = |source| {
            let labels = SourceLabels { mount: mount.to_owned(), source };
            metrics.read_bytes.get_or_create(&labels).clone()
        };
        let by_outcome = |family: &Family<ReadLabels, Counter>| {
            let counters = Outcome::ALL.map(|outcome| {
                let labels = ReadLabels { mount: mount.to_owned(), outcome: outcome.as_str() };
                (outcome, family.get_or_create(&labels).clone())
            });
            BTreeMap::from(counters)
        };
        Self {
            from_cache: bytes("cache"),
            from_store: bytes("store"),
            loaded: bytes("load"),
            reads: by_outcome(&metrics.reads),
            stats: by_outcome(&metrics.stats),
        }
    }

    /// Counts a read that was answered.
    pub(crate) fn read(&self, outcome: Outcome) {
        self.reads[&outcome].inc();
    }

    /// Counts reads of what was resident.
    pub(crate) fn hits(&self, reads: u64) {
        self.reads[&Outcome::Hit].inc_by(reads);
    }

    /// How many reads ended so.
    pub(crate) fn reads(&self, outcome: Outcome) -> u64 {
        self.reads[&outcome].get()
    }

    /// How many statuses were answered so.
    pub(crate) fn stats(&self, outcome: Outcome) -> u64 {
        self.stats[&outcome].get()
    }

    /// Counts a status that was answered.
    pub(crate) fn stat(&self, outcome: Outcome) {
        self.stats[&outcome].inc();
    }
}

impl Mount {
    fn new(store: Store, account: usize, streams: Arc<Streams>, metrics: &Metrics) -> Self {
        let Store { record, storage } = store;
        let counters = Counters::new(metrics, record.name.as_str());
        Self {
            counters,
            record,
            storage,
            generation: AtomicU64::new(0),
            cost: StoreCost::new(),
            streams,
            account,
            last_error: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.record.name.as_str()
    }

    pub(crate) fn file_id(&self, key: &Key) -> FileId {
        self.record.file_id(key)
    }

    pub(crate) fn content_id(&self, key: &Key, version: &Version) -> ContentId {
        ContentId::new(self.file_id(key), version)
    }

    /// Remembers whether the store answers, for people who ask how it is.
    pub(crate) fn note<T>(&self, result: Result<T>) -> Result<T> {
        let trouble = match &result {
            Err(error) if is_trouble(error.kind()) => Some(error.to_string()),
            _ => None,
        };
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some() || trouble.is_some() {
            *last = trouble;
        }
        result
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget_listings(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether an error says something about the store rather than about the request.
fn is_trouble(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Denied)
}

/// The mounts of a worker by name.
#[derive(Debug)]
pub(crate) struct Mounts(BTreeMap<MountName, Arc<Mount>>);

impl Mounts {
    pub(crate) fn new(stores: Vec<Store>, metrics: &Metrics) -> Self {
        let mut by_address: HashMap<String, Arc<Streams>> = HashMap::new();
        let by_name = stores.into_iter().enumerate().map(|(account, store)| {
            let name = store.record.name.clone();
            let streams = match store.storage.address() {
                Some(address) => Arc::clone(by_address.entry(address.to_owned()).or_default()),
                None => Arc::default(),
            };
            (name, Arc::new(Mount::new(store, account, streams, metrics)))
        });
        Self(by_name.collect())
    }

    pub(crate) fn get(&self, name: &MountName) -> Result<Arc<Mount>> {
        let mount = self.0.get(name).cloned();
        mount.ok_or_else(|| Error::not_found(format!("there is no mount '{name}'")))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.0.values()
    }
}
