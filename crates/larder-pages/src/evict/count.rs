// SPDX-License-Identifier: Apache-2.0
//! How often something was read, of which half is forgotten with every epoch: exact, in two bytes
//! that stand in the node while it is resident and in the ghost afterwards.

/// Epochs are counted modulo this.
const EPOCHS: u8 = 1 << 7;

/// A count of reads as it was in some epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) reads: u8,
    /// Modulo 128: what was not read for so long starts again with too much, of almost nothing.
    pub(super) epoch: u8,
}

impl Count {
    /// What is left of it in this epoch.
    pub(super) fn at(self, epoch: u8) -> u8 {
        let passed = epoch.wrapping_sub(self.epoch) % EPOCHS;
        self.reads.checked_shr(u32::from(passed)).unwrap_or(0)
    }

    /// With one read more.
    pub(super) fn and_one(self, epoch: u8) -> Self {
        Self { reads: self.at(epoch).saturating_add(1), epoch: epoch % EPOCHS }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn half_is_forgotten_with_every_epoch() {
        let mut count = Count::default();
        for _ in 0..300 {
            count = count.and_one(126);
        }
        assert_eq!([126, 127, 128, 133, 134].map(|epoch| count.at(epoch)), [255, 127, 63, 1, 0]);
        assert_eq!(count.and_one(128), Count { reads: 64, epoch: 0 });
        assert_eq!(count.and_one(128).at(129), 32, "also where epochs begin again");
    }
}
