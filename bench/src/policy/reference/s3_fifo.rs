// SPDX-License-Identifier: Apache-2.0
//! S3-FIFO (Yang et al., SOSP 2023) as published: a small queue of a tenth, a main queue with
//! second chances, a ghost of nine tenths.

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

const COUNT_MAX: u32 = 3;
const PROMOTE_AT: u32 = 2;

/// The three queues.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: u64,
    small_max: u64,
    ghost_max: u64,
    small: Queue,
    main: Queue,
    ghost: Queue,
    has_evicted: bool,
}

impl S3Fifo {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small_max: capacity / 10,
            ghost_max: capacity * 9 / 10,
            small: Queue::new(),
            main: Queue::new(),
            ghost: Queue::new(),
            has_evicted: false,
        }
    }

    fn evict(&mut self) {
        self.has_evicted = true;
        let main_max = self.capacity - self.small_max;
        if self.main.bytes() > main_max || self.small.bytes() == 0 {
            self.evict_main();
        } else {
            self.evict_small();
        }
    }

    fn evict_small(&mut self) {
        while let Some(object) = self.small.pop() {
            if object.count >= PROMOTE_AT {
                self.main.push(Object::fresh(object.name, object.size));
                continue;
            }
            while self.ghost.bytes() + object.size > self.ghost_max {
                if self.ghost.pop().is_none() {
                    return;
                }
            }
            self.ghost.push(object);
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(mut object) = self.main.pop() {
            if object.count == 0 {
                return;
            }
            object.count = object.count.min(COUNT_MAX) - 1;
            self.main.push(object);
        }
    }
}

impl Cache for S3Fifo {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        let counts = [self.small.count(name), self.main.count(name)];
        if let Some(count) = counts.into_iter().flatten().next() {
            *count += 1;
            return true;
        }
        let known = self.ghost.remove(name).is_some();
        if size > self.small_max {
            return false;
        }
        while self.small.bytes() + self.main.bytes() + size > self.capacity {
            self.evict();
        }
        // While the cache fills, what the small queue cannot hold goes to the main queue.
        let filling = !self.has_evicted && self.small.bytes() >= self.small_max;
        let queue = if known || filling { &mut self.main } else { &mut self.small };
        queue.push(Object::fresh(name, size));
        false
    }
}
