// SPDX-License-Identifier: Apache-2.0
//! What programs have open, by the numbers the kernel was given for it.
//!
//! One lock, held for a map operation; reads share it.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_core::{Error, Result};

/// Open things by number. Numbers are never used twice.
#[derive(Debug)]
pub(crate) struct OpenTable<T> {
    open: RwLock<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for OpenTable<T> {
    fn default() -> Self {
        Self { open: RwLock::default(), next: AtomicU64::new(1) }
    }
}

impl<T> OpenTable<T> {
    /// Keeps `thing` until it is released.
    pub(crate) fn insert(&self, thing: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::new(thing));
        number
    }

    /// What was kept under this number.
    ///
    /// # Errors
    /// `Invalid` when nothing is, which only a defect of ours or of the kernel can bring about.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<T>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&number).cloned().ok_or_else(|| Error::invalid("no such open file"))
    }

    /// Gives up what was kept; the last use of it may be elsewhere.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<T>> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&number)
    }
}
