// SPDX-License-Identifier: Apache-2.0
//! The directory of the store: claimed by one process, on a local file system, and the place
//! where a damaged file is set aside.
//!
//! It never deletes the last damaged file: somebody may want to look at it. The next one takes
//! its place, so that there is at most one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use larder_core::{Error, Result};

const LOCK: &str = "larder.lock";
const DATA: &str = "data.mdb";
const ENGINE_LOCK: &str = "lock.mdb";
const SET_ASIDE: &str = "damaged.mdb";
const CONDEMNED: &str = "condemned";

/// A claimed directory; the claim ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory where needed and claims it.
    pub(crate) fn claim(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            let path = path.display();
            Error::unavailable(format!("the metadata directory {path} can't be used"))
                .with_source(error)
        };
        fs::create_dir_all(path).map_err(failed)?;
        refuse_network(path)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
            Err(TryLockError::WouldBlock) => Err(Error::already_exists(format!(
                "the metadata directory {} is in use by another Larder; stop it, or give this \
                 one a directory of its own",
                path.display()
            ))),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the engine.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Bytes of the engine's file; zero where there is none yet.
    pub(crate) fn data_bytes(&self) -> u64 {
        fs::metadata(self.data()).map_or(0, |metadata| metadata.len())
    }

    /// Remembers that the file is damaged, for the next start.
    pub(crate) fn condemn(&self) -> io::Result<()> {
        File::create(self.path.join(CONDEMNED)).map(drop)
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.path.join(CONDEMNED).exists()
    }

    /// Moves the engine's file out of the way, so that an empty one can take its place.
    pub(crate) fn set_aside(&self) -> Result<()> {
        let moved = fs::rename(self.data(), self.path.join(SET_ASIDE))
            .and_then(|()| remove_if_there(&self.path.join(ENGINE_LOCK)))
            .and_then(|()| remove_if_there(&self.path.join(CONDEMNED)));
        moved.map_err(|error| {
            let path = self.path.display();
            Error::unavailable(format!(
                "the metadata in {path} is damaged and can't be moved aside; remove the \
                 directory, it is only a cache"
            ))
            .with_source(error)
        })
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// File systems whose other clients may change a mapped file under us, by their numbers in
/// `statfs(2)` and the kernel's `magic.h`.
const NETWORK: [(u32, &str); 8] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

fn refuse_network(path: &Path) -> Result<()> {
    // A file system that does not answer is judged by the calls that follow.
    let Ok(found) = rustix::fs::statfs(path) else { return Ok(()) };
    let number = found.f_type as u32;
    let Some((_, name)) = NETWORK.iter().find(|(known, _)| *known == number) else { return Ok(()) };
    Err(Error::unsupported(format!(
        "the metadata directory {} lies on {name}; it is memory-mapped and needs a local disk",
        path.display()
    )))
}
