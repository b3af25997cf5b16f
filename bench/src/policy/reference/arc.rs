// SPDX-License-Identifier: Apache-2.0
//! ARC (Megiddo and Modha, FAST 2003): what was read once and what was read again, each with a
//! ghost; a hit in a ghost moves the border between the two. The border moves by
//! multiples of the object's size.

use super::{
    Cache,
    queue::{Object, Queue},
};
use crate::policy::trace::Request;

/// The four queues and the border.
#[derive(Debug)]
pub struct Arc {
    capacity: u64,
    once: Queue,
    again: Queue,
    once_ghost: Queue,
    again_ghost: Queue,
    once_target: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    InOnceGhost,
    InAgainGhost,
}

impl Arc {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            once: Queue::new(),
            again: Queue::new(),
            once_ghost: Queue::new(),
            again_ghost: Queue::new(),
            once_target: 0.0,
        }
    }

    fn recall(&mut self, name: u64, size: u64) -> Seen {
        let (once, again) = (self.once_ghost.bytes() as f64, self.again_ghost.bytes() as f64);
        let size = size as f64;
        if self.once_ghost.remove(name).is_some() {
            self.once_target =
                (self.once_target + size * (again / once).max(1.0)).min(self.capacity as f64);
            Seen::InOnceGhost
        } else if self.again_ghost.remove(name).is_some() {
            self.once_target = (self.once_target - size * (once / again).max(1.0)).max(0.0);
            Seen::InAgainGhost
        } else {
            Seen::Never
        }
    }

    fn evict(&mut self, seen: Seen, size: u64) {
        if seen == Seen::Never {
            let once = self.once.bytes() + self.once_ghost.bytes();
            if once + size > self.capacity {
                if self.once_ghost.pop().is_none() {
                    self.once.pop();
                    return;
                }
            } else if once + self.again.bytes() + self.again_ghost.bytes() >= 2 * self.capacity {
                self.again_ghost.pop();
            }
        }
        self.replace(seen);
    }

    fn replace(&mut self, seen: Seen) {
        let once = self.once.bytes() as f64;
        let over =
            once > self.once_target || (once == self.once_target && seen == Seen::InAgainGhost);
        if (once > 0.0 && over) || self.again.bytes() == 0 {
            if let Some(gone) = self.once.pop() {
                self.once_ghost.push(gone);
            }
        } else if let Some(gone) = self.again.pop() {
            self.again_ghost.push(gone);
        }
    }
}

impl Cache for Arc {
    fn read(&mut self, request: Request) -> bool {
        let Request { name, size } = request;
        if let Some(object) = self.once.remove(name) {
            self.again.push(object);
            return true;
        }
        if self.again.renew(name) {
            return true;
        }
        if size > self.capacity {
            return false;
        }
        let seen = self.recall(name, size);
        while self.once.bytes() + self.again.bytes() + size > self.capacity {
            self.evict(seen, size);
        }
        let queue = if seen == Seen::Never { &mut self.once } else { &mut self.again };
        queue.push(Object::fresh(name, size));
        false
    }
}
