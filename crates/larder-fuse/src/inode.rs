// SPDX-License-Identifier: Apache-2.0
//! What the kernel holds: inodes, and how often it was told of each.
//!
//! An inode number is the hash of what it stands for, so it is the same in a listing, in a
//! look-up and after a remount; in the unlikely case that two known inodes share a hash, the
//! later one takes the next free number. An inode is known while the kernel has look-ups of it
//! that it did not forget; open files hold theirs by themselves.
//!
//! One lock, held for a map operation and never over anything that waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use larder_core::{ContentId, FileId, Path, Status};

/// The number of the root, fixed by the protocol.
pub(crate) const ROOT: u64 = 1;

/// What an inode number stands for.
#[derive(Debug, Clone)]
pub(crate) enum Inode {
    /// The directory of mounts.
    Root,
    /// A mount or a directory in it; the key is empty or ends with a slash.
    Directory(Path),
    /// One version of a file.
    File(Path, Status),
}

impl Inode {
    /// Whether both stand for the same thing: for files, the same version of the same path.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Root, Self::Root) => true,
            (Self::Directory(one), Self::Directory(two)) => one == two,
            (Self::File(one, status), Self::File(two, other)) => {
                one == two && status.version == other.version
            }
            (Self::Root | Self::Directory(_) | Self::File(..), _) => false,
        }
    }

    /// The number it has unless another inode took it.
    pub(crate) fn number(&self) -> u64 {
        let hash = match self {
            Self::Root => return ROOT,
            Self::Directory(path) => FileId::of_uri(&path.to_string()).0,
            Self::File(path, status) => {
                ContentId::new(FileId::of_uri(&path.to_string()), &status.version).0
            }
        };
        let low = hash & u128::from(u64::MAX);
        u64::try_from(low).expect("masked to 64 bits").max(ROOT + 1)
    }
}

/// All inodes the kernel knows.
#[derive(Debug, Default)]
pub(crate) struct InodeTable(Mutex<HashMap<u64, Known>>);

#[derive(Debug)]
struct Known {
    inode: Arc<Inode>,
    lookups: u64,
}

impl InodeTable {
    /// The inode of this number, if the kernel knows it.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Inode>> {
        if number == ROOT {
            return Some(Arc::new(Inode::Root));
        }
        self.lock().get(&number).map(|known| Arc::clone(&known.inode))
    }

    /// Counts that the kernel is told of `inode`; answers its number.
    pub(crate) fn enter(&self, inode: &Inode) -> u64 {
        self.enter_at(inode.number(), inode)
    }

    fn enter_at(&self, first: u64, inode: &Inode) -> u64 {
        let mut table = self.lock();
        let mut number = first;
        loop {
            match table.get_mut(&number) {
                None => break,
                Some(known) if known.inode.same(inode) => {
                    known.lookups += 1;
                    return number;
                }
                Some(_) => number = number.checked_add(1).unwrap_or(ROOT + 1),
            }
        }
        if number != ROOT {
            table.insert(number, Known { inode: Arc::new(inode.clone()), lookups: 1 });
        }
        number
    }

    /// The kernel forgot `count` of the times it was told.
    pub(crate) fn forget(&self, number: u64, count: u64) {
        let mut table = self.lock();
        let Some(known) = table.get_mut(&number) else { return };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 {
            table.remove(&number);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Random, UnixMillis, Version};

    use super::*;

    fn file(name: u64, version: u64) -> Inode {
        let path = format!("/lake/{name}").parse().expect("a legal path");
        let version = Version::new(version.to_string());
        Inode::File(path, Status { length: 1, version, modified: UnixMillis(0), attributes: None })
    }

    /// Random look-ups and forgets against a plain list of (inode, count), with numbers squeezed
    /// into a few so that they collide all the time.
    #[test]
    fn counts_like_the_model_even_when_numbers_collide() {
        for seed in 0..50 {
            let random = Random::seeded(seed);
            let table = InodeTable::default();
            let mut model: Vec<(u64, Inode, u64)> = Vec::new();
            for _ in 0..500 {
                if random.below(3) > 0 {
                    let inode = file(random.below(5), random.below(3));
                    let number = table.enter_at(2 + inode.number() % 4, &inode);
                    match model.iter_mut().find(|(n, known, _)| *n == number && known.same(&inode))
                    {
                        Some((_, _, count)) => *count += 1,
                        None => {
                            assert!(model.iter().all(|(n, ..)| *n != number), "a number in use");
                            model.push((number, inode, 1));
                        }
                    }
                } else if !model.is_empty() {
                    let at = usize::try_from(random.below(model.len() as u64)).expect("small");
                    let count = 1 + random.below(model[at].2);
                    table.forget(model[at].0, count);
                    model[at].2 -= count;
                    if model[at].2 == 0 {
                        let (number, ..) = model.swap_remove(at);
                        assert!(table.get(number).is_none(), "forgotten and still known");
                    }
                }
                for (number, inode, _) in &model {
                    assert!(table.get(*number).expect("known").same(inode));
                }
                assert_eq!(table.lock().len(), model.len());
            }
        }
    }

    #[test]
    fn a_version_is_an_inode_and_keeps_its_number() {
        let table = InodeTable::default();
        let (old, new) = (table.enter(&file(1, 1)), table.enter(&file(1, 2)));
        assert_ne!(old, new);
        table.forget(old, 1);
        assert!(table.get(old).is_none());
        assert_eq!(table.enter(&file(1, 1)), old);
        assert_eq!(table.enter(&file(1, 2)), new);
        table.forget(new, 99);
        table.forget(new, 1);
        assert!(table.get(new).is_none());
        assert!(matches!(*table.get(ROOT).expect("always"), Inode::Root));
    }
}
