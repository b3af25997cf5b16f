// SPDX-License-Identifier: Apache-2.0
//! The least often read goes first, of those the one that has been so for longest. What left is
//! forgotten.

use std::collections::{BTreeSet, HashMap};

use super::Cache;
use crate::policy::trace::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    count: u64,
    since: u64,
    name: u64,
}

/// Objects ordered by how often they were read.
#[derive(Debug)]
pub struct Lfu {
    capacity: u64,
    bytes: u64,
    now: u64,
    ranks: BTreeSet<Rank>,
    objects: HashMap<u64, (Rank, u64)>,
}

impl Lfu {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, bytes: 0, now: 0, ranks: BTreeSet::new(), objects: HashMap::new() }
    }

    fn place(&mut self, rank: Rank, size: u64) {
        self.ranks.insert(rank);
        self.objects.insert(rank.name, (rank, size));
    }
}

impl Cache for Lfu {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        self.now += 1;
        if let Some((rank, size)) = self.objects.get(&name).copied() {
            self.ranks.remove(&rank);
            self.place(Rank { count: rank.count + 1, since: self.now, name }, size);
            return true;
        }
        if size <= self.capacity {
            while self.bytes + size > self.capacity {
                let Some(least) = self.ranks.pop_first() else { break };
                let gone = self.objects.remove(&least.name);
                self.bytes -= gone.map_or(0, |(_, size)| size);
            }
            self.place(Rank { count: 1, since: self.now, name }, size);
            self.bytes += size;
        }
        false
    }
}
