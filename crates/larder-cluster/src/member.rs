// SPDX-License-Identifier: Apache-2.0
//! Workers as the cluster knows them.

use serde::{Deserialize, Serialize};

/// A worker's persistent identity, apart from its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

/// One worker of a membership snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is, across restarts and moves.
    pub id: WorkerId,
    /// Its share of the work, relative to the others: its capacity in GiB, at least 1.
    pub weight: u32,
    /// Where it answers; empty for the worker in this process.
    pub address: String,
}

/// An immutable membership snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Membership {
    /// Grows with each change.
    pub epoch: u64,
    /// The workers, ordered by id.
    pub members: Vec<Member>,
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
