// SPDX-License-Identifier: Apache-2.0
//! The durable, ordered map of segment records, as the page store wants it.
//!
//! The worker joins it with its metadata store; values mean nothing to the implementor. Writes
//! are gathered by the implementor, so a crash may lose the last batch, never an older one. What
//! was put can be read back at once.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use larder_core::{ContentId, Result, SegmentIndex};

/// The name of one segment of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey {
    /// Whose segment.
    pub content: ContentId,
    /// Which segment.
    pub segment: SegmentIndex,
}

impl IndexKey {
    /// The key as bytes that sort like the key: content, then segment, both big endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.content.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.segment.0.to_be_bytes());
        bytes
    }

    /// The key that these bytes stand for.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        let mut content = [0; 16];
        let mut segment = [0; 4];
        content.copy_from_slice(&bytes[..16]);
        segment.copy_from_slice(&bytes[16..]);
        Self {
            content: ContentId(u128::from_be_bytes(content)),
            segment: SegmentIndex(u32::from_be_bytes(segment)),
        }
    }
}

/// A durable ordered map of segment records.
pub trait Index: Send + Sync + Debug {
    /// The record under `key`, also when it was put a moment ago.
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>>;
    /// Puts or replaces the record under `key`. Need not be durable on return.
    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()>;
    /// Removes the record under `key`, if there is one. Need not be durable on return.
    fn remove(&self, key: &IndexKey) -> Result<()>;
    /// Shows every record once, in the order of keys; stops at the first error of `visit`. What
    /// is put or removed meanwhile may be shown or not. `visit` never calls the index.
    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()>;
    /// Returns when all that was put or removed before the call is durable.
    fn flush(&self) -> Result<()>;
}

/// An index in memory: forgets everything with the process. For tests and throw-away caches.
#[derive(Debug, Default)]
pub struct MemoryIndex(Mutex<BTreeMap<IndexKey, Vec<u8>>>);

impl MemoryIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<IndexKey, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &IndexKey) -> Result<Option<Vec<u8>>> {
        Ok(self.map().get(key).cloned())
    }

    fn put(&self, key: IndexKey, record: Vec<u8>) -> Result<()> {
        self.map().insert(key, record);
        Ok(())
    }

    fn remove(&self, key: &IndexKey) -> Result<()> {
        self.map().remove(key);
        Ok(())
    }

    fn for_each(&self, visit: &mut dyn FnMut(IndexKey, &[u8]) -> Result<()>) -> Result<()> {
        for (key, record) in self.map().iter() {
            visit(*key, record)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_bytes() {
        let key = |content, segment| IndexKey {
            content: ContentId(content),
            segment: SegmentIndex(segment),
        };
        let keys = [key(1, 0), key(1, 256), key(2, 1), key(u128::MAX, 0)];
        for pair in keys.windows(2) {
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
        }
        assert!(keys.iter().all(|key| IndexKey::from_bytes(key.to_bytes()) == *key));
    }
}
