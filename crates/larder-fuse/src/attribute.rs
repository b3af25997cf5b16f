// SPDX-License-Identifier: Apache-2.0
//! What `stat` shows of an inode, and how long the kernel may believe it.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use larder_core::{Freshness, PAGE_SIZE};

use crate::inode::Inode;

/// The kernel never believes a name longer than this without asking, but for files that never
/// change.
pub(crate) const NAME_BELIEVED_MAX: Duration = Duration::from_secs(60);
/// For what can't change: files of an immutable mount, and the attributes of any inode, since an
/// inode is one version.
pub(crate) const UNCHANGING: Duration = Duration::from_secs(3600);
/// How long the list of mounts is believed.
pub(crate) const MOUNT_BELIEVED: Duration = Duration::from_secs(1);

/// What all inodes of a mount have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common {
    /// The time directories show.
    pub(crate) mounted: SystemTime,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Common {
    /// The attributes of `inode`, which has this `number`.
    pub(crate) fn attributes(&self, number: u64, inode: &Inode) -> FileAttr {
        let (kind, perm, nlink, size, time) = match inode {
            Inode::Root | Inode::Directory(_) => (FileType::Directory, 0o555, 2, 0, self.mounted),
            Inode::File(_, status) => {
                let time = status.modified.to_system_time();
                (FileType::RegularFile, 0o444, 1, status.length, time)
            }
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            // One page: buffered readers fetch this much at every jump, so more would be waste.
            blksize: u32::try_from(PAGE_SIZE).expect("a page is small"),
            flags: 0,
        }
    }
}

/// How long a name that is known for `age` may be believed under a mount's rule.
pub(crate) fn name_believed(freshness: Freshness, inode: &Inode, age: Duration) -> Duration {
    match (freshness, inode) {
        (Freshness::Always, _) => Duration::ZERO,
        (Freshness::Immutable, Inode::File(..)) => UNCHANGING,
        (Freshness::Immutable, Inode::Root | Inode::Directory(_)) => NAME_BELIEVED_MAX,
        (Freshness::MaxAge(limit), _) => limit.saturating_sub(age).min(NAME_BELIEVED_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_never_outlives_the_promise() {
        let directory = Inode::Directory("/lake/d/".parse().expect("legal"));
        let seconds = Duration::from_secs;
        let of = |freshness, age| name_believed(freshness, &directory, seconds(age));
        assert_eq!(of(Freshness::Always, 0), Duration::ZERO);
        assert_eq!(of(Freshness::MaxAge(seconds(10)), 4), seconds(6));
        assert_eq!(of(Freshness::MaxAge(seconds(10)), 11), Duration::ZERO);
        assert_eq!(of(Freshness::MaxAge(seconds(9999)), 0), NAME_BELIEVED_MAX);
        assert_eq!(of(Freshness::Immutable, 9999), NAME_BELIEVED_MAX);
    }
}
