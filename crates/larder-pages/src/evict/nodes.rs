// SPDX-License-Identifier: Apache-2.0
//! Where the nodes lie: those of segments in one vector, those of small files in one for each
//! slab, which goes when the slab does. One number space for both, so a queue mixes them.

use std::ops::{Index, IndexMut};

use super::queues::Node;

/// Small files are numbered in groups of so many, one group for each slab.
pub(crate) const GROUP: u32 = 1 << 13;
/// Set in the numbers of small files.
const SMALL: u32 = 1 << 31;
/// A group's nodes grow by so many.
const STEP: usize = 512;

/// The number of what can be evicted: a segment of the catalogue, or a small file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// The small file of this number.
    pub(crate) fn small(number: u32) -> Self {
        Self(number | SMALL)
    }

    /// The number of a small file, if it is one.
    pub(crate) fn as_small(self) -> Option<u32> {
        (self.0 & SMALL != 0).then_some(self.0 & !SMALL)
    }
}

#[derive(Debug, Default)]
pub(super) struct Nodes {
    segments: Vec<Node>,
    groups: Vec<Vec<Node>>,
}

impl Nodes {
    /// Makes room for the node of `slot`.
    pub(super) fn make_room(&mut self, slot: Slot) {
        let Some(number) = slot.as_small() else {
            let at = slot.0 as usize;
            if self.segments.len() <= at {
                self.segments.resize(at + 1, Node::OUTSIDE);
            }
            return;
        };
        let (group, at) = ((number / GROUP) as usize, (number % GROUP) as usize);
        if self.groups.len() <= group {
            self.groups.resize(group + 1, Vec::new());
        }
        let nodes = &mut self.groups[group];
        if nodes.len() <= at {
            let length = (at + 1).next_multiple_of(STEP);
            nodes.reserve_exact(length - nodes.len());
            nodes.resize(length, Node::OUTSIDE);
        }
    }

    /// A group has nothing in any queue any more.
    pub(super) fn drop_group(&mut self, group: u32) {
        if let Some(nodes) = self.groups.get_mut(group as usize) {
            *nodes = Vec::new();
        }
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, at: u32) -> &Node {
        match Slot(at).as_small() {
            Some(number) => &self.groups[(number / GROUP) as usize][(number % GROUP) as usize],
            None => &self.segments[at as usize],
        }
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, at: u32) -> &mut Node {
        match Slot(at).as_small() {
            Some(number) => &mut self.groups[(number / GROUP) as usize][(number % GROUP) as usize],
            None => &mut self.segments[at as usize],
        }
    }
}
