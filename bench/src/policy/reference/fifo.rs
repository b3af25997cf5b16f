// SPDX-License-Identifier: Apache-2.0
//! First in, first out.

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

/// The queue, oldest out first.
#[derive(Debug)]
pub struct Fifo {
    capacity: u64,
    queue: Queue,
}

impl Fifo {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, queue: Queue::new() }
    }
}

impl Cache for Fifo {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        if self.queue.contains(name) {
            return true;
        }
        self.queue.admit(Object::fresh(name, size), self.capacity);
        false
    }
}
