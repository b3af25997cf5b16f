// SPDX-License-Identifier: Apache-2.0
//! The least recently read goes first.

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

/// The queue, ordered by the last read.
#[derive(Debug)]
pub struct Lru {
    capacity: u64,
    queue: Queue,
}

impl Lru {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, queue: Queue::new() }
    }
}

impl Cache for Lru {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        if self.queue.renew(name) {
            return true;
        }
        self.queue.admit(Object::fresh(name, size), self.capacity);
        false
    }
}
