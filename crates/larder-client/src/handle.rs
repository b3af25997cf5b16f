// SPDX-License-Identifier: Apache-2.0
//! An open file: one version, read at any position by threads that may block.
//!
//! A handle is pinned to the version it was opened with. Its reads give bytes of that version or
//! `Stale`; they never mix two. Sequential reads are noticed (`prefetch`) and fetched
//! ahead, as far as memory allows.

use std::{
    mem::take,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::FutureExt;
use larder_cluster::wire::{
    body::Chunk,
    message::{ReadRequest, RepeatedReads, StatRequest},
    service::Service,
};
use larder_core::{ByteRange, ContentId, Error, Path, Result, SegmentIndex, Span, Status};
use tokio::runtime;

use crate::{
    Filesystem,
    extent::Verified,
    part::Run,
    prefetch::Streams,
    read::{CORRUPT_RETRIES_MAX, next_chunk},
    window::{WINDOW, Window},
};

/// The worker hears of repeated reads after so many, or when it is asked for something.
const REPEATED_MAX: u64 = 1024;
/// A handle remembers so many windows, of 1 GiB in all.
const WINDOWS_MAX: u64 = 256;

/// An open file. Shared by all threads that read through it.
#[derive(Debug)]
pub struct Handle {
    path: Path,
    status: Status,
    content: ContentId,
    runtime: runtime::Handle,
    /// Who hears of reads that nobody was asked for.
    worker: Arc<dyn Service>,
    /// Held for a note, never over anything that waits.
    reads: Mutex<Reads>,
}

/// What a handle remembers of its reads.
#[derive(Debug, Default)]
struct Reads {
    streams: Streams,
    /// The windows last read in, each at its number modulo how many places there are. Who keeps
    /// them is [`crate::window::Windows`].
    windows: Vec<Weak<Window>>,
    /// Reads that nobody was asked for and of which the worker has not heard, and their bytes.
    repeated: u64,
    repeated_bytes: u64,
}

impl Reads {
    fn window(&self, position: u64) -> Option<Arc<Window>> {
        let places = self.windows.len().max(1) as u64;
        self.windows.get((position / WINDOW % places) as usize)?.upgrade()
    }
}

impl Handle {
    /// The status of the version this handle reads.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes there are of `length` at `offset`.
    fn resolve(&self, offset: u64, length: usize) -> Option<ByteRange> {
        let asked = ByteRange::new(offset, offset.saturating_add(length as u64));
        Span::Range(asked).resolve(self.status.length)
    }

    /// Notes a read; answers how far ahead a fetch for it may run, and the window that lies at its
    /// start, if the handle has that.
    fn note(&self, range: ByteRange) -> (u64, Option<Arc<Window>>) {
        let mut reads = self.reads();
        (reads.streams.note(range), reads.window(range.start))
    }

    /// Remembers a window for the next read there.
    fn remember(&self, window: &Arc<Window>) {
        let mut reads = self.reads();
        if reads.windows.is_empty() {
            let all = self.status.length.div_ceil(WINDOW).clamp(1, WINDOWS_MAX);
            reads.windows.resize_with(usize::try_from(all).unwrap_or(1), Weak::new);
        }
        let places = reads.windows.len() as u64;
        reads.windows[(window.number() % places) as usize] = Arc::downgrade(window);
    }

    /// Counts a read that nobody was asked for.
    fn count_repeated(&self, bytes: u64) {
        let due = {
            let mut reads = self.reads();
            reads.repeated += 1;
            reads.repeated_bytes += bytes;
            reads.repeated >= REPEATED_MAX
        };
        if due {
            self.tell_repeated();
        }
    }

    fn tell_repeated(&self) {
        let (reads, bytes) = {
            let mut reads = self.reads();
            (take(&mut reads.repeated), take(&mut reads.repeated_bytes))
        };
        if reads > 0 {
            self.worker.note(RepeatedReads { mount: self.path.mount.clone(), reads, bytes });
        }
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tell_repeated();
    }
}

impl Filesystem {
    /// Opens a file by the mount's freshness rule. Must run inside a Tokio runtime, which the
    /// handle's reads will use.
    ///
    /// # Errors
    /// As [`Filesystem::stat`].
    pub async fn open(&self, path: &Path) -> Result<Handle> {
        let request = StatRequest { path: path.clone(), attributes: false };
        let status = self.stat(request).await?.status;
        let file = self.file_id(path)?;
        Ok(Handle {
            path: path.clone(),
            content: ContentId::new(file, &status.version),
            status,
            runtime: runtime::Handle::current(),
            worker: self.route.owner(file, SegmentIndex(0))?,
            reads: Mutex::default(),
        })
    }

    /// Reads at `offset` into `into`; answers how many bytes there were, fewer than asked only
    /// at the end of the file. Blocks: for threads of a face's own, never for async tasks.
    ///
    /// # Errors
    /// `Stale` when the store no longer holds the handle's version and the bytes are not
    /// resident; else what the store answered. Nothing is half done on an error.
    pub fn read_at(&self, handle: &Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        let Some(range) = handle.resolve(offset, into.len()) else { return Ok(0) };
        let into = &mut into[..slice_length(range)];
        let Some(ahead) = self.read_again(handle, range, into) else { return Ok(into.len()) };
        // Resident pages are ready at the first poll, and need no thread to be parked.
        let entered = handle.runtime.enter();
        let mut rest = pin!(self.read_anew(handle, range, ahead, into));
        let first = rest.as_mut().now_or_never();
        drop(entered);
        first.unwrap_or_else(|| handle.runtime.block_on(rest))
    }

    /// The same for a caller that polls: ready at the first poll when all pages are resident.
    /// Each poll may wait for the disk, so it belongs on threads of a face's own too.
    ///
    /// # Errors
    /// As [`Filesystem::read_at`].
    pub async fn read_into(&self, handle: &Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        let Some(range) = handle.resolve(offset, into.len()) else { return Ok(0) };
        let into = &mut into[..slice_length(range)];
        match self.read_again(handle, range, into) {
            Some(ahead) => self.read_anew(handle, range, ahead, into).await,
            None => Ok(into.len()),
        }
    }

    /// Reads where somebody has read just now, without asking the worker. When that can't be done
    /// answers how far ahead a fetch may run.
    fn read_again(&self, handle: &Handle, range: ByteRange, into: &mut [u8]) -> Option<u64> {
        let (ahead, window) = handle.note(range);
        if window.is_some_and(|window| window.read(range, into))
            || self.read_windows(handle, range, into)
        {
            handle.count_repeated(range.length());
            return None;
        }
        Some(ahead)
    }

    /// Reads through the windows that other handles left.
    fn read_windows(&self, handle: &Handle, range: ByteRange, into: &mut [u8]) -> bool {
        let (mut at, mut rest) = (range.start, into);
        while at < range.end {
            let end = range.end.min((at / WINDOW + 1) * WINDOW);
            let (here, behind) = rest.split_at_mut(slice_length(ByteRange::new(at, end)));
            let Some(window) = self.windows.get(handle.content, at) else { return false };
            if !window.read(ByteRange::new(at, end), here) {
                return false;
            }
            handle.remember(&window);
            (at, rest) = (end, behind);
        }
        true
    }

    async fn read_anew(
        &self,
        handle: &Handle,
        range: ByteRange,
        ahead: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        handle.tell_repeated();
        self.fill(handle, range, ahead.min(self.ahead_allowed()), into).await?;
        Ok(into.len())
    }

    /// Nothing is fetched ahead while half of the memory is taken.
    fn ahead_allowed(&self) -> u64 {
        let (used, total) = (self.budget.used(), self.budget.total());
        if used > total / 2 { 0 } else { total / 4 }
    }

    async fn fill(
        &self,
        handle: &Handle,
        range: ByteRange,
        ahead: u64,
        into: &mut [u8],
    ) -> Result<()> {
        let worker = self.owner(&handle.path)?;
        let mut position = range.start;
        let mut suspects = Vec::new();
        for _ in 0..=CORRUPT_RETRIES_MAX {
            let request = ReadRequest {
                path: handle.path.clone(),
                span: Span::Range(ByteRange::new(position, range.end)),
                pinned: Some(handle.status.clone()),
                attributes: false,
                ahead,
                suspects: std::mem::take(&mut suspects),
            };
            let mut body = self.bounded(worker.read(request)).await?.body;
            while position < range.end {
                let chunk = self.bounded(next_chunk(&mut body)).await?;
                let done = usize::try_from(position - range.start).expect("within the slice");
                match self.place(handle, chunk, &mut into[done..])? {
                    Placed::Bytes(count) => position += count as u64,
                    Placed::Corrupt(pages) => {
                        suspects = pages;
                        break;
                    }
                }
            }
            if position >= range.end {
                return Ok(());
            }
        }
        Err(Error::corrupt(format!("{} fails its checksum again and again", handle.path)))
    }

    /// Puts a chunk at the start of `into`.
    fn place(&self, handle: &Handle, chunk: Chunk, into: &mut [u8]) -> Result<Placed> {
        match chunk {
            Chunk::Bytes(streamed) => {
                let count = streamed.bytes.len();
                let target = into.get_mut(..count).ok_or_else(too_long)?;
                target.copy_from_slice(&streamed.bytes);
                Ok(Placed::Bytes(count))
            }
            Chunk::Resident { extent, part } => {
                let count = usize::try_from(part.length()).expect("chunks fit in memory");
                let target = into.get_mut(..count).ok_or_else(too_long)?;
                let window =
                    self.windows.keep((handle.content, handle.status.length), &extent, part);
                window.iter().for_each(|window| handle.remember(window));
                let blocks = window.as_ref().map(|window| &*window.blocks);
                Ok(match Run::of(&extent, blocks).read(part, target) {
                    Verified::Good => Placed::Bytes(count),
                    Verified::Bad(pages) => Placed::Corrupt(pages),
                })
            }
        }
    }
}

enum Placed {
    Bytes(usize),
    Corrupt(Vec<larder_core::PageIndex>),
}

fn slice_length(range: ByteRange) -> usize {
    usize::try_from(range.length()).expect("no longer than a slice in memory")
}

fn too_long() -> Error {
    Error::internal("the worker sent more bytes than were asked for")
}
