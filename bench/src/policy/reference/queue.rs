// SPDX-License-Identifier: Apache-2.0
//! A queue of named objects with their sizes: newest first, each step in constant time.
//!
//! All reference policies are made of these. Clear before fast: one map, one arena.

use std::collections::HashMap;

const NONE: usize = usize::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    name: u64,
    size: u64,
    count: u32,
    newer: usize,
    older: usize,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    at: HashMap<u64, usize>,
    nodes: Vec<Node>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    bytes: u64,
}

/// An object of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: u64,
    pub(super) size: u64,
    /// How often it was read, as far as its policy counts that.
    pub(super) count: u32,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            at: HashMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn contains(&self, name: u64) -> bool {
        self.at.contains_key(&name)
    }

    /// The object at the old end.
    pub(super) fn oldest(&self) -> Option<Object> {
        (self.oldest != NONE).then(|| self.object(self.oldest))
    }

    /// Puts an object at the new end.
    pub(super) fn push(&mut self, object: Object) {
        let Object { name, size, count } = object;
        let node = Node { name, size, count, newer: NONE, older: self.newest };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        if self.newest == NONE {
            self.oldest = at;
        } else {
            self.nodes[self.newest].newer = at;
        }
        self.newest = at;
        self.bytes += size;
        let before = self.at.insert(name, at);
        assert!(before.is_none(), "an object is in a queue once");
    }

    /// Puts an object at the new end of a queue of at most `capacity` bytes; what is in its way
    /// goes from the old end. An object that is larger stays out.
    pub(super) fn admit(&mut self, object: Object, capacity: u64) {
        if object.size > capacity {
            return;
        }
        while self.bytes + object.size > capacity {
            self.pop();
        }
        self.push(object);
    }

    /// Takes the object at the old end.
    pub(super) fn pop(&mut self) -> Option<Object> {
        let oldest = self.oldest()?;
        self.remove(oldest.name)
    }

    /// Takes an object out, wherever it is.
    pub(super) fn remove(&mut self, name: u64) -> Option<Object> {
        let at = self.at.remove(&name)?;
        let Node { newer, older, size, .. } = self.nodes[at];
        if newer == NONE {
            self.newest = older;
        } else {
            self.nodes[newer].older = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.nodes[older].newer = newer;
        }
        self.bytes -= size;
        self.free.push(at);
        Some(self.object(at))
    }

    /// Moves an object to the new end; whether it was there.
    pub(super) fn renew(&mut self, name: u64) -> bool {
        let found = self.remove(name);
        if let Some(object) = found {
            self.push(object);
        }
        found.is_some()
    }

    /// The count of an object, to be changed.
    pub(super) fn count(&mut self, name: u64) -> Option<&mut u32> {
        let at = *self.at.get(&name)?;
        Some(&mut self.nodes[at].count)
    }

    /// The name next to `name` on the newer side.
    pub(super) fn newer(&self, name: u64) -> Option<u64> {
        let newer = self.nodes[*self.at.get(&name)?].newer;
        (newer != NONE).then(|| self.nodes[newer].name)
    }

    fn object(&self, at: usize) -> Object {
        let Node { name, size, count, .. } = self.nodes[at];
        Object { name, size, count }
    }
}

impl Object {
    /// An object that nobody has read again.
    pub(super) fn fresh(name: u64, size: u64) -> Self {
        Self { name, size, count: 0 }
    }
}
