// SPDX-License-Identifier: Apache-2.0
//! What is replayed: requests in order, for whole objects or for pages of segments.

use std::collections::HashMap;

/// Objects of a trace in foreign units are made about this large, as segments are. What a policy
/// misses depends on sizes relative to each other and to the cache only.
const MEAN_SIZE: u64 = 4 << 20;
/// The largest segment the page store's policy can weigh is above this.
const SIZE_MAX: u64 = 31 << 20;

/// Pages of a segment in the names of a page trace.
pub(super) const PAGES_OF_A_SEGMENT: u64 = 256;

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is read: the object, or the page.
    pub name: u64,
    /// Its bytes.
    pub size: u64,
}

/// Reads in order.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What it is called in tables.
    pub name: String,
    /// The reads.
    pub requests: Vec<Request>,
    /// Whether names are pages: `segment * 256 + page`.
    pub kind: Kind,
}

/// What the names of a trace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Objects that are cached as a whole.
    Objects,
    /// Pages of 64 KiB, named `segment * 256 + page`.
    Pages,
}

impl Trace {
    /// A trace of objects.
    #[must_use]
    pub fn objects(name: impl Into<String>, requests: Vec<Request>) -> Self {
        Self { name: name.into(), requests, kind: Kind::Objects }
    }

    /// The bytes of everything that is read at all.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let sizes: HashMap<u64, u64> =
            self.requests.iter().map(|request| (request.name, request.size)).collect();
        sizes.values().sum()
    }

    /// The same with one size for each object, the first that was seen, and sizes scaled so that
    /// they look like segments.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        let mut sizes = HashMap::new();
        for request in &mut self.requests {
            request.size = *sizes.entry(request.name).or_insert(request.size.max(1));
        }
        let mean = sizes.values().sum::<u64>() / (sizes.len() as u64).max(1);
        let largest = sizes.values().copied().max().unwrap_or(1);
        let factor = (MEAN_SIZE / mean.max(1)).min(SIZE_MAX / largest).max(1);
        for request in &mut self.requests {
            request.size = (request.size * factor).min(SIZE_MAX);
        }
        self
    }
}
