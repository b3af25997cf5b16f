// SPDX-License-Identifier: Apache-2.0
//! Where resident bytes lie on this machine: the one thing the page store hands to a reader.

use std::{
    any::Any,
    fmt,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{ByteRange, PAGE_SIZE};

/// A run of resident pages: whole pages of one file version that lie one after the other in one
/// local file, with the checksum of each.
///
/// The reader reads `range.length()` bytes at `offset` of `file`, compares each page with its
/// checksum, and only then uses the part it was asked for. The pages stay what they are for as
/// long as the extent lives, whatever is evicted meanwhile.
#[derive(Clone)]
pub struct Extent {
    /// The local file that holds the pages.
    pub file: Arc<File>,
    /// Where the first page starts in `file`.
    pub offset: u64,
    /// Which bytes of the file version these are: starts on a page, ends on a page or at the end.
    pub range: ByteRange,
    /// CRC-32C of each page, in order.
    pub checksums: Box<[u32]>,
    /// Keeps the pages in place until the last reader drops it.
    pub hold: Option<Arc<dyn Any + Send + Sync>>,
    /// Tells a reader who has let go of `hold` whether the pages are still in place; `None` where
    /// nobody can tell.
    pub validity: Option<Validity>,
}

/// Generations of what lies on a disk: one number for each of many groups of contents, that grows
/// before anything of the group leaves its place.
#[derive(Debug)]
pub struct Generations(Box<[AtomicU64]>);

/// A state of a group of contents, and whether it is still the present one.
#[derive(Debug, Clone)]
pub struct Validity {
    generations: Arc<Generations>,
    group: usize,
    generation: u64,
}

impl Generations {
    /// So many groups.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self((0..groups.max(1)).map(|_| AtomicU64::new(0)).collect())
    }

    /// The present state of the group that `hash` belongs to.
    #[must_use]
    pub fn present(self: &Arc<Self>, hash: u64) -> Validity {
        let group = self.group(hash);
        let generation = self.0[group].load(Ordering::SeqCst);
        Validity { generations: Arc::clone(self), group, generation }
    }

    /// Ends what holds of the group that `hash` belongs to. Called before anything changes.
    pub fn end(&self, hash: u64) {
        self.0[self.group(hash)].fetch_add(1, Ordering::SeqCst);
    }

    /// Ends what holds of all groups.
    pub fn end_all(&self) {
        for generation in &self.0 {
            generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn group(&self, hash: u64) -> usize {
        (hash % self.0.len() as u64) as usize
    }
}

impl Validity {
    /// Whether nothing of the group has left its place since. Asked *after* bytes were read: a
    /// yes means that they were read from where they belong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.generations.0[self.group].load(Ordering::SeqCst) == self.generation
    }
}

impl Extent {
    /// Whether there is one checksum for each page of `range`.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.range.start.is_multiple_of(PAGE_SIZE)
            && self.range.length().div_ceil(PAGE_SIZE) == self.checksums.len() as u64
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent")
            .field("offset", &self.offset)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_ends_with_its_group_and_with_all() {
        let generations = Arc::new(Generations::new(8));
        let (first, second) = (generations.present(3), generations.present(4));
        generations.end(3 + 8);
        assert!(!first.holds(), "of the same group");
        assert!(second.holds());
        assert!(generations.present(3).holds(), "what is there now");
        generations.end_all();
        assert!(!second.holds());
    }
}
