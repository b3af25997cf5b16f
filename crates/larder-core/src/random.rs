// SPDX-License-Identifier: Apache-2.0
//! The seam through which randomness enters (jitter, sampling). Not for secrets: keys and tokens
//! come from the operating system's generator in the room that needs them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A small generator (SplitMix64, Steele, Lea and Flood 2014): a seed repeats its sequence.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// A generator whose sequence is fixed by `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A generator seeded differently in each process.
    #[must_use]
    pub fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// The next 64 bits.
    pub fn next(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which must not be zero).
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no number");
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product fits in 64 bits")
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
