// SPDX-License-Identifier: Apache-2.0
//! The root directory: from keys to open files, never leaving it.
//!
//! The root itself is opened anew for each call: a directory that was unmounted, removed or
//! replaced is noticed at once, for the price of one system call.

use std::{os::fd::OwnedFd, path::PathBuf};

use larder_core::{Error, Key, Result, Status, UnixMillis, Version};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2},
    io::Errno,
};

/// How the names of unfinished uploads begin.
pub(super) const TEMPORARY: &str = ".larder-tmp-";
/// Tries of a resolution that a concurrent rename disturbed.
const RESOLVE_TRIES: u32 = 16;

/// A directory and all below it.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The canonical URI of a key.
    pub(super) fn uri(&self, key: &str) -> String {
        // The path came from a URI, so it is UTF-8; the root of the machine has no name.
        let path = self.path.to_str().unwrap_or_default().trim_end_matches('/');
        format!("file://{path}/{key}")
    }

    /// The root directory, open.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(&self.path, flags, Mode::empty()).map_err(|errno| {
            let path = self.path.display();
            match errno {
                Errno::NOENT | Errno::NOTDIR => Error::not_found(format!(
                    "the directory {path} does not exist; create it or correct the mount"
                )),
                errno => failed(errno, &format!("the directory {path}")),
            }
        })
    }

    /// The regular file of a key, open for reading.
    pub(super) fn open_file(&self, key: &Key) -> Result<File> {
        let uri = self.uri(key.as_str());
        let missing = || Error::not_found(format!("{uri} does not exist"));
        let root = self.open()?;
        if !is_legal(key.as_str()) {
            return Err(missing());
        }
        // Not blocking, so that a pipe with this name can't hang us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = resolve(&root, key.as_str(), flags).map_err(|errno| match errno {
            Errno::NXIO | Errno::NODEV => missing(),
            errno => failed(errno, &uri),
        })?;
        let stat = fstat(&file).map_err(|errno| failed(errno, &uri))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(missing());
        }
        Ok(File { file, print: Print::of(&stat) })
    }
}

/// Opens `path` below `directory`, following only links that stay there.
pub(super) fn resolve(
    directory: &OwnedFd,
    path: &str,
    flags: OFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    let mut tries = 1;
    loop {
        match openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), rules) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Whether a file system can hold this key, and the key is not one of our unfinished uploads.
pub(super) fn is_legal(key: &str) -> bool {
    let legal = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.len() <= 255
            && !segment.starts_with(TEMPORARY)
    };
    key.split('/').all(legal)
}

/// A regular file, open for reading, as it was when it was opened.
pub(super) struct File {
    pub(super) file: OwnedFd,
    pub(super) print: Print,
}

impl File {
    pub(super) fn status(&self) -> Status {
        self.print.status()
    }
}

/// What tells one content from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    modified_ns: i128,
    pub(super) length: u64,
    inode: u64,
}

impl Print {
    pub(super) fn of(stat: &Stat) -> Self {
        let modified_ns = i128::from(stat.st_mtime) * 1_000_000_000 + stat.st_mtime_nsec as i128;
        Self { modified_ns, length: stat.st_size.try_into().unwrap_or(0), inode: stat.st_ino }
    }

    /// The status, with (empty) attributes: there is nothing more to be asked.
    pub(super) fn status(&self) -> Status {
        Status { attributes: Some(Box::default()), ..self.listed() }
    }

    /// The status as a listing tells it.
    pub(super) fn listed(&self) -> Status {
        let Self { modified_ns, length, inode } = self;
        let modified = UnixMillis(u64::try_from(modified_ns / 1_000_000).unwrap_or(0));
        let version = Version::new(format!("{modified_ns:x}-{length:x}-{inode:x}"));
        Status { length: *length, version, modified, attributes: None }
    }
}

/// An errno of the file system about `what`.
pub(super) fn failed(errno: Errno, what: &str) -> Error {
    // None of them is `Exhausted`: it is the machine that has no more, and no store asks to be
    // asked less.
    let error = match errno {
        // A link out of the root is as good as none.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => {
            Error::not_found(format!("{what} does not exist"))
        }
        Errno::ACCESS | Errno::PERM => {
            Error::denied(format!("Larder may not open {what}; give it the right"))
        }
        Errno::ROFS => Error::denied(format!("{what} is on a read-only file system")),
        Errno::ISDIR => Error::is_a_directory(format!("{what} is a directory")),
        Errno::EXIST => Error::already_exists(format!("{what} exists already")),
        Errno::NOSPC | Errno::DQUOT => {
            Error::unavailable(format!("no space is left for {what}; free some"))
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            Error::unavailable(format!("the system has no descriptor or memory left for {what}"))
        }
        Errno::NOSYS => {
            Error::unsupported("local mounts need the system call openat2; use Linux 5.6 or later")
        }
        _ => Error::unavailable(format!("the file system failed on {what}")),
    };
    error.with_source(std::io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn what_the_machine_lacks_does_not_slow_the_store_down() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(failed(errno, "x").kind(), ErrorKind::Unavailable, "{errno:?}");
        }
    }
}
