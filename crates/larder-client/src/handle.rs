// SPDX-License-Identifier: Apache-2.0
//! An open file: one version, read at any position by threads that may block.
//!
//! A handle is pinned to the version it was opened with. Its reads give bytes of that version or
//! `Stale`; they never mix two. Sequential reads are noticed (`prefetch`) and fetched
//! ahead, as far as memory allows.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

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
    window::WINDOW,
};

/// The worker hears of repeated reads after so many, or when it is asked for something.
const REPEATED_MAX: u64 = 1024;

/// An open file. Shared by all threads that read through it.
#[derive(Debug)]
pub struct Handle {
    path: Path,
    status: Status,
    content: ContentId,
    runtime: runtime::Handle,
    /// Held for a note, never over anything that waits.
    streams: Mutex<Streams>,
    /// Who hears of reads that nobody was asked for.
    worker: Arc<dyn Service>,
    /// Such reads, and their bytes, of which it has not heard.
    repeated: AtomicU64,
    repeated_bytes: AtomicU64,
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

    /// Notes a read and answers how far ahead a fetch for it may run.
    fn note(&self, range: ByteRange) -> u64 {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).note(range)
    }

    /// Counts a read that nobody was asked for.
    fn count_repeated(&self, bytes: u64) {
        self.repeated_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.repeated.fetch_add(1, Ordering::Relaxed) + 1 >= REPEATED_MAX {
            self.tell_repeated();
        }
    }

    fn tell_repeated(&self) {
        let reads = self.repeated.swap(0, Ordering::Relaxed);
        let bytes = self.repeated_bytes.swap(0, Ordering::Relaxed);
        if reads + bytes > 0 {
            self.worker.note(RepeatedReads { mount: self.path.mount.clone(), reads, bytes });
        }
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
            streams: Mutex::default(),
            worker: self.route.owner(file, SegmentIndex(0))?,
            repeated: AtomicU64::new(0),
            repeated_bytes: AtomicU64::new(0),
        })
    }

    /// Reads at `offset` into `into`; answers how many bytes there were, fewer than asked only
    /// at the end of the file. Blocks: for threads of a face's own, never for async tasks.
    ///
    /// # Errors
    /// `Stale` when the store no longer holds the handle's version and the bytes are not
    /// resident; else what the store answered. Nothing is half done on an error.
    pub fn read_at(&self, handle: &Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        handle.runtime.block_on(self.read_into(handle, offset, into))
    }

    /// The same for a caller that polls: ready at the first poll when all pages are resident.
    /// Each poll may wait for the disk, so it belongs on threads of a face's own too.
    ///
    /// # Errors
    /// As [`Filesystem::read_at`].
    pub async fn read_into(&self, handle: &Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        let asked = ByteRange::new(offset, offset.saturating_add(into.len() as u64));
        let Some(range) = Span::Range(asked).resolve(handle.status.length) else { return Ok(0) };
        let length = usize::try_from(range.length()).expect("no longer than the slice");
        let (ahead, into) = (handle.note(range), &mut into[..length]);
        if self.read_again(handle, range, into) {
            handle.count_repeated(range.length());
            return Ok(length);
        }
        handle.tell_repeated();
        self.fill(handle, range, ahead.min(self.ahead_allowed()), into).await?;
        Ok(length)
    }

    /// Reads where somebody has read just now, without asking the worker; `false` when that can't
    /// be done.
    fn read_again(&self, handle: &Handle, range: ByteRange, into: &mut [u8]) -> bool {
        let mut rest = into;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / WINDOW + 1) * WINDOW);
            let part = ByteRange::new(at, end);
            let (here, behind) = rest.split_at_mut((end - at) as usize);
            let window = self.windows.get(handle.content, at);
            if !window.is_some_and(|window| window.read(part, here)) {
                return false;
            }
            (at, rest) = (end, behind);
        }
        true
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

fn too_long() -> Error {
    Error::internal("the worker sent more bytes than were asked for")
}
