// SPDX-License-Identifier: Apache-2.0
//! One accounted memory budget for the process.
//!
//! Whoever is about to hold bytes for a reader or a fetch takes a [`Lease`] first and keeps it
//! as long as the bytes. Nothing is allocated here; this is bookkeeping with back pressure.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is handed out in units of this many bytes.
const UNIT: u64 = 4096;

/// A number of bytes that all holders together never exceed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    total_units: u32,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Lease(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of `bytes`, at least 1 MiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = (bytes.max(1 << 20) / UNIT).min(u64::from(u32::MAX >> 4));
        let total_units = u32::try_from(units).expect("clamped to 32 bits");
        Self { units: Arc::new(Semaphore::new(total_units as usize)), total_units }
    }

    /// Waits until `bytes` are free. First come, first served; a wish above the whole budget is
    /// granted when nobody else holds anything.
    pub async fn acquire(&self, bytes: u64) -> Lease {
        let units = self.units_for(bytes);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Lease(permit.expect("the semaphore is never closed"))
    }

    /// Takes `bytes` if they are free now.
    #[must_use]
    pub fn try_acquire(&self, bytes: u64) -> Option<Lease> {
        let units = self.units_for(bytes);
        Arc::clone(&self.units).try_acquire_many_owned(units).ok().map(Lease)
    }

    /// The whole budget in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.total_units) * UNIT
    }

    /// What is held now, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total() - self.units.available_permits() as u64 * UNIT
    }

    fn units_for(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(UNIT).min(u64::from(self.total_units));
        u32::try_from(units).expect("at most the total, which has 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_counted_and_given_back() {
        let budget = MemoryBudget::new(1 << 20);
        let half = budget.try_acquire(1 << 19).expect("half is free");
        assert_eq!(budget.used(), 1 << 19);
        assert!(budget.try_acquire((1 << 19) + 1).is_none());
        drop(half);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_acquire(1 << 30).is_some(), "a giant wish takes the whole budget");
    }
}
