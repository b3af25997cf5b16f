// SPDX-License-Identifier: Apache-2.0
//! An open file: one version, read at any position by threads that may block.
//!
//! A handle is pinned to the version it was opened with. Its reads give bytes of that version or
//! `Stale`; they never mix two. Sequential reads are noticed (`prefetch`) and fetched
//! ahead, as far as memory allows.

use std::sync::{Mutex, PoisonError};

use larder_cluster::wire::{
    body::Chunk,
    message::{ReadRequest, StatRequest},
};
use larder_core::{ByteRange, Error, Extent, PAGE_SIZE, Path, Result, Span, Status, page};
use tokio::runtime;

use crate::{
    Filesystem,
    extent::{Verified, load_here},
    prefetch::Streams,
    read::{CORRUPT_RETRIES_MAX, next_chunk},
};

/// An open file. Shared by all threads that read through it.
#[derive(Debug)]
pub struct Handle {
    path: Path,
    status: Status,
    runtime: runtime::Handle,
    /// Held for a note, never over anything that waits.
    streams: Mutex<Streams>,
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
        Ok(Handle {
            path: path.clone(),
            status,
            runtime: runtime::Handle::current(),
            streams: Mutex::default(),
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
        let ahead = handle.note(range).min(self.ahead_allowed());
        self.fill(handle, range, ahead, &mut into[..length]).await?;
        Ok(length)
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
                match place(chunk, &mut into[done..])? {
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
}

enum Placed {
    Bytes(usize),
    Corrupt(Vec<larder_core::PageIndex>),
}

/// Puts a chunk at the start of `into`.
fn place(chunk: Chunk, into: &mut [u8]) -> Result<Placed> {
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
            Ok(match read_part(&extent, part, target) {
                Verified::Good => Placed::Bytes(count),
                Verified::Bad(pages) => Placed::Corrupt(pages),
            })
        }
    }
}

/// Reads `part` of an extent: straight into place when it is whole pages, else through a buffer
/// for the pages that are cut, since a checksum covers a whole page.
fn read_part(extent: &Extent, part: ByteRange, into: &mut [u8]) -> Verified {
    let whole = page::align(part, extent.range.end);
    if whole == part {
        return load_here(extent, part, into);
    }
    let first_cut = ByteRange::new(part.start, part.end.min(next_page(part.start)));
    let (head, rest) = into.split_at_mut(slice_length(first_cut));
    if !first_cut.start.is_multiple_of(PAGE_SIZE) || first_cut.end == part.end {
        if let bad @ Verified::Bad(_) = read_cut(extent, first_cut, head) {
            return bad;
        }
        let tail = ByteRange::new(first_cut.end, part.end);
        return if tail.is_empty() { Verified::Good } else { read_part(extent, tail, rest) };
    }
    let last_start = part.end - part.end % PAGE_SIZE;
    let (pages, cut) = into.split_at_mut(slice_length(ByteRange::new(part.start, last_start)));
    if let bad @ Verified::Bad(_) = load_here(extent, ByteRange::new(part.start, last_start), pages)
    {
        return bad;
    }
    read_cut(extent, ByteRange::new(last_start, part.end), cut)
}

/// Reads a part of one page through a page-sized buffer.
fn read_cut(extent: &Extent, part: ByteRange, into: &mut [u8]) -> Verified {
    let whole = page::align(part, extent.range.end);
    let mut buffer = vec![0; slice_length(whole)];
    let verdict = load_here(extent, whole, &mut buffer);
    let from = slice_length(ByteRange::new(whole.start, part.start));
    into.copy_from_slice(&buffer[from..from + into.len()]);
    verdict
}

fn next_page(offset: u64) -> u64 {
    offset - offset % PAGE_SIZE + PAGE_SIZE
}

fn slice_length(range: ByteRange) -> usize {
    usize::try_from(range.length()).expect("chunks fit in memory")
}

fn too_long() -> Error {
    Error::internal("the worker sent more bytes than were asked for")
}
