// SPDX-License-Identifier: Apache-2.0
//! From a file and a segment to the worker that owns it, by the ring of the current membership.
//!
//! The ring is rebuilt when the registry's epoch moves and swapped whole; look-ups take a read
//! lock for the length of a pointer copy.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use larder_cluster::{
    member::WorkerId, registry::local::LocalRegistry, ring::Ring, wire::service::Service,
};
use larder_core::{Error, FileId, MountName, Result, SegmentIndex};

#[derive(Debug)]
pub(crate) struct Route {
    registry: Arc<LocalRegistry>,
    ring: RwLock<Arc<Ring>>,
    services: HashMap<WorkerId, Arc<dyn Service>>,
}

impl Route {
    pub(crate) fn new(registry: Arc<LocalRegistry>, worker: Arc<dyn Service>) -> Self {
        let membership = registry.membership();
        let services =
            membership.members.iter().map(|member| (member.id, Arc::clone(&worker))).collect();
        let ring = RwLock::new(Arc::new(Ring::new(&membership)));
        Self { registry, ring, services }
    }

    /// The owner of a segment; of segment 0 also for the file's status.
    pub(crate) fn owner(&self, file: FileId, segment: SegmentIndex) -> Result<Arc<dyn Service>> {
        self.first_reachable(self.ring().owners(file, segment))
    }

    /// The owner of the listing of the directory that `prefix` lies in.
    pub(crate) fn listing_owner(
        &self,
        mount: &MountName,
        prefix: &str,
    ) -> Result<Arc<dyn Service>> {
        let directory = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        self.first_reachable(self.ring().directory_owners(mount, directory))
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Arc<dyn Service>> {
        self.services.values()
    }

    fn first_reachable(&self, owners: &[WorkerId]) -> Result<Arc<dyn Service>> {
        let service = owners.iter().find_map(|owner| self.services.get(owner));
        service.cloned().ok_or_else(|| Error::unavailable("no worker is serving"))
    }

    fn ring(&self) -> Arc<Ring> {
        let membership = self.registry.membership();
        let current = Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner));
        if current.epoch() == membership.epoch {
            return current;
        }
        let next = Arc::new(Ring::new(&membership));
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        next
    }
}
