// SPDX-License-Identifier: Apache-2.0
//! The sample and its miniatures, and what they missed.

use larder_core::SEGMENT_SIZE;

use super::{Access, HALVES, strata::Strata};
use crate::{Simulation, evict::Wanted};

/// Miniatures of the page store at each capacity, fed with the same sample.
#[derive(Debug)]
pub(super) struct Sample {
    capacity: u64,
    segments_max: usize,
    /// The sample is one in two to the power of this.
    halvings: u32,
    miniatures: [Simulation; HALVES.len()],
    pub(super) strata: Vec<Strata>,
    pub(super) reads: u64,
}

impl Sample {
    /// An empty sample for a cache of `capacity` bytes that keeps `segments_max` segments at most.
    pub(super) fn new(capacity: u64, accounts: usize, segments_max: usize) -> Self {
        // With whole segments the largest miniature would be halved as often by and by.
        let segments = capacity / 2 * HALVES[HALVES.len() - 1] / SEGMENT_SIZE;
        let parts = segments.div_ceil(segments_max as u64).max(1);
        let halvings = parts.next_power_of_two().trailing_zeros();
        let miniatures =
            HALVES.map(|halves| Simulation::new(miniature_capacity(capacity, halves, halvings)));
        let strata = vec![Strata::new(); accounts];
        Self { capacity, segments_max, halvings, miniatures, strata, reads: 0 }
    }

    /// The present capacity.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether the segment of this name is in the sample, by a threshold for [`spread`].
    pub(super) fn threshold(&self) -> u64 {
        u64::MAX >> self.halvings
    }

    /// The share of all segments that is in the sample.
    pub(super) fn rate(&self) -> f64 {
        1.0 / (1_u64 << self.halvings.min(63)) as f64
    }

    /// Segments in the largest miniature.
    pub(super) fn segments(&self) -> usize {
        self.miniatures.iter().map(Simulation::segments).max().unwrap_or(0)
    }

    /// How far, as a standard error, the sample may hold more or fewer of the segments that a
    /// miniature keeps than it has room for.
    pub(super) fn sizes_error(&self) -> [f64; HALVES.len()] {
        let left_out = 1.0 - self.rate();
        let held = |at: usize| self.miniatures[at].segments().max(1) as f64;
        std::array::from_fn(|at| (left_out / held(at)).sqrt())
    }

    /// Which miniatures were full at some time.
    pub(super) fn full(&self) -> [bool; HALVES.len()] {
        std::array::from_fn(|at| self.miniatures[at].was_full())
    }

    /// Whether that was more than the sample may hold, which halved it.
    pub(super) fn read(&mut self, account: usize, access: &Access) -> bool {
        self.reads += 1;
        let weight = (1_u64 << self.halvings.min(63)) as f64;
        let page_weight = weight * access.page_bytes as f64;
        let stratum = self.strata[account].of(spread(access.name));
        stratum.reads += weight;
        stratum.bytes += weight * access.bytes() as f64;
        let Access { page_bytes, overhead, .. } = *access;
        let wanted = Wanted::new((access.pages.clone(), access.ahead), page_bytes, overhead);
        let mut grown = false;
        for (at, miniature) in self.miniatures.iter_mut().enumerate() {
            let pages = miniature.fetch(access.name, &wanted);
            if pages > 0 {
                stratum.missed_reads[at] += weight;
                stratum.missed_bytes[at] += page_weight * f64::from(pages);
                grown = true;
            }
        }
        let too_many = grown && self.segments() > self.segments_max;
        if too_many {
            self.halve();
        }
        too_many
    }

    fn halve(&mut self) {
        self.halvings += 1;
        let threshold = self.threshold();
        for (miniature, halves) in self.miniatures.iter_mut().zip(HALVES) {
            let capacity = miniature_capacity(self.capacity, halves, self.halvings);
            miniature.halve(|name| spread(name) <= threshold, capacity);
        }
    }
}

/// The bytes of a miniature.
fn miniature_capacity(capacity: u64, halves: u64, halvings: u32) -> u64 {
    (capacity / 2).saturating_mul(halves) >> halvings.min(63)
}

/// Where in the space of samples a name falls: independent of the bits the policy uses of it.
pub(super) fn spread(name: u64) -> u64 {
    let mixed = name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}
