// SPDX-License-Identifier: Apache-2.0
//! One directory for pages: its lock, its identity, its format, and whether it was closed well.
//!
//! ```text
//! DIR/lock      held (flock) while a process uses the directory; says its process id
//! DIR/format    the version of this layout
//! DIR/identity  a random number: records name it, so a swapped disk is noticed
//! DIR/state     `clean BYTES SEGMENTS`; `dirty BYTES`: so much may lie there unrecorded;
//!               `drained`: not to be used until somebody says so
//! DIR/scrub     how far the scrubber is: `SHARE LAST`, in 256ths and milliseconds since 1970
//! DIR/pages/ab/cdef…  one sparse backing file per content of more than 64 KiB
//! DIR/slabs/0…1       slabs: files of up to 64 KiB, each in a slot
//! ```
//!
//! Format 1 had no slabs: it is read, and becomes format 2, so that a binary that knows nothing
//! of slabs does not use the directory.
//!
//! A directory may leave the process and come back, even as another disk under the same path:
//! its path and its place in the catalogue stay, what was found there is found anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind as IoErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

use larder_core::{ByteSize, Error, Random, Result};
use rustix::{
    fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs},
    io::Errno,
};

use crate::{DirectoryOptions, record::DirectoryId, shelf::lock};

const FORMAT: &str = "larder-pages 2\n";
const FORMAT_WITHOUT_SLABS: &str = "larder-pages 1\n";
/// Less than this is a mistake in the configuration.
const CAPACITY_MIN: ByteSize = ByteSize(1 << 20);
/// No small file of ours is longer.
const SMALL_FILE_MAX: u64 = 4096;

/// What the last process to use a directory left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It closed well, with so many bytes in so many segments.
    Clean { bytes: u64, segments: u64 },
    /// It did not: up to so many bytes may lie there without a record.
    Dirty { unrecorded: u64 },
    /// Somebody wanted it empty: it takes nothing until it is told to.
    Drained,
    /// Nothing is known.
    Unknown,
}

/// What was found when a directory was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) id: DirectoryId,
    /// As configured, but never more than the file system can hold.
    pub(crate) capacity: u64,
    pub(crate) state: State,
}

impl Opened {
    /// No record names this identity.
    const NOTHING: Self = Self { id: DirectoryId(0), capacity: 0, state: State::Unknown };
}

/// A directory for pages, in the hands of this process or not.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    size: ByteSize,
    opened: RwLock<Opened>,
    lock: Mutex<Option<DirectoryLock>>,
    /// Held while a slab is made there, or all of them are read.
    pub(crate) making: Mutex<()>,
}

/// Holds the lock of a directory until dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock(#[expect(dead_code, reason = "held for its lock")] File);

impl Directory {
    /// A directory that is not open yet.
    pub(crate) fn new(options: &DirectoryOptions) -> Self {
        Self {
            path: options.path.clone(),
            size: options.capacity,
            opened: RwLock::new(Opened::NOTHING),
            lock: Mutex::default(),
            making: Mutex::default(),
        }
    }

    /// Makes, locks and checks the directory. A lock held before is let go first: it may be that
    /// of another disk.
    pub(crate) fn open(&self, random: &Random) -> Result<Opened> {
        self.unlock();
        let path = &self.path;
        if self.size < CAPACITY_MIN {
            return Err(Error::invalid(format!(
                "cache directory {} is given {}; the least is {CAPACITY_MIN}",
                path.display(),
                self.size
            )));
        }
        fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
        let held = take_lock(path)?;
        let is_new = check_format(path)?;
        let identity = path.join("identity");
        let known = read_small(&identity).map_err(|error| unusable(path, error))?;
        let known = known.and_then(|text| u128::from_str_radix(text.trim(), 16).ok());
        let id =
            known.unwrap_or_else(|| u128::from(random.next()) << 64 | u128::from(random.next()));
        if known.is_none() {
            write_small(&identity, &format!("{id:032x}\n"))
                .map_err(|error| unusable(path, error))?;
        }
        fs::create_dir_all(path.join("pages")).map_err(|error| unusable(path, error))?;
        probe(path)?;
        let capacity = clamp_capacity(path, self.size)?;
        let state = if is_new {
            State::Clean { bytes: 0, segments: 0 }
        } else {
            let text = read_small(&path.join("state")).map_err(|error| unusable(path, error))?;
            known.and(text).map_or(State::Unknown, |text| State::parse(&text))
        };
        let opened = Opened { id: DirectoryId(id), capacity, state };
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened;
        *lock(&self.lock) = Some(held);
        Ok(opened)
    }

    /// What was found when it was last opened.
    pub(crate) fn opened(&self) -> Opened {
        *self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> DirectoryId {
        self.opened().id
    }

    /// Gives the directory out of hand: the process holds nothing open there any more, and no
    /// record names it.
    pub(crate) fn release(&self) {
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Opened::NOTHING;
        self.unlock();
    }

    /// Lets another process have it.
    pub(crate) fn unlock(&self) {
        drop(lock(&self.lock).take());
    }

    /// What it would hold by the word of whoever configured it.
    pub(crate) fn size(&self) -> ByteSize {
        self.size
    }

    /// What the scrubber wrote down there, if that can be read.
    pub(crate) fn scrub_note(&self) -> Option<String> {
        read_small(&self.path.join("scrub")).ok().flatten()
    }

    /// Keeps what the scrubber writes down.
    pub(crate) fn keep_scrub_note(&self, text: &str) -> io::Result<()> {
        write_small(&self.path.join("scrub"), text)
    }

    /// Writes durably what the next process shall find.
    pub(crate) fn mark(&self, state: State) -> Result<()> {
        let text = match state {
            State::Clean { bytes, segments } => format!("clean {bytes} {segments}\n"),
            State::Dirty { unrecorded } => format!("dirty {unrecorded}\n"),
            State::Drained => "drained\n".to_owned(),
            State::Unknown => "unknown\n".to_owned(),
        };
        write_small(&self.path.join("state"), &text).map_err(|error| unusable(&self.path, error))
    }
}

impl State {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().ok();
        let state = match words[..] {
            ["clean", bytes, segments] => number(bytes)
                .zip(number(segments))
                .map(|(bytes, segments)| Self::Clean { bytes, segments }),
            ["dirty", bytes] => number(bytes).map(|unrecorded| Self::Dirty { unrecorded }),
            ["drained"] => Some(Self::Drained),
            _ => None,
        };
        state.unwrap_or(Self::Unknown)
    }
}

fn take_lock(path: &Path) -> Result<DirectoryLock> {
    let name = path.join("lock");
    let write =
        || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    drop(write().map_err(|error| unusable(path, error))?);
    // Held for reading only: the file system may still be remounted read-only.
    let file = File::open(&name).map_err(|error| unusable(path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = (&file).take(SMALL_FILE_MAX).read_to_string(&mut holder);
            let holder = read.ok().and_then(|_| holder.trim().parse::<u32>().ok());
            let holder = holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(Error::already_exists(format!(
                "cache directory {} is in use by another larder process{holder}",
                path.display()
            )));
        }
        Err(errno) => return Err(unusable(path, errno.into())),
    }
    let note = write().and_then(|mut file| {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    });
    note.map_err(|error| unusable(path, error))?;
    Ok(DirectoryLock(file))
}

/// Whether the directory is new to us. Pages without a format are somebody else's: reconciling
/// would delete them.
fn check_format(path: &Path) -> Result<bool> {
    let format = path.join("format");
    match read_small(&format).map_err(|error| unusable(path, error))? {
        Some(text) if text == FORMAT => Ok(false),
        Some(text) if text == FORMAT_WITHOUT_SLABS => {
            write_small(&format, FORMAT).map_err(|error| unusable(path, error))?;
            Ok(false)
        }
        Some(text) => Err(Error::invalid(format!(
            "cache directory {} has the format '{}', which this version does not read; give it \
             another directory, or empty this one",
            path.display(),
            text.trim().escape_default()
        ))),
        None if path.join("pages").exists() => Err(Error::invalid(format!(
            "cache directory {} holds a 'pages' that larder did not make; give it an empty \
             directory",
            path.display()
        ))),
        None => {
            write_small(&format, FORMAT).map_err(|error| unusable(path, error))?;
            Ok(true)
        }
    }
}

/// Eviction needs holes.
fn probe(path: &Path) -> Result<()> {
    let name = path.join("probe");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&name)
        .map_err(|error| unusable(path, error))?;
    let punched = rustix::io::write(&file, &[1]).and_then(|_| {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, how, 0, crate::page_set::BLOCK)
    });
    // A probe that stays behind is overwritten by the next one.
    drop(fs::remove_file(&name));
    punched.map_err(|errno| match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => Error::unsupported(format!(
            "cache directory {} lies on a file system that cannot punch holes; use a local ext4, \
             xfs, btrfs or tmpfs",
            path.display()
        )),
        errno => unusable(path, errno.into()),
    })
}

fn clamp_capacity(path: &Path, wanted: ByteSize) -> Result<u64> {
    let space = statvfs(path).map_err(|errno| unusable(path, errno.into()))?;
    let total = space.f_frsize.saturating_mul(space.f_blocks);
    // The file system's own tables and our directories need some of it.
    let usable = (total - total / 20).max(CAPACITY_MIN.0);
    if wanted.0 > usable {
        tracing::warn!(
            directory = %path.display(),
            wanted = %wanted,
            usable = %ByteSize(usable),
            "the file system is smaller than the capacity given; using what it can hold"
        );
    }
    Ok(wanted.0.min(usable))
}

fn read_small(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_MAX).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Replaces a small file whole, durably.
fn write_small(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The sentence for a directory that cannot be used.
fn unusable(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        IoErrorKind::PermissionDenied => Error::denied(format!(
            "cache directory {path} is not writable by this user; change its owner or give \
             another directory"
        )),
        IoErrorKind::ReadOnlyFilesystem => Error::denied(format!(
            "cache directory {path} lies on a read-only file system; give another directory"
        ))
        .with_source(error),
        IoErrorKind::NotADirectory | IoErrorKind::AlreadyExists => Error::not_a_directory(format!(
            "cache directory {path} is a file, or leads through one; give a directory"
        )),
        IoErrorKind::StorageFull => Error::exhausted(format!(
            "cache directory {path} lies on a full file system; make room there"
        )),
        _ => Error::unavailable(format!(
            "cache directory {path} cannot be used; look after its disk or give another \
                 directory"
        ))
        .with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn states_are_parsed_or_unknown() {
        assert_eq!(State::parse("clean 5 2\n"), State::Clean { bytes: 5, segments: 2 });
        assert_eq!(State::parse("dirty 7\n"), State::Dirty { unrecorded: 7 });
        assert_eq!(State::parse("drained\n"), State::Drained);
        for wrong in ["", "clean", "clean -1 2", "dirty x", "dirty 1 2 3"] {
            assert_eq!(State::parse(wrong), State::Unknown, "{wrong}");
        }
    }
}
