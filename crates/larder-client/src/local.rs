// SPDX-License-Identifier: Apache-2.0
//! A version that lies whole in one local file, checked byte for byte, for a face that lets
//! others read that file by themselves (the kernel, on a FUSE mount).
//!
//! Whoever reads so compares no checksum, so all pages are compared before. That is affordable
//! because only bytes in memory are looked at: where a page would have to come from the disk, the
//! disk is what a reader waits for, and the usual way through [`crate::Handle`] is no slower. A
//! small file is checked on the spot, a middle one on a thread while the caller waits, a large one
//! behind: then the next caller has it.
//!
//! What was found good is remembered by the file's identity and change time, so that whatever
//! wrote to the file since is noticed, and for [`GOOD_FOR`] at most, so that a disk that rots
//! silently is too. That a check was in vain, because not all of the file was in memory, is
//! remembered for [`VAIN_FOR`]. Bad pages are reported to the worker, which drops them; the next
//! read fetches them again.

use std::{
    any::Any,
    collections::HashMap,
    fs::File,
    io::IoSliceMut,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_cluster::wire::message::{ReadRequest, WholeRequest};
use larder_core::{ByteRange, Error, Extent, PAGE_SIZE, PageIndex, Result, Span, UnixMillis};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::Semaphore;

use crate::{Filesystem, Handle, extent::Verified, part::Run};

/// Up to here a file is checked on the caller's thread: a tenth of a millisecond.
const CHECKED_HERE_MAX: u64 = 1 << 20;
/// Up to here the caller waits for the check: some ten milliseconds.
const AWAITED_MAX: u64 = 64 << 20;
/// How long a check is believed while nothing writes to the file.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// How long a check that was in vain is not tried again: an open must not read most of a file each
/// time, only to find that its end is not in memory.
const VAIN_FOR: Duration = Duration::from_secs(5);
/// Checks that callers wait for, at once; who comes beyond that goes the usual way.
const AWAITED_CHECKS_MAX: usize = 4;
/// Checks remembered; beyond that all are forgotten, which costs another check each.
const REMEMBERED_MAX: usize = 16_384;
/// Bytes read and compared at once.
const STEP: u64 = 4 * PAGE_SIZE;
/// A change time older than this is told apart from one that comes now: kernels keep it in ticks
/// of up to 10 ms.
const TICK: Duration = Duration::from_millis(50);

/// A local file that is an exact copy of one version of a file, every byte of it checked.
#[derive(Debug)]
pub struct LocalFile {
    /// The file; not needed once the kernel has it.
    pub file: Arc<File>,
    /// Keeps the bytes in place for as long as somebody reads them.
    pub hold: LocalHold,
}

/// Keeps the bytes of a [`LocalFile`] in place until it is dropped.
pub struct LocalHold(#[expect(dead_code, reason = "held for its drop")] Option<Hold>);

type Hold = Arc<dyn Any + Send + Sync>;

impl std::fmt::Debug for LocalHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalHold")
    }
}

/// What was checked, and the checks under way.
#[derive(Debug)]
pub(crate) struct CheckedFiles {
    known: Mutex<HashMap<(u64, u64), Known>>,
    /// Checks that callers wait for.
    awaited: Arc<Semaphore>,
    /// One check of a large file at a time; the others are left out, since more would be asked
    /// for than a machine has cores.
    behind: Arc<Semaphore>,
}

impl Default for CheckedFiles {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            awaited: Arc::new(Semaphore::new(AWAITED_CHECKS_MAX)),
            behind: Arc::new(Semaphore::new(1)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    changed: (i64, i64),
    checked: Duration,
    found: Found,
}

/// What a check that is remembered found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Good,
    /// Not all of it was in memory.
    InVain,
}

/// A file as its file system knows it, and when it was last changed.
#[derive(Debug, Clone, Copy)]
struct Identity {
    file: (u64, u64),
    changed: (i64, i64),
    /// The change time can be told apart from that of a write that comes now.
    settled: bool,
}

/// What a check found.
#[derive(Debug)]
enum Checked {
    Good,
    Bad(Vec<PageIndex>),
    /// Not all of it is in memory.
    NotInMemory,
}

impl Filesystem {
    /// The version of `handle` as one local file that others may read without asking, if there
    /// is one on this machine and it was found good. Asks no store. Its first poll may take a
    /// tenth of a millisecond.
    pub async fn local_file(&self, handle: &Handle) -> Option<LocalFile> {
        match self.find_local(handle).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(path = %handle.path(), %error, "no local file to read by itself");
                None
            }
        }
    }

    /// Says that the version of `handle` is read by others now, from what
    /// [`Filesystem::local_file`] gave: the bytes of the file are counted as handed out, and for
    /// the advice on the cache's size as read once.
    pub async fn count_local(&self, handle: &Handle) {
        let (path, status) = (handle.path().clone(), handle.status().clone());
        self.metrics.passthrough_bytes.inc_by(status.length);
        let counted = match self.owner(&path) {
            Ok(worker) => self.bounded(worker.count_whole(WholeRequest { path, status })).await,
            Err(error) => Err(error),
        };
        if let Err(error) = counted {
            tracing::debug!(path = %handle.path(), %error, "a local file's reading is not counted");
        }
    }

    async fn find_local(&self, handle: &Handle) -> Result<Option<LocalFile>> {
        let (path, status) = (handle.path().clone(), handle.status().clone());
        let length = status.length;
        let worker = self.owner(&path)?;
        let request = WholeRequest { path, status };
        let Some(extent) = self.bounded(worker.whole(request)).await? else { return Ok(None) };
        let Some(identity) = Identity::of(&extent, length, self.clock.now())? else {
            return Ok(None);
        };
        let local = |extent: Extent| LocalFile { file: extent.file, hold: LocalHold(extent.hold) };
        match self.checked.recall(&identity, self.clock.elapsed()) {
            Some(Found::Good) => return Ok(Some(local(extent))),
            Some(Found::InVain) => return Ok(None),
            None => {}
        }
        if length > AWAITED_MAX {
            self.check_behind(extent, identity);
            return Ok(None);
        }
        let (extent, found) = if length <= CHECKED_HERE_MAX {
            let found = check(&extent);
            (extent, found)
        } else {
            let awaited = Arc::clone(&self.checked.awaited);
            let Ok(permit) = awaited.try_acquire_owned() else { return Ok(None) };
            let task = tokio::task::spawn_blocking(move || {
                let found = check(&extent);
                // Held to the end of the check, also when nobody waits for it any more.
                drop(permit);
                (extent, found)
            });
            let gone = |error| Error::internal("a check was abandoned").with_source(error);
            task.await.map_err(gone)?
        };
        match found {
            Checked::Good => {
                self.checked.remember(identity, self.clock.elapsed(), Found::Good);
                Ok(Some(local(extent)))
            }
            Checked::NotInMemory => {
                self.checked.remember(identity, self.clock.elapsed(), Found::InVain);
                Ok(None)
            }
            Checked::Bad(pages) => {
                self.denounce(handle, pages).await?;
                Ok(None)
            }
        }
    }

    /// Checks a large file on a thread that may block, unless one is being checked already. Bad
    /// pages are left to whoever reads them: a check takes a moment, and none waits for it.
    fn check_behind(&self, extent: Extent, identity: Identity) {
        // What can't be remembered need not be checked; a later open will do it.
        if !identity.settled {
            return;
        }
        let Ok(permit) = Arc::clone(&self.checked.behind).try_acquire_owned() else { return };
        let (checked, clock) = (Arc::clone(&self.checked), self.clock.clone());
        tokio::task::spawn_blocking(move || {
            let begun = clock.elapsed();
            let found = check(&extent);
            tracing::debug!(length = extent.range.end, ?found, "checked a local file behind");
            match found {
                Checked::Good => checked.remember(identity, begun, Found::Good),
                Checked::NotInMemory => {
                    checked.remember(identity, clock.elapsed(), Found::InVain);
                }
                Checked::Bad(_) => {}
            }
            drop(permit);
        });
    }

    /// Tells the worker of bad pages, which drops them before it answers.
    async fn denounce(&self, handle: &Handle, suspects: Vec<PageIndex>) -> Result<()> {
        let Some(first) = suspects.first() else { return Ok(()) };
        let start = first.start();
        let request = ReadRequest {
            path: handle.path().clone(),
            span: Span::Range(ByteRange::new(start, start + 1)),
            pinned: Some(handle.status().clone()),
            attributes: false,
            ahead: 0,
            suspects,
        };
        let worker = self.owner(handle.path())?;
        // The body is not wanted: the reader asks for the bytes it needs.
        self.bounded(worker.read(request)).await.map(drop)
    }
}

impl CheckedFiles {
    /// What is known of the file as it is, at `now` on the clock of the checks.
    fn recall(&self, identity: &Identity, now: Duration) -> Option<Found> {
        let known = self.lock().get(&identity.file).copied()?;
        let believed = match known.found {
            Found::Good => GOOD_FOR,
            Found::InVain => VAIN_FOR,
        };
        let holds =
            known.changed == identity.changed && now.saturating_sub(known.checked) < believed;
        holds.then_some(known.found)
    }

    fn remember(&self, identity: Identity, checked: Duration, found: Found) {
        if !identity.settled {
            return;
        }
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(identity.file, Known { changed: identity.changed, checked, found });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identity {
    /// `None` unless the extent is the whole of a regular file of that length.
    fn of(extent: &Extent, length: u64, now: UnixMillis) -> Result<Option<Self>> {
        let whole = extent.is_consistent()
            && extent.offset == 0
            && extent.range == ByteRange::new(0, length);
        let unreadable =
            |error| Error::unavailable("a local file could not be looked at").with_source(error);
        let facts = extent.file.metadata().map_err(unreadable)?;
        if !whole || !facts.is_file() || facts.len() != length {
            return Ok(None);
        }
        let changed = (facts.ctime(), facts.ctime_nsec());
        let millis = changed.0.saturating_mul(1000).saturating_add(changed.1 / 1_000_000);
        let millis = UnixMillis(u64::try_from(millis).unwrap_or(0));
        let settled = now.since(millis) > TICK;
        Ok(Some(Self { file: (facts.dev(), facts.ino()), changed, settled }))
    }
}

/// Compares every page with its checksum, as long as it is in memory. Blocks for that, and for
/// nothing else.
fn check(extent: &Extent) -> Checked {
    let mut buffer = vec![0; usize::try_from(STEP.min(extent.range.end)).expect("a small step")];
    let mut bad = Vec::new();
    let mut start = 0;
    while start < extent.range.end {
        let step = ByteRange::new(start, (start + STEP).min(extent.range.end));
        let bytes = &mut buffer[..usize::try_from(step.length()).expect("a small step")];
        if !read_from_memory(&extent.file, step.start, bytes) {
            return Checked::NotInMemory;
        }
        if let Verified::Bad(pages) = Run::of(extent, None).verify(step, bytes) {
            bad.extend(pages);
        }
        start = step.end;
    }
    if bad.is_empty() { Checked::Good } else { Checked::Bad(bad) }
}

/// Fills `bytes` without waiting for a disk; `false` when that can't be done.
fn read_from_memory(file: &File, offset: u64, bytes: &mut [u8]) -> bool {
    let mut filled = 0;
    while filled < bytes.len() {
        let mut slices = [IoSliceMut::new(&mut bytes[filled..])];
        match preadv2(file, &mut slices, offset + filled as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return false,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_in_vain_is_not_repeated_for_a_while() {
        let checked = CheckedFiles::default();
        let identity = Identity { file: (1, 2), changed: (3, 4), settled: true };
        let start = Duration::from_secs(1000);
        assert_eq!(checked.recall(&identity, start), None);
        checked.remember(identity, start, Found::InVain);
        let almost = start + VAIN_FOR - Duration::from_millis(1);
        assert_eq!(checked.recall(&identity, almost), Some(Found::InVain));
        assert_eq!(checked.recall(&identity, start + VAIN_FOR), None, "it may be in memory by now");
        let written = Identity { changed: (3, 5), ..identity };
        assert_eq!(checked.recall(&written, start), None, "another file by now");
        checked.remember(identity, start, Found::Good);
        assert_eq!(checked.recall(&identity, start + VAIN_FOR), Some(Found::Good));
        assert_eq!(checked.recall(&identity, start + GOOD_FOR), None);
    }
}
