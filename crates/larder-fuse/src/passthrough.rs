// SPDX-License-Identifier: Apache-2.0
//! Letting the kernel read files by itself.
//!
//! A file that lies whole in one local file of this machine, every byte of it checked, is given
//! to the kernel at open as its *backing*; reads and maps of it never come here again. The kernel
//! wants one backing for an inode at a time, and refuses to mix opens with and without one
//! (`EIO`). So the first open of an inode decides its *way* for all that come while it is open:
//! entered before the kernel is told, left when the kernel has released the file, which it does
//! after it has itself left the way.
//!
//! It takes a kernel from 6.9 on and `CAP_SYS_ADMIN`; without them, or for a cache on a stacked
//! file system (overlay), files are opened as ever.
//!
//! One lock, held for a map operation and for handing a descriptor to the kernel.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use fuser::BackingId;
use larder_client::{LocalFile, LocalHold};
use rustix::{
    io::Errno,
    thread::{CapabilitySet, capabilities},
};
use serde::{Deserialize, Serialize};

/// Whether the kernel may read files by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Passthrough {
    /// Wherever the kernel and the rights of this process allow it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// The first kernel that can do it.
const KERNEL_MIN: (u32, u32) = (6, 9);

/// Why this process can't let the kernel read files by itself, if it can't; a sentence.
#[must_use]
pub fn passthrough_obstacle() -> Option<&'static str> {
    let name = rustix::system::uname();
    if release(&name.release().to_string_lossy()).is_some_and(|found| found < KERNEL_MIN) {
        return Some(OLD_KERNEL);
    }
    let effective = capabilities(None).map(|sets| sets.effective);
    let may = effective.is_ok_and(|sets| sets.contains(CapabilitySet::SYS_ADMIN));
    (!may).then_some(NO_RIGHT)
}

const OLD_KERNEL: &str = "the kernel can't; it takes Linux 6.9";
const NO_RIGHT: &str = "it takes CAP_SYS_ADMIN; run larder as root or grant it that";
const REFUSED: &str = "the kernel refused; it takes CAP_SYS_ADMIN outside of any container";

/// Major and minor number of a kernel's release.
fn release(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What the kernel reads an inode from.
#[derive(Debug)]
pub(crate) struct Backing {
    // In this order: the kernel lets go of the file before the page store may.
    pub(crate) id: BackingId,
    _hold: LocalHold,
}

/// How each open inode is read.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Why every way leads through here; empty while the kernel may be asked.
    obstacle: OnceLock<&'static str>,
    open: Mutex<Open<Arc<Backing>>>,
    complained: OnceLock<()>,
}

impl Ways {
    /// What the kernel said at the mount, or the settings.
    pub(crate) fn obstruct(&self, why: &'static str) {
        // The first reason stands.
        let _ = self.obstacle.set(why);
    }

    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        self.obstacle.get().copied()
    }

    /// Whether the next open of this inode would decide its way, and could decide for a backing.
    pub(crate) fn is_undecided(&self, inode: u64) -> bool {
        self.obstacle().is_none() && !self.lock().contains(inode)
    }

    /// Enters one open of `inode`: on the way it is on, else with `local` as its backing where
    /// the kernel takes it by `give`.
    pub(crate) fn enter(
        &self,
        inode: u64,
        local: Option<LocalFile>,
        give: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Option<Arc<Backing>> {
        self.lock().enter(inode, || {
            let local = local.filter(|_| self.obstacle().is_none())?;
            match give(&local.file) {
                // The descriptor is closed now: the kernel holds the file by itself.
                Ok(id) => Some(Arc::new(Backing { id, _hold: local.hold })),
                Err(error) => {
                    self.refused(&error);
                    None
                }
            }
        })
    }

    /// One open of `inode` is over. The last one takes the backing away.
    pub(crate) fn leave(&self, inode: u64) {
        let left = self.lock().leave(inode);
        drop(left);
    }

    fn refused(&self, error: &io::Error) {
        if Errno::from_io_error(error) == Some(Errno::PERM) {
            self.obstruct(REFUSED);
        }
        if self.complained.set(()).is_ok() {
            tracing::warn!(%error, "the kernel would not read a file by itself; reading for it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<Arc<Backing>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Open inodes, how often each is open, and its backing if it has one.
#[derive(Debug)]
struct Open<B>(HashMap<u64, (u64, Option<B>)>);

impl<B> Default for Open<B> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<B: Clone> Open<B> {
    fn contains(&self, inode: u64) -> bool {
        self.0.contains_key(&inode)
    }

    fn enter(&mut self, inode: u64, decide: impl FnOnce() -> Option<B>) -> Option<B> {
        let (opens, backing) = self.0.entry(inode).or_insert_with(|| (0, decide()));
        *opens += 1;
        backing.clone()
    }

    /// Answers the backing that nobody needs any more.
    fn leave(&mut self, inode: u64) -> Option<B> {
        let Entry::Occupied(mut open) = self.0.entry(inode) else { return None };
        open.get_mut().0 -= 1;
        if open.get().0 > 0 {
            return None;
        }
        open.remove().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_open_decides_for_all_until_the_last_is_over() {
        let mut open = Open::default();
        assert_eq!(open.enter(1, || Some('a')), Some('a'));
        assert_eq!(open.enter(1, || Some('b')), Some('a'), "one backing at a time");
        assert_eq!(open.enter(2, || None), None);
        assert_eq!(open.enter(2, || Some('c')), None, "never mixed");
        assert_eq!(open.leave(1), None);
        assert!(open.contains(1));
        assert_eq!(open.leave(1), Some('a'));
        assert_eq!(open.enter(1, || Some('d')), Some('d'), "decided anew");
        assert_eq!((open.leave(2), open.leave(2), open.leave(2)), (None, None, None));
        assert!(!open.contains(2));
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(release("6.9.0"), Some((6, 9)));
        assert_eq!(release("5.15"), Some((5, 15)));
        assert_eq!(release("odd"), None);
    }
}
