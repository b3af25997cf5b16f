// SPDX-License-Identifier: Apache-2.0
//! SIEVE (Zhang et al., NSDI 2024): one queue, one hand that walks from old to new, clears the
//! mark of what was read again and takes the first without a mark.

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

/// The queue and its hand.
#[derive(Debug)]
pub struct Sieve {
    capacity: u64,
    queue: Queue,
    hand: Option<u64>,
}

impl Sieve {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, queue: Queue::new(), hand: None }
    }

    fn evict(&mut self) {
        let oldest = |queue: &Queue| queue.oldest().map(|object| object.name);
        let mut at = self.hand.or_else(|| oldest(&self.queue));
        while let Some(name) = at {
            let count = self.queue.count(name).expect("the hand points into the queue");
            if *count == 0 {
                self.hand = self.queue.newer(name);
                self.queue.remove(name);
                return;
            }
            *count = 0;
            at = self.queue.newer(name).or_else(|| oldest(&self.queue));
        }
    }
}

impl Cache for Sieve {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        if let Some(count) = self.queue.count(name) {
            *count = 1;
            return true;
        }
        if size <= self.capacity {
            while self.queue.bytes() + size > self.capacity {
                self.evict();
            }
            self.queue.push(Object::fresh(name, size));
        }
        false
    }
}
