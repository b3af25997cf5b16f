// SPDX-License-Identifier: Apache-2.0
//! The registry of one process: one worker, and the mounts it was started with.
//!
//! What it hands out are immutable snapshots, swapped whole: a reader holds the read lock for
//! the length of a pointer copy and then looks at something that never changes under it.
//! Locks: each of the two is taken alone.

use std::sync::{Arc, PoisonError, RwLock};

use larder_core::{Error, MountName, Result};

use crate::{
    member::{Member, Membership},
    mounts::MountRecord,
};

/// Who is a worker and what is mounted, for a process that is its own cluster.
#[derive(Debug)]
pub struct LocalRegistry {
    membership: RwLock<Arc<Membership>>,
    mounts: RwLock<Arc<[MountRecord]>>,
}

impl LocalRegistry {
    /// A registry with this one worker, at epoch 1. Mounts are ordered by name; of two with the
    /// same name the last one stands.
    #[must_use]
    pub fn new(member: Member, mounts: Vec<MountRecord>) -> Self {
        let membership = Membership { epoch: 1, members: vec![member] };
        Self {
            membership: RwLock::new(Arc::new(membership)),
            mounts: RwLock::new(in_order(mounts)),
        }
    }

    /// The workers as they are now.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mounts as they are now, ordered by name.
    #[must_use]
    pub fn mounts(&self) -> Arc<[MountRecord]> {
        Arc::clone(&self.mounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mount of this name.
    ///
    /// # Errors
    /// `NotFound` when nothing is mounted under it.
    pub fn mount(&self, name: &MountName) -> Result<MountRecord> {
        let mounts = self.mounts();
        let place = mounts.binary_search_by(|record| record.name.cmp(name));
        place.map(|at| mounts[at].clone()).map_err(|_| {
            Error::not_found(format!("nothing is mounted as '{name}'; see `larder status`"))
        })
    }

    /// Puts `members` (any order) in place of the workers so far and moves the epoch on.
    pub fn set_members(&self, mut members: Vec<Member>) {
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
        let mut current = self.membership.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(Membership { epoch: current.epoch + 1, members });
    }

    /// Puts `mounts` in place of the mounts so far.
    pub fn set_mounts(&self, mounts: Vec<MountRecord>) {
        let next = in_order(mounts);
        *self.mounts.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

fn in_order(mut mounts: Vec<MountRecord>) -> Arc<[MountRecord]> {
    // Reversed first: the sort is stable, so that of equal names the last one given is kept.
    mounts.reverse();
    mounts.sort_by(|a, b| a.name.cmp(&b.name));
    mounts.dedup_by(|later, kept| later.name == kept.name);
    mounts.into()
}

#[cfg(test)]
mod tests {
    use larder_core::{ErrorKind, Freshness};

    use super::*;
    use crate::member::WorkerId;

    fn record(name: &str, uri: &str) -> MountRecord {
        MountRecord {
            name: MountName::new(name).expect("a legal name"),
            uri: uri.to_owned(),
            endpoint: None,
            freshness: Freshness::default(),
            stale_if_error: None,
            prices: None,
        }
    }

    fn member(id: u64) -> Member {
        Member { id: WorkerId(id), weight: 1, address: String::new() }
    }

    #[test]
    fn snapshots_are_swapped_whole() {
        let mounts = vec![record("b", "s3://1"), record("a", "s3://2"), record("b", "s3://3")];
        let registry = LocalRegistry::new(member(7), mounts);
        let (before, mounts) = (registry.membership(), registry.mounts());
        assert_eq!(mounts.iter().map(|m| m.uri.as_str()).collect::<Vec<_>>(), ["s3://2", "s3://3"]);

        registry.set_members(vec![member(9), member(7), member(9)]);
        registry.set_mounts(vec![]);
        assert_eq!((before.epoch, before.members.len(), mounts.len()), (1, 1, 2));
        let after = registry.membership();
        assert_eq!(after.epoch, 2);
        assert_eq!(after.members, [member(7), member(9)]);
    }

    #[test]
    fn a_mount_is_found_by_its_name() {
        let registry = LocalRegistry::new(member(1), vec![record("lake", "s3://acme")]);
        let found = registry.mount(&MountName::new("lake").expect("legal")).expect("is mounted");
        assert_eq!(found.uri, "s3://acme");
        let missing = registry.mount(&MountName::new("pond").expect("legal"));
        assert_eq!(missing.expect_err("is not mounted").kind(), ErrorKind::NotFound);
    }
}
