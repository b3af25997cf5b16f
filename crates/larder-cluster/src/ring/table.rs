// SPDX-License-Identifier: Apache-2.0
//! The ring of one membership snapshot: every slot's owners, computed once, looked up in O(1).
//!
//! Each slot keeps the cheapest members in order. Because a member's cost for a slot depends on
//! nothing but the two, a member that goes gives up its own places only, and one that comes
//! takes only what it wins: nothing moves between those that stay.

use larder_core::{FileId, MountName, SegmentIndex};

use super::{
    cost::{Cost, Runner, slot_seed},
    key::{slot_of_directory, slot_of_segment},
};
use crate::member::{Membership, WorkerId};

/// The table has two to this power slots.
pub const SLOT_BITS: u32 = 16;
/// How many owners a look-up names at most.
pub const OWNERS_MAX: usize = 3;

/// Who owns what, for one membership snapshot.
#[derive(Debug)]
pub struct Ring {
    epoch: u64,
    /// Owners per slot: `OWNERS_MAX`, or the number of members where there are fewer.
    width: usize,
    owners: Vec<WorkerId>,
}

impl Ring {
    /// Computes the owners of every slot: milliseconds for a few members, seconds for 10,000, so
    /// once per snapshot and not on the way of a request. Ids that came before are ignored.
    #[must_use]
    pub fn new(membership: &Membership) -> Self {
        let mut members: Vec<_> = membership.members.iter().collect();
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        let runners: Vec<_> =
            members.iter().map(|member| Runner::new(member.id, member.weight)).collect();
        let width = runners.len().min(OWNERS_MAX);
        let mut owners = Vec::with_capacity(width << SLOT_BITS);
        for slot in 0..1 << SLOT_BITS {
            cheapest(slot_seed(slot), &runners, &mut owners);
        }
        Self { epoch: membership.epoch, width, owners }
    }

    /// The epoch of the membership this was computed from.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who owns a segment, in order of preference; of segment 0 also the file's status. Empty
    /// only when there are no members.
    #[must_use]
    pub fn owners(&self, file: FileId, segment: SegmentIndex) -> &[WorkerId] {
        self.slot(slot_of_segment(file, segment))
    }

    /// Who owns the listing of a directory: a raw key prefix that is empty or ends with `/`.
    #[must_use]
    pub fn directory_owners(&self, mount: &MountName, directory: &str) -> &[WorkerId] {
        self.slot(slot_of_directory(mount, directory))
    }

    /// All slots in order, each with its owners.
    pub fn slots(&self) -> impl Iterator<Item = &[WorkerId]> {
        (0..1 << SLOT_BITS).map(|slot| self.slot(slot))
    }

    fn slot(&self, slot: usize) -> &[WorkerId] {
        &self.owners[slot * self.width..(slot + 1) * self.width]
    }
}

/// Appends the cheapest runners to `owners`, cheapest first.
fn cheapest(seed: u64, runners: &[Runner], owners: &mut Vec<WorkerId>) {
    if let [only] = runners {
        owners.push(only.id);
        return;
    }
    let mut best: [Option<Cost>; OWNERS_MAX] = [None; OWNERS_MAX];
    for runner in runners {
        let Some(mut cost) = runner.cost_below(seed, best[OWNERS_MAX - 1].as_ref()) else {
            continue;
        };
        for place in &mut best {
            match place {
                Some(held) if *held < cost => {}
                Some(held) => std::mem::swap(held, &mut cost),
                None => {
                    *place = Some(cost);
                    break;
                }
            }
        }
    }
    owners.extend(best.iter().flatten().map(Cost::id));
}
