// SPDX-License-Identifier: Apache-2.0
//! The page store's own policy, in the shape of the references.

use larder_core::Random;
use larder_pages::Simulation;

use super::{
    reference::Cache,
    trace::{Kind, PAGES_OF_A_SEGMENT, Request},
};

/// The policy of `larder-pages`, with segments whose pages come one by one.
#[derive(Debug)]
pub(super) struct Larder {
    simulation: Simulation,
    kind: Kind,
}

impl Larder {
    pub(super) fn new(capacity: u64, kind: Kind) -> Self {
        Self { simulation: Simulation::new(capacity), kind }
    }
}

impl Cache for Larder {
    fn read(&mut self, request: Request) -> bool {
        let (segment, page) = place(request, self.kind);
        self.simulation.read(hash(segment), page..page + 1, request.size) == 0
    }
}

/// The segment of a request, and the page of it.
pub(super) fn place(request: Request, kind: Kind) -> (u64, u32) {
    match kind {
        Kind::Objects => (request.name, 0),
        Kind::Pages => {
            let page = request.name % PAGES_OF_A_SEGMENT;
            (request.name / PAGES_OF_A_SEGMENT, u32::try_from(page).expect("below 256"))
        }
    }
}

/// The page store's names are hashes.
pub(super) fn hash(name: u64) -> u64 {
    Random::seeded(name).next()
}
