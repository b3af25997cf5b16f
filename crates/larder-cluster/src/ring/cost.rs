// SPDX-License-Identifier: Apache-2.0
//! The weighted draw: what it costs a member to take a slot. The cheapest member owns it.
//!
//! The cost is `-log2(u) / weight` for a `u` in (0, 1] drawn by hashing slot and member, which
//! makes a member's chance exactly its share of the weights (an exponential race). All of it is
//! integer arithmetic that fits in 64 bits, so that every language computes the same.

use std::cmp::Ordering;

use crate::member::WorkerId;

/// Fractional bits of a cost.
const FRACTION_BITS: u32 = 32;
/// Weights above this count as this: 16 PiB in GiB. Keeps `cost * weight` below 2^63.
const WEIGHT_MAX: u32 = 1 << 24;

/// One member as the draw sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runner {
    /// Who.
    pub(super) id: WorkerId,
    seed: u64,
    weight: u64,
}

/// What a slot costs one runner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// Before division by the weight; at most 2^38.
    bits: u64,
    weight: u64,
    id: WorkerId,
}

impl Runner {
    pub(super) fn new(id: WorkerId, weight: u32) -> Self {
        let seed = mix(id.0.wrapping_add(GOLDEN));
        Self { id, seed, weight: u64::from(weight.clamp(1, WEIGHT_MAX)) }
    }

    /// What the slot with this seed costs; `None` when that is certainly not below `bound`.
    pub(super) fn cost_below(&self, slot_seed: u64, bound: Option<&Cost>) -> Option<Cost> {
        let draw = mix(self.seed ^ slot_seed);
        if let Some(bound) = bound {
            // 1 - u never exceeds -log2(u), and costs far less: with many members nearly all
            // end here.
            let least = u64::from(!((draw >> 32) as u32));
            if least * bound.weight > bound.bits * self.weight {
                return None;
            }
        }
        let cost = Cost { bits: negative_log2(draw), weight: self.weight, id: self.id };
        bound.is_none_or(|bound| cost < *bound).then_some(cost)
    }
}

impl Cost {
    /// Whose cost this is.
    pub(super) fn id(&self) -> WorkerId {
        self.id
    }
}

/// The seed of a slot.
pub(super) fn slot_seed(slot: u64) -> u64 {
    mix(slot.wrapping_mul(GOLDEN))
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `-log2((draw | 1) / 2^64)` with 32 fractional bits, by squaring a 32-bit mantissa: squaring
/// doubles the logarithm, and a result of 2 or more is the next bit of it. Rounds up.
fn negative_log2(draw: u64) -> u64 {
    let draw = draw | 1;
    let shift = draw.leading_zeros();
    let mut mantissa = (draw << shift) >> 32;
    let mut log = u64::from(63 - shift);
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 31;
        let bit = mantissa >> 32;
        mantissa >>= bit;
        log = log << 1 | bit;
    }
    (64 << FRACTION_BITS) - log
}

impl Ord for Cost {
    /// `bits / weight`, without dividing; of equals the lower id is cheaper.
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.bits * other.weight, other.bits * self.weight);
        left.cmp(&right).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Cost {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cost {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cost {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_thirty_bits() {
        let random = larder_core::Random::seeded(1);
        let near = |draw: u64| {
            let exact = -((draw | 1) as f64 / 2f64.powi(64)).log2();
            let got = negative_log2(draw) as f64 / 2f64.powi(32);
            assert!((got - exact).abs() < 3e-9, "{draw:#x}: {got} against {exact}");
        };
        (0..10_000).for_each(|_| near(random.next()));
        [0, 1, 2, 3, 1 << 32, 1 << 63, u64::MAX - 1].into_iter().for_each(near);
    }

    #[test]
    fn the_cheap_bound_never_changes_the_answer() {
        let random = larder_core::Random::seeded(2);
        for _ in 0..100_000 {
            let weight = || 1 << random.below(25);
            let first = Runner::new(WorkerId(random.next()), weight());
            let second = Runner::new(WorkerId(random.next()), weight());
            let slot = slot_seed(random.below(1 << 16));
            let bound = first.cost_below(slot, None).expect("nothing to be below");
            let free = second.cost_below(slot, None).expect("nothing to be below");
            assert_eq!(second.cost_below(slot, Some(&bound)).is_some(), free < bound);
        }
    }
}
