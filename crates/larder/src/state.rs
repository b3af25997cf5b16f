// SPDX-License-Identifier: Apache-2.0
//! The state directory: who owns it now, who this worker is, and what was decided once.
//!
//! `lock` is held for the life of the process, so two larders can never share a state; it names
//! the process for people. What lies here is private to one user (0700).

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use larder_cluster::member::WorkerId;
use larder_core::{Error, Result};
use rand::{TryRng, rngs::SysRng};
use rustix::fs::FlockOperation;

/// A state directory that belongs to this process.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    #[expect(dead_code, reason = "the lock is held as long as the file is open")]
    lock: File,
}

/// The control socket of a state directory.
pub(crate) fn socket_of(directory: &Path) -> PathBuf {
    directory.join("larder.sock")
}

impl State {
    /// Makes the directory if it is missing and takes its lock.
    ///
    /// # Errors
    /// `AlreadyExists` when another process owns it; `Denied` or `Invalid` when it can't be used.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let failed = |error: io::Error| unusable(directory, error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let path = directory.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _ = lock.take(32).read_to_string(&mut owner);
            let owner: String = owner.chars().filter(char::is_ascii_digit).collect();
            let owner = if owner.is_empty() { String::new() } else { format!(" (pid {owner})") };
            return Err(Error::already_exists(format!(
                "larder is already running{owner} with the state directory {}; stop it or choose \
                 another with --state",
                directory.display()
            )));
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), lock })
    }

    /// A place in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the control socket belongs.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_of(&self.directory)
    }

    /// The identity of this worker, made at the first start.
    ///
    /// # Errors
    /// `Invalid` when the file is there and is not an identity.
    pub(crate) fn worker_id(&self) -> Result<WorkerId> {
        let path = self.path("worker-id");
        let failed = |error: io::Error| unusable(&path, error);
        match fs::read_to_string(&path) {
            Ok(text) => u64::from_str_radix(text.trim(), 16).map(WorkerId).map_err(|_| {
                Error::invalid(format!(
                    "{} is damaged: it must hold 16 hexadecimal digits; remove it to get a new \
                     identity",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; 8];
                random_bytes(&mut bytes)?;
                let id = WorkerId(u64::from_be_bytes(bytes));
                write_private(&path, &format!("{id}\n")).map_err(failed)?;
                Ok(id)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The sizes that were decided for cache directories without one.
    pub(crate) fn decided_sizes(&self) -> BTreeMap<PathBuf, u64> {
        let text = fs::read(self.path("cache-sizes.json")).unwrap_or_default();
        // A damaged file costs a new decision and nothing else.
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps what was decided.
    ///
    /// # Errors
    /// `Invalid` when it can't be written.
    pub(crate) fn keep_decided_sizes(&self, sizes: &BTreeMap<PathBuf, u64>) -> Result<()> {
        let path = self.path("cache-sizes.json");
        let failed = |error: io::Error| unusable(&path, error);
        let text = serde_json::to_string(sizes).map_err(|error| failed(error.into()))?;
        write_private(&path, &text).map_err(failed)
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Bytes from the operating system's generator.
pub(crate) fn random_bytes(bytes: &mut [u8]) -> Result<()> {
    SysRng.try_fill_bytes(bytes).map_err(|error| {
        Error::internal("the operating system gives no random bytes").with_source(error)
    })
}

/// The sentence for what can't be used in a state directory, or for itself.
fn unusable(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied(format!(
                "this user can't write the state directory at {path}; change its owner or name \
                 another with --state"
            ))
            .with_source(error)
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Error::invalid(format!(
            "the state directory {path} is a file, or leads through one; name a directory with \
             --state"
        )),
        _ => Error::invalid(format!(
            "the state directory at {path} can't be used; name another with --state"
        ))
        .with_source(error),
    }
}
