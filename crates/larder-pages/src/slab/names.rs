// SPDX-License-Identifier: Apache-2.0
//! Small files by content: hash tables of 32-bit numbers whose keys lie elsewhere, 5.7 to 11.4
//! bytes each. In shards, so that no growth holds the lock for long.

use std::{fmt, ops::Range};

use hashbrown::HashTable;
use larder_core::ContentId;

const SHARDS: usize = 1024;
/// Tables that are made larger under one lock: with ten million files a millisecond or two.
const SHARDS_AT_ONCE: usize = 16;

/// A content in two words.
pub(super) type Key = [u64; 2];

/// Numbers by content.
pub(super) struct Names {
    shards: Box<[HashTable<u32>]>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }
}

impl Names {
    pub(super) fn key(content: ContentId) -> Key {
        [content.0 as u64, (content.0 >> 64) as u64]
    }

    pub(super) fn content(key: Key) -> ContentId {
        ContentId(u128::from(key[1]) << 64 | u128::from(key[0]))
    }

    /// The number of a content, if it is here; `key_of` tells the content of a number.
    pub(super) fn find(&self, key: Key, key_of: impl Fn(u32) -> Key) -> Option<u32> {
        self.shards[shard(key)].find(key[0], |number| key_of(*number) == key).copied()
    }

    /// Enters a number under a content that is not here yet.
    pub(super) fn insert(&mut self, key: Key, number: u32, key_of: impl Fn(u32) -> Key) {
        self.shards[shard(key)].insert_unique(key[0], number, |number| key_of(*number)[0]);
    }

    /// The tables, some at a time: to make all of them larger takes long.
    pub(super) fn some_at_a_time() -> impl Iterator<Item = Range<usize>> {
        (0..SHARDS).step_by(SHARDS_AT_ONCE).map(|first| first..first + SHARDS_AT_ONCE)
    }

    /// Makes room in these tables for their part of `more`; `key_of` tells the content of a number.
    pub(super) fn reserve(
        &mut self,
        tables: Range<usize>,
        more: usize,
        key_of: impl Fn(u32) -> Key,
    ) {
        // A little more than the mean, for the tables are not filled alike.
        let each = more.div_ceil(SHARDS) + more.div_ceil(SHARDS) / 16;
        for table in &mut self.shards[tables] {
            table.reserve(each, |number| key_of(*number)[0]);
        }
    }

    pub(super) fn remove(&mut self, key: Key, number: u32) {
        if let Ok(found) = self.shards[shard(key)].find_entry(key[0], |known| *known == number) {
            found.remove();
        }
    }
}

/// Numbers with their contents, those of one table together.
#[derive(Debug)]
pub(super) struct Sorted(Vec<Vec<(Key, u32)>>);

impl Default for Sorted {
    fn default() -> Self {
        Self(vec![Vec::new(); SHARDS])
    }
}

impl Sorted {
    pub(super) fn push(&mut self, key: Key, number: u32) {
        self.0[shard(key)].push((key, number));
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &[(Key, u32)]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// Contents are hashes; the tables themselves use the other word.
fn shard(key: Key) -> usize {
    (key[1] % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_in_every_table() {
        let mut names = Names::default();
        for tables in Names::some_at_a_time() {
            names.reserve(tables, 100 * SHARDS, |_| [0; 2]);
        }
        assert!(names.shards.iter().all(|table| table.capacity() >= 100));
    }
}
