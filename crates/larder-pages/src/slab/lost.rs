// SPDX-License-Identifier: Apache-2.0
//! A slab that cannot be read when its directory is: what lies there are misses, and the rest of
//! the directory goes on.
//!
//! What will never be read again is unlinked, so that its room is free and the next start does not
//! meet it. What may be only of this moment (too many open files, no memory), or is none of ours,
//! stays where it is: its name is not given to another slab, and its room to nobody. Only an error
//! that says that nothing can be changed there (a disk that is gone or read-only) is one of the
//! whole directory.

use std::{fs, io, os::unix::fs::MetadataExt, time::Duration};

use rustix::io::Errno;

use super::file;
use crate::{evict::LaneIndex, shelf::Shelf};

/// A slab is tried so often …
const TRIES: u32 = 10;
/// … and rests so long between two tries, while something passes: half a second in all.
const REST: Duration = Duration::from_millis(50);

/// What an error says of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The moment is bad, not the slab.
    Passing,
    /// Its medium, or what the file system knows of it, is damaged.
    Damaged,
    /// Something else has its name.
    Foreign,
    /// It is not there any more.
    Gone,
    /// The whole disk fails.
    OfTheDisk,
}

impl Fate {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::INTR
                | Errno::NOMEM
                | Errno::AGAIN
                | Errno::BUSY,
            ) => Self::Passing,
            Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG) => Self::Damaged,
            Some(Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => {
                Self::Foreign
            }
            Some(Errno::NOENT) => Self::Gone,
            Some(_) => Self::OfTheDisk,
            // Shorter than it says it is.
            None => Self::Damaged,
        }
    }
}

/// Tries again while what is in the way passes, for a moment.
pub(super) fn try_again<T>(
    shelf: &Shelf,
    mut work: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match work() {
            Err(error) if Fate::of(&error) == Fate::Passing && tries < TRIES => tries += 1,
            done => return done,
        }
        if shelf.queue.rest(REST) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

/// Goes on without a slab that could not be read.
pub(super) fn leave(
    shelf: &Shelf,
    directory: LaneIndex,
    name: u64,
    error: io::Error,
) -> io::Result<()> {
    let fate = Fate::of(&error);
    if fate == Fate::OfTheDisk {
        return Err(error);
    }
    let root = shelf.root(directory);
    let path = file::path(root, name);
    {
        let mut catalogue = shelf.catalogue();
        catalogue.smalls.note_name(directory, name);
        if matches!(fate, Fate::Passing | Fate::Foreign) {
            let on_disk = fs::symlink_metadata(&path).map_or(0, |found| found.blocks() * 512);
            catalogue.lane(directory).quota.leave(on_disk);
        }
    }
    let unlinked = fate == Fate::Damaged;
    tracing::warn!(
        slab = %path.display(), %error, unlinked,
        "a slab cannot be read; its small files are misses"
    );
    match fate {
        Fate::Damaged => file::unlink(root, name),
        Fate::Foreign => {
            // Only where nothing is in it: whoever made it may want it back.
            let _ = fs::remove_dir(&path);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_damaged_is_given_up() {
        let of = |errno: Errno| Fate::of(&errno.into());
        for passing in [Errno::MFILE, Errno::NFILE, Errno::INTR, Errno::NOMEM, Errno::AGAIN] {
            assert_eq!(of(passing), Fate::Passing);
        }
        assert_eq!(of(Errno::IO), Fate::Damaged);
        assert_eq!(Fate::of(&io::ErrorKind::UnexpectedEof.into()), Fate::Damaged);
        for foreign in [Errno::ISDIR, Errno::LOOP, Errno::ACCESS] {
            assert_eq!(of(foreign), Fate::Foreign);
        }
        assert_eq!(of(Errno::NOENT), Fate::Gone);
        for of_the_disk in [Errno::ROFS, Errno::NODEV, Errno::STALE, Errno::NOSPC] {
            assert_eq!(of(of_the_disk), Fate::OfTheDisk);
        }
    }
}
