// SPDX-License-Identifier: Apache-2.0
//! A mount as the worker serves it: the record, the open under storage and its last word.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_cluster::mounts::MountRecord;
use larder_core::{ContentId, Error, ErrorKind, FileId, Key, MountName, Result, Version};
use larder_ufs::under_storage::UnderStorage;

use crate::miss::StoreCost;

/// A mount and its opened under storage, as the composing program gives them.
#[derive(Debug, Clone)]
pub struct Store {
    /// The record every process knows.
    pub record: MountRecord,
    /// The adapter with its layers.
    pub storage: Arc<dyn UnderStorage>,
}

#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) record: MountRecord,
    pub(crate) storage: Arc<dyn UnderStorage>,
    /// Grows when what is known is dropped, so that cached listings of before are not used.
    pub(crate) generation: AtomicU64,
    /// What a request costs there, for those who plan one.
    pub(crate) cost: StoreCost,
    last_error: Mutex<Option<String>>,
}

impl Mount {
    fn new(store: Store) -> Self {
        let Store { record, storage } = store;
        Self {
            record,
            storage,
            generation: AtomicU64::new(0),
            cost: StoreCost::new(),
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
    pub(crate) fn new(stores: Vec<Store>) -> Self {
        let by_name = stores.into_iter().map(|store| {
            let name = store.record.name.clone();
            (name, Arc::new(Mount::new(store)))
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
