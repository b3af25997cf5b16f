// SPDX-License-Identifier: Apache-2.0
//! Where a new content goes, and what an error on the way there means.

use std::io;

use larder_core::ContentId;

use crate::{
    Class, NotKept,
    catalogue::Catalogue,
    class::ClassNumber,
    evict::LaneIndex,
    expire,
    shelf::{Shelf, Trouble},
};

/// Evicting so often for one content means that others take the room each time.
const EVICTIONS_MAX: u32 = 4096;

/// A healthy directory for a new content, by what is free.
pub(super) fn choose(
    shelf: &Shelf,
    catalogue: &Catalogue,
    content: ContentId,
) -> Option<LaneIndex> {
    let lanes = shelf.lanes().zip(&catalogue.lanes);
    let weights: Vec<(LaneIndex, u64)> = lanes
        .filter(|(_, lane)| lane.takes_pages())
        .map(|(at, lane)| (at, lane.quota.placement_weight()))
        .collect();
    by_weight(content, &weights)
}

/// Room in a class for one new content, set aside until dropped.
pub(super) struct ClassRoom<'a> {
    shelf: &'a Shelf,
    class: ClassNumber,
    bytes: u64,
}

impl Drop for ClassRoom<'_> {
    fn drop(&mut self) {
        let mut catalogue = self.shelf.catalogue();
        catalogue.classes.unreserve(self.class, self.bytes);
        catalogue.classes.unreserve_file(self.class);
    }
}

/// Sets room aside in a class for one new content, whose class loses its own while a quota is
/// full.
pub(super) fn reserve_class(
    shelf: &Shelf,
    class: Class,
    bytes: u64,
) -> Result<ClassRoom<'_>, NotKept> {
    for _ in 0..EVICTIONS_MAX {
        let (class, has_place) = {
            let mut catalogue = shelf.catalogue();
            let class = catalogue.classes.number(class);
            if !catalogue.classes.could_hold(class, bytes) {
                return Err(NotKept::QuotaFull);
            }
            let has_place = catalogue.classes.try_reserve_file(class);
            if has_place && catalogue.classes.try_reserve(class, bytes) {
                return Ok(ClassRoom { shelf, class, bytes });
            }
            if has_place {
                catalogue.classes.unreserve_file(class);
            }
            (class, has_place)
        };
        let dropped = match has_place {
            true => shelf.evict_one_of(class, None),
            false => expire::drop_one_file(shelf, class),
        };
        if !dropped {
            return Err(NotKept::QuotaFull);
        }
    }
    Err(NotKept::QuotaFull)
}

/// A choice by weight that depends on the content alone while the weights stand, so that fills
/// of one content on several threads agree.
fn by_weight(content: ContentId, weights: &[(LaneIndex, u64)]) -> Option<LaneIndex> {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let point = (u128::from(total) * u128::from(content.0 as u64)) >> 64;
    let mut point = u64::try_from(point).expect("a fraction of the total");
    for (directory, weight) in weights {
        if point < *weight {
            return Some(*directory);
        }
        point -= weight;
    }
    weights.first().map(|(directory, _)| *directory)
}

/// Writing `cost` bytes failed: what that means for the directory and for the caller.
pub(super) fn judge(shelf: &Shelf, directory: LaneIndex, error: &io::Error, cost: u64) -> NotKept {
    match Trouble::of(error) {
        Trouble::Full => {
            shelf.file_system_was_full(directory, cost, error);
            NotKept::NoRoom
        }
        Trouble::Passing => {
            tracing::warn!(%error, "could not write pages; they are not kept");
            NotKept::DiskFault
        }
        Trouble::Broken => {
            shelf.fault(directory, error);
            NotKept::DiskFault
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ContentId;

    use super::{LaneIndex, by_weight};

    #[test]
    fn placement_follows_the_weights() {
        let weights = [(LaneIndex(0), 100), (LaneIndex(1), 300)];
        let mut second = 0;
        for name in 0..4000_u64 {
            let content = ContentId(u128::from(name.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            second += u32::from(by_weight(content, &weights) == Some(LaneIndex(1)));
        }
        assert!((2800..3200).contains(&second), "{second}");
        assert_eq!(by_weight(ContentId(u128::MAX), &[]), None);
        assert_eq!(by_weight(ContentId(u128::MAX), &weights), Some(LaneIndex(1)));
    }
}
