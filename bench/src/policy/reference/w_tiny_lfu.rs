// SPDX-License-Identifier: Apache-2.0
//! W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017): a window of one per cent, a segmented
//! LRU behind it, and a count of reads that decides who may pass from one to the other.
//!
//! The counts are exact instead of a sketch, and count what `libcachesim` counts: insertions,
//! reads in the main part, and each decision.

use std::collections::HashMap;

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

/// Counts are halved after so many reads per byte of the main part.
const READS_PER_BYTE: u64 = 32;

/// The window, the two parts of the main queue and the counts.
#[derive(Debug)]
pub struct WTinyLfu {
    capacity: u64,
    window_max: u64,
    probation_max: u64,
    protected_max: u64,
    window: Queue,
    probation: Queue,
    protected: Queue,
    counts: HashMap<u64, u32>,
    counted: u64,
}

impl WTinyLfu {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let window_max = capacity / 100;
        let main = capacity - window_max;
        Self {
            capacity,
            window_max,
            probation_max: main / 5,
            protected_max: main - main / 5,
            window: Queue::new(),
            probation: Queue::new(),
            protected: Queue::new(),
            counts: HashMap::new(),
            counted: 0,
        }
    }

    fn count(&mut self, name: u64) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn counted(&self, name: u64) -> u32 {
        self.counts.get(&name).copied().unwrap_or_default()
    }

    fn read_main(&mut self, name: u64) -> bool {
        if let Some(object) = self.probation.remove(name) {
            self.protected.push(object);
            while self.protected.bytes() > self.protected_max {
                let Some(cooled) = self.protected.pop() else { break };
                self.probation.push(cooled);
            }
        } else if !self.protected.renew(name) {
            return false;
        }
        self.count(name);
        self.counted += 1;
        if self.counted >= READS_PER_BYTE * (self.capacity - self.window_max) {
            self.counted = 0;
            self.counts.values_mut().for_each(|count| *count /= 2);
        }
        true
    }

    fn push_main(&mut self, object: Object) {
        let fits = |queue: &Queue, max: u64| queue.bytes() + object.size <= max;
        let to_protected =
            !fits(&self.probation, self.probation_max) && fits(&self.protected, self.protected_max);
        let queue = if to_protected { &mut self.protected } else { &mut self.probation };
        queue.push(object);
    }

    fn oldest_of_main(&self) -> Option<Object> {
        self.probation.oldest().or_else(|| self.protected.oldest())
    }

    fn pop_main(&mut self) -> Option<Object> {
        self.probation.pop().or_else(|| self.protected.pop())
    }

    /// Moves the window's oldest on until one of them is turned away.
    fn evict(&mut self) {
        let main_max = self.capacity - self.window_max;
        loop {
            let Some(candidate) = self.window.pop() else {
                self.pop_main();
                return;
            };
            let main = self.probation.bytes() + self.protected.bytes();
            if main + candidate.size <= main_max {
                self.push_main(candidate);
                self.count(candidate.name);
                continue;
            }
            let victim = self.oldest_of_main().map_or(0, |victim| self.counted(victim.name));
            let passes = self.counted(candidate.name) > victim;
            self.count(candidate.name);
            if !passes {
                return;
            }
            while self.probation.bytes() + self.protected.bytes() + candidate.size > main_max {
                self.pop_main();
            }
            self.push_main(candidate);
        }
    }
}

impl Cache for WTinyLfu {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        if self.window.renew(name) || self.read_main(name) {
            return true;
        }
        if size > self.window_max || size > self.probation_max {
            return false;
        }
        let bytes =
            |this: &Self| this.window.bytes() + this.probation.bytes() + this.protected.bytes();
        while bytes(self) + size > self.capacity {
            self.evict();
        }
        self.window.push(Object::fresh(name, size));
        self.count(name);
        false
    }
}
