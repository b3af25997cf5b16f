// SPDX-License-Identifier: Apache-2.0
//! The memory of what lately left the small queue: fingerprints in a fixed table.
//!
//! Four-way buckets; the oldest of a bucket gives way. An entry counts for as long as its lane
//! takes to admit as many bytes as the main queue holds. A false match lets one segment start in
//! the main queue: no harm. The table doubles when more is resident than it can remember, as
//! with many small files: 8 bytes for each, up to a bound.

const WAYS: usize = 4;
/// It does not grow beyond so many: 32 MiB.
const ENTRIES_MAX: usize = 1 << 22;

#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    fingerprint: u32,
    /// When it left, on the lane's clock, in units of [`CLOCK_UNIT`]; zero: never used.
    left_at: u32,
}

/// The ghost's clock counts units of this many admitted bytes, so that 32 bits last 16 TiB
/// before they wrap; a wrap can only forget or remember too long.
const CLOCK_UNIT: u64 = 4096;

#[derive(Debug)]
pub(super) struct Ghost {
    table: Box<[Remembered]>,
}

impl Ghost {
    /// A ghost for at least `entries` segments.
    pub(super) fn new(entries: usize) -> Self {
        let entries = entries.next_power_of_two().max(WAYS);
        Self { table: vec![Remembered::default(); entries].into() }
    }

    pub(super) fn remember(&mut self, hash: u64, admitted: u64) {
        let now = units(admitted);
        let bucket = self.bucket(hash);
        let oldest = bucket.iter_mut().max_by_key(|old| match old.left_at {
            0 => u32::MAX,
            at => now.wrapping_sub(at),
        });
        if let Some(oldest) = oldest {
            *oldest = Remembered { fingerprint: fingerprint(hash), left_at: now };
        }
    }

    /// Doubles the table when `resident` is more than it can remember.
    pub(super) fn grow_for(&mut self, resident: usize) {
        let entries = self.table.len();
        if resident <= entries || entries * 2 > ENTRIES_MAX {
            return;
        }
        let grown = vec![Remembered::default(); entries * 2].into();
        let old = std::mem::replace(&mut self.table, grown);
        for (nth, bucket) in old.chunks_exact(WAYS).enumerate() {
            for entry in bucket.iter().filter(|entry| entry.left_at != 0) {
                // The bit that tells the halves apart is part of the fingerprint.
                let half = entry.fingerprint as usize / (entries / WAYS) % 2;
                let start = (nth + half * (entries / WAYS)) * WAYS;
                let free = self.table[start..start + WAYS].iter_mut().find(|new| new.left_at == 0);
                if let Some(free) = free {
                    *free = *entry;
                }
            }
        }
    }

    /// Whether the segment left within the last `window` admitted bytes; forgets it.
    pub(super) fn recall(&mut self, hash: u64, admitted: u64, window: u64) -> bool {
        let now = units(admitted);
        let found = self
            .bucket(hash)
            .iter_mut()
            .find(|old| old.left_at != 0 && old.fingerprint == fingerprint(hash));
        let Some(found) = found else { return false };
        let age = u64::from(now.wrapping_sub(found.left_at)) * CLOCK_UNIT;
        *found = Remembered::default();
        age <= window
    }

    /// The clock, which showed `(admitted, capacity)` before, shows other figures from now on:
    /// ages change in proportion to the capacity.
    pub(super) fn rescale(&mut self, before: (u64, u64), after: (u64, u64)) {
        let (old, new) = (units(before.0), units(after.0));
        for entry in self.table.iter_mut().filter(|entry| entry.left_at != 0) {
            let age = u128::from(old.wrapping_sub(entry.left_at)) * u128::from(after.1);
            let age = (age / u128::from(before.1.max(1))) as u32;
            entry.left_at = new.wrapping_sub(age).max(1);
        }
    }

    fn bucket(&mut self, hash: u64) -> &mut [Remembered] {
        let buckets = self.table.len() / WAYS;
        let start = (fingerprint(hash) as usize & (buckets - 1)) * WAYS;
        &mut self.table[start..start + WAYS]
    }
}

fn fingerprint(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn units(admitted: u64) -> u32 {
    ((admitted / CLOCK_UNIT) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use larder_core::Random;

    use super::{ENTRIES_MAX, Ghost};

    #[test]
    fn growing_forgets_nothing() {
        let mut ghost = Ghost::new(1024);
        let hash = |name| Random::seeded(name).next();
        for name in 0..256 {
            ghost.remember(hash(name), 1 << 20);
        }
        let known: Vec<u64> = (0..256).collect();
        ghost.grow_for(1025);
        ghost.grow_for(1025);
        assert_eq!(ghost.table.len(), 2048, "as much as it takes");
        let kept = known.iter().filter(|name| ghost.recall(hash(**name), 1 << 20, 1 << 20));
        assert!(kept.count() > 250);
        (0..20).for_each(|_| ghost.grow_for(usize::MAX));
        assert_eq!(ghost.table.len(), ENTRIES_MAX);
    }
}
