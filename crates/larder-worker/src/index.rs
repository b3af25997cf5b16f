// SPDX-License-Identifier: Apache-2.0
//! Joins the page store's index with the metadata store: segment records are residency records.

use std::sync::Arc;

use larder_core::Result;
use larder_meta::MetaStore;
use larder_pages::{Index, IndexKey};

/// The page store's view of the metadata store.
#[derive(Debug)]
pub struct ResidencyIndex(Arc<MetaStore>);

impl ResidencyIndex {
    /// Keeps segment records in `meta`.
    #[must_use]
    pub fn new(meta: Arc<MetaStore>) -> Self {
        Self(meta)
    }
}

impl Index for ResidencyIndex {
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>> {
        self.0.residency(&key.to_bytes())
    }

    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()> {
        self.0.put_residency(key.to_bytes(), record)
    }

    fn remove(&self, key: &IndexKey) -> Result<()> {
        self.0.remove_residency(&key.to_bytes())
    }

    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()> {
        self.0.for_each_residency(&mut |key, record| visit(IndexKey::from_bytes(key), record))
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
}
