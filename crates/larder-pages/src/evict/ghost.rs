// SPDX-License-Identifier: Apache-2.0
//! The memory of what lately left: fingerprints in a table, with how often each was read.
//!
//! Four-way buckets; the oldest of a bucket gives way. A false match lends one segment another's
//! count: no harm. The table doubles when more is resident than it can remember, as with many
//! small files: 8 bytes for each, up to a bound.

use super::count::Count;

const WAYS: usize = 4;
/// It does not grow beyond so many: 32 MiB.
const ENTRIES_MAX: usize = 1 << 22;

/// What is known of a segment that left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) count: Count,
    /// When it left, on the clock of its queues, which wraps: a wrap can only forget or remember
    /// too long.
    pub(super) left_at: u16,
    /// It left from the window.
    pub(super) from_window: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    fingerprint: u32,
    left_at: u16,
    /// How often it was read, never zero where the entry is used.
    reads: u8,
    /// The epoch of the count in the low seven bits, whether it left the window in the last.
    epoch: u8,
}

const FROM_WINDOW: u8 = 1 << 7;

#[derive(Debug)]
pub(super) struct Ghost {
    table: Box<[Entry]>,
}

impl Ghost {
    /// A ghost for at least `entries` segments.
    pub(super) fn new(entries: usize) -> Self {
        let entries = entries.next_power_of_two().max(WAYS);
        Self { table: vec![Entry::default(); entries].into() }
    }

    pub(super) fn remember(&mut self, hash: u64, memory: Memory) {
        let bucket = self.bucket(hash);
        let oldest = bucket.iter_mut().max_by_key(|old| match old.reads {
            0 => u16::MAX,
            _ => memory.left_at.wrapping_sub(old.left_at),
        });
        if let Some(oldest) = oldest {
            *oldest = Entry::new(fingerprint(hash), memory);
        }
    }

    /// Doubles the table when `resident` is more than it can remember.
    pub(super) fn grow_for(&mut self, resident: usize) {
        let entries = self.table.len();
        if resident <= entries || entries * 2 > ENTRIES_MAX {
            return;
        }
        let grown = vec![Entry::default(); entries * 2].into();
        let old = std::mem::replace(&mut self.table, grown);
        for (nth, bucket) in old.chunks_exact(WAYS).enumerate() {
            for entry in bucket.iter().filter(|entry| entry.reads != 0) {
                // The bit that tells the halves apart is part of the fingerprint.
                let half = entry.fingerprint as usize / (entries / WAYS) % 2;
                let start = (nth + half * (entries / WAYS)) * WAYS;
                let free = self.table[start..start + WAYS].iter_mut().find(|new| new.reads == 0);
                if let Some(free) = free {
                    *free = *entry;
                }
            }
        }
    }

    /// What is known of the segment; forgets it.
    pub(super) fn recall(&mut self, hash: u64) -> Option<Memory> {
        let found = self
            .bucket(hash)
            .iter_mut()
            .find(|old| old.reads != 0 && old.fingerprint == fingerprint(hash))?;
        Some(std::mem::take(found).memory())
    }

    fn bucket(&mut self, hash: u64) -> &mut [Entry] {
        let buckets = self.table.len() / WAYS;
        let start = (fingerprint(hash) as usize & (buckets - 1)) * WAYS;
        &mut self.table[start..start + WAYS]
    }
}

impl Entry {
    fn new(fingerprint: u32, memory: Memory) -> Self {
        let Memory { count, left_at, from_window } = memory;
        let from_window = if from_window { FROM_WINDOW } else { 0 };
        let reads = count.reads.max(1);
        Self { fingerprint, left_at, reads, epoch: count.epoch & !FROM_WINDOW | from_window }
    }

    fn memory(self) -> Memory {
        let count = Count { reads: self.reads, epoch: self.epoch & !FROM_WINDOW };
        Memory { count, left_at: self.left_at, from_window: self.epoch & FROM_WINDOW != 0 }
    }
}

fn fingerprint(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use larder_core::Random;

    use super::{Count, ENTRIES_MAX, Ghost, Memory};

    fn hash(name: u64) -> u64 {
        Random::seeded(name).next()
    }

    fn memory(name: u64) -> Memory {
        let count = Count { reads: name as u8 | 1, epoch: name as u8 % 128 };
        Memory { count, left_at: name as u16, from_window: name.is_multiple_of(3) }
    }

    #[test]
    fn what_left_is_known_as_it_was_and_only_once() {
        let mut ghost = Ghost::new(4096);
        for name in 0..400 {
            ghost.remember(hash(name), memory(name));
        }
        let known = (0..400).filter(|name| ghost.recall(hash(*name)) == Some(memory(*name)));
        assert_eq!(known.count(), 400);
        assert_eq!(ghost.recall(hash(7)), None);
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut ghost = Ghost::new(4);
        let name = |nth: u64| nth << 32;
        for nth in 1..=5 {
            let left_at = u16::MAX.wrapping_add(nth as u16);
            ghost.remember(name(nth), Memory { left_at, ..memory(nth) });
        }
        assert_eq!(ghost.recall(name(1)), None, "the first, though the clock has wrapped since");
        assert!((2..=5).all(|nth| ghost.recall(name(nth)).is_some()));
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut ghost = Ghost::new(1024);
        for name in 0..256 {
            ghost.remember(hash(name), memory(name));
        }
        ghost.grow_for(1025);
        ghost.grow_for(1025);
        assert_eq!(ghost.table.len(), 2048, "as much as it takes");
        let kept = (0..256).filter(|name| ghost.recall(hash(*name)) == Some(memory(*name)));
        assert!(kept.count() > 250);
        (0..20).for_each(|_| ghost.grow_for(usize::MAX));
        assert_eq!(ghost.table.len(), ENTRIES_MAX);
    }
}
