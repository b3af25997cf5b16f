// SPDX-License-Identifier: Apache-2.0
//! What a directory's disk has, and how much of it a cache takes when nobody says.

use std::{fs, path::Path};

use larder_core::{ByteSize, Error, Result};

/// A cache without a size takes one part in so many of its disk …
const CACHE_PART: u64 = 10;
/// … but leaves one part in so many of the disk free …
const SPARED_PART: u64 = 20;
/// … and is never smaller than this.
const CACHE_MIN: u64 = 64 << 20;

/// The file system a directory lies on.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// Bytes in all.
    pub(crate) total: ByteSize,
    /// Bytes free for this user.
    pub(crate) free: ByteSize,
    /// `ext4`, `xfs`, …
    pub(crate) kind: String,
}

impl Disk {
    /// The file system of `directory`, or of its nearest parent that exists.
    ///
    /// # Errors
    /// `Invalid` when it can't be asked.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let there = directory.ancestors().find(|ancestor| ancestor.exists());
        let there = there.unwrap_or(Path::new("."));
        let usage = rustix::fs::statvfs(there).map_err(|error| {
            Error::invalid(format!("can't ask for the free space of {}", there.display()))
                .with_source(error)
        })?;
        let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(usage.f_frsize));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let kind = fs::canonicalize(there).ok().and_then(|there| kind_of(&mounts, &there));
        Ok(Self {
            total: bytes(usage.f_blocks),
            free: bytes(usage.f_bavail),
            kind: kind.unwrap_or_else(|| "unknown".to_owned()),
        })
    }
}

/// The type of the file system that is mounted exactly at this absolute path, if one is.
pub(crate) fn mounted_at(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let here = parsed(&mounts).filter(|(point, _)| Path::new(point) == path);
    here.last().map(|(_, kind)| kind.to_owned())
}

/// What a cache without a size may hold on this disk.
pub(crate) fn default_cache_size(disk: &Disk) -> ByteSize {
    let spared = disk.free.0.saturating_sub(disk.total.0 / SPARED_PART);
    ByteSize((disk.total.0 / CACHE_PART).min(spared).max(CACHE_MIN))
}

/// The type of the file system mounted nearest above `path` (proc_pid_mountinfo(5)).
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let above = parsed(mounts).filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// Mount points with the types of their file systems, the topmost of a place last.
fn parsed(mounts: &str) -> impl Iterator<Item = (&str, &str)> {
    mounts.lines().filter_map(|line| {
        let point = line.split(' ').nth(4)?;
        let kind = line.split(" - ").nth(1)?.split(' ').next()?;
        Some((point, kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_spares_the_disk() {
        let disk = |total_gib: u64, free_gib: u64| Disk {
            total: ByteSize(total_gib << 30),
            free: ByteSize(free_gib << 30),
            kind: "ext4".to_owned(),
        };
        assert_eq!(default_cache_size(&disk(1000, 500)), ByteSize(100 << 30));
        assert_eq!(default_cache_size(&disk(1000, 80)), ByteSize(30 << 30));
        assert_eq!(default_cache_size(&disk(1000, 20)), ByteSize(CACHE_MIN));
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /data rw x:1 - xfs /dev/b rw\n";
        assert_eq!(kind_of(mounts, Path::new("/data/cache")).as_deref(), Some("xfs"));
        assert_eq!(kind_of(mounts, Path::new("/datax")).as_deref(), Some("ext4"));
    }
}
