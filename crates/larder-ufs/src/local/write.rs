// SPDX-License-Identifier: Apache-2.0
//! Writing, deleting and copying.
//!
//! A file is written beside its place under a temporary name, synced, and renamed over what was
//! there; then its directory is synced. So readers see the old content or the new, and after a
//! crash at most a temporary file is left over, which is not listed. Directories come into being
//! with the first file in them and stay when the last one goes.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt;
use larder_core::{Error, Key, Random, Result, Status};
use rustix::{
    fs::{AtFlags, Mode, OFlags, fstat, fsync, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use tokio::sync::mpsc;

use crate::ByteStream;

use super::{
    root::{Print, Root, TEMPORARY, failed, is_legal, resolve},
    store::{CALL_MAX, LocalStore},
};

/// Chunks on their way to the disk at most.
const QUEUE: usize = 4;

pub(super) async fn write(
    store: &LocalStore,
    key: &Key,
    length: u64,
    mut body: ByteStream,
) -> Result<Status> {
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let (root, random) = (Arc::clone(&store.root), Arc::clone(&store.random));
    let target = key.clone();
    let mut writer = tokio::task::spawn_blocking(move || {
        let place = Place::new(&root, &target)?;
        place.replace(&random, |file| drain(receiver, file, length))
    });
    let feed = async {
        let mut left = length;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(wrong_length)?;
            // The last bytes wait for the end of the body: it may go on where it should not.
            if !chunk.is_empty() && sender.send(chunk).await.is_err() {
                // The writer ended early and knows why.
                return Ok(());
            }
        }
        // An empty chunk says that the body ended well; the file is not renamed without it.
        let done = sender.send(Bytes::new()).await;
        if left == 0 || done.is_err() { Ok(()) } else { Err(wrong_length()) }
    };
    let fed: Result<()> = feed.await;
    drop(sender);
    let written = tokio::select! {
        written = &mut writer => written.unwrap_or_else(|error| {
            Err(Error::internal("a file system call ended unexpectedly").with_source(error))
        }),
        () = store.clock.sleep(CALL_MAX) => Err(Error::unavailable(
            "the file system did not take the file in time; look after its server or disk",
        )),
    };
    fed.and(written)
}

fn wrong_length() -> Error {
    Error::invalid("the upload has not as many bytes as were told; nothing was written")
}

/// Takes chunks to `file` until the empty one that ends a good body.
fn drain(mut receiver: mpsc::Receiver<Bytes>, file: &mut std::fs::File, length: u64) -> Result<()> {
    let mut left = length;
    while let Some(chunk) = receiver.blocking_recv() {
        if chunk.is_empty() {
            return if left == 0 { Ok(()) } else { Err(wrong_length()) };
        }
        left = left.checked_sub(chunk.len() as u64).ok_or_else(wrong_length)?;
        file.write_all(&chunk).map_err(|error| not_written(&error))?;
    }
    Err(Error::unavailable("the upload was given up; nothing was written"))
}

fn not_written(error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    failed(errno, "the file being written")
}

pub(super) fn delete(root: &Root, key: &Key) -> Result<()> {
    let directory = root.open()?;
    if !is_legal(key.as_str()) {
        return Ok(());
    }
    let (parent, name) = split(key.as_str());
    let unlinked = resolve(&directory, parent, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|parent| unlinkat(&parent, name, AtFlags::empty()));
    match unlinked {
        // A directory is not a file, so there was none.
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::XDEV | Errno::LOOP) => {
            Ok(())
        }
        Err(errno) => Err(failed(errno, &root.uri(key.as_str()))),
    }
}

pub(super) fn copy(root: &Root, from: &Key, to: &Key, random: &Random) -> Result<Status> {
    let source = root.open_file(from)?;
    if from == to {
        return Ok(source.status());
    }
    let place = Place::new(root, to)?;
    place.replace(random, |file| {
        let mut reader = std::fs::File::from(source.file);
        // The library uses copy_file_range, which some file systems do without moving a byte.
        let copied = std::io::copy(&mut reader, file).map_err(|error| not_written(&error))?;
        let stat = fstat(&reader).map_err(|errno| failed(errno, &root.uri(from.as_str())))?;
        if copied != source.print.length || Print::of(&stat) != source.print {
            let uri = root.uri(from.as_str());
            return Err(Error::stale(format!("{uri} changed while it was copied")));
        }
        Ok(())
    })
}

/// Directory and name of a legal key.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// Where a file is to be.
struct Place<'a> {
    directory: OwnedFd,
    name: &'a str,
    uri: String,
}

impl<'a> Place<'a> {
    /// Opens the directory of `key` and makes it where it is missing.
    fn new(root: &Root, key: &'a Key) -> Result<Self> {
        let uri = root.uri(key.as_str());
        if !is_legal(key.as_str()) {
            return Err(Error::invalid(format!(
                "{uri} can't be a file: segments must be 1 to 255 bytes and not '.' or '..'"
            )));
        }
        let (parent, name) = split(key.as_str());
        let top = root.open()?;
        let directory = open_or_make(&top, parent).map_err(|errno| match errno {
            Errno::NOTDIR => Error::not_a_directory(format!("a part of {uri} is a file")),
            Errno::XDEV => Error::denied(format!("{uri} leads out of the mount by a link")),
            errno => failed(errno, &uri),
        })?;
        Ok(Self { directory, name, uri })
    }

    /// Fills a temporary file and puts it in place.
    fn replace(
        &self,
        random: &Random,
        fill: impl FnOnce(&mut std::fs::File) -> Result<()>,
    ) -> Result<Status> {
        let temporary = format!("{TEMPORARY}{:016x}", random.next());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.directory, &temporary, flags, Mode::from_raw_mode(0o666))
            .map_err(|errno| failed(errno, &self.uri))?;
        let mut file = std::fs::File::from(file);
        let done = fill(&mut file).and_then(|()| self.put_in_place(&file, &temporary));
        if done.is_err() {
            // What is left over is hidden; a failing removal must not hide the first error.
            let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        done
    }

    fn put_in_place(&self, file: &std::fs::File, temporary: &str) -> Result<Status> {
        let put = || {
            fsync(file)?;
            renameat(&self.directory, temporary, &self.directory, self.name)?;
            fsync(self.directory.as_fd())?;
            fstat(file)
        };
        let stat = put().map_err(|errno| failed(errno, &self.uri))?;
        Ok(Print::of(&stat).status())
    }
}

fn open_or_make(top: &OwnedFd, path: &str) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match resolve(top, path, flags) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut parent = resolve(top, "", flags)?;
    for (slash, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let (_, name) = split(&path[..slash]);
        match mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        parent = resolve(top, &path[..slash], flags)?;
    }
    Ok(parent)
}
