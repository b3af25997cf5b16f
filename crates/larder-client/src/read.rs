// SPDX-License-Identifier: Apache-2.0
//! Reading for async callers: a head, then bytes as they come.
//!
//! Resident pages are read in pieces of at most one buffer, each only when the caller polls for
//! it, so a slow caller holds one buffer and no more. A page that fails its checksum is reported
//! to the worker, which drops it, and the rest is asked for again at the byte reached.

use std::sync::Arc;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{BoxStream, try_unfold},
};
use larder_cluster::wire::{
    body::{Body, Chunk},
    message::{ReadHead, ReadRequest},
    service::Service,
};
use larder_core::{
    ByteRange, Error, ErrorKind, Extent, Lease, PAGE_SIZE, PageIndex, Path, Result, Span, Status,
    page,
};

use crate::{
    Filesystem,
    buffer::{BUFFER_SIZE, BufferPool, SMALL_BUFFER_SIZE},
    extent::{Verified, load},
    filesystem::REPLY_WAIT_MAX,
};

/// How often a read is begun again because the object was overwritten under it.
const STALE_RETRIES_MAX: u32 = 3;
/// How often the rest of a read is asked for again because pages failed their check.
pub(crate) const CORRUPT_RETRIES_MAX: u32 = 3;

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Which bytes.
    pub span: Span,
    /// Only this version.
    pub pinned: Option<Status>,
    /// The caller needs attributes.
    pub attributes: bool,
}

/// A read under way.
pub struct Reading {
    /// What the bytes are. `range` is `None` when the span lies wholly behind the end.
    pub head: ReadHead,
    /// Exactly the bytes of `head.range`, or an error instead of the rest. Dropping it ends the
    /// read.
    pub body: BoxStream<'static, Result<Bytes>>,
}

impl Filesystem {
    /// Begins to read one version of a file; the first bytes are on their way when this returns.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unavailable` … as the store answered; `Stale` for a pinned version
    /// that is gone. An error later, inside the body, means the rest can't be had.
    pub async fn read(self: &Arc<Self>, path: &Path, options: ReadOptions) -> Result<Reading> {
        let worker = self.owner(path)?;
        let mut tries = 0;
        loop {
            match self.begin(&worker, path, &options).await {
                // Overwritten between its status and its first byte: the worker has forgotten
                // the old status, so the next try reads the new version from its start.
                Err(error)
                    if error.kind() == ErrorKind::Stale
                        && options.pinned.is_none()
                        && tries < STALE_RETRIES_MAX =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn begin(
        self: &Arc<Self>,
        worker: &Arc<dyn Service>,
        path: &Path,
        options: &ReadOptions,
    ) -> Result<Reading> {
        let request = ReadRequest {
            path: path.clone(),
            span: options.span,
            pinned: options.pinned.clone(),
            attributes: options.attributes,
            ahead: 0,
            suspects: Vec::new(),
        };
        let reply = self.bounded(worker.read(request)).await?;
        let range = reply.head.range.unwrap_or(ByteRange::new(0, 0));
        let mut source = Source {
            filesystem: Arc::clone(self),
            worker: Arc::clone(worker),
            path: path.clone(),
            status: reply.head.status.clone(),
            body: reply.body,
            resident: None,
            rest: range,
            corrupt_retries: 0,
        };
        let first = self.bounded(source.next()).await?;
        let rest = try_unfold(source, |mut source| async move {
            let bytes = source.next().await?;
            Ok(bytes.map(|bytes| (bytes, source)))
        });
        let first = futures::stream::iter(first.map(Ok));
        Ok(Reading { head: reply.head, body: first.chain(rest).boxed() })
    }
}

/// The state of a body: what is left and where it comes from.
struct Source {
    filesystem: Arc<Filesystem>,
    worker: Arc<dyn Service>,
    path: Path,
    status: Status,
    body: Body,
    /// The extent being read and the part of it that is left.
    resident: Option<(Extent, ByteRange)>,
    rest: ByteRange,
    corrupt_retries: u32,
}

impl Source {
    /// The next bytes, `None` behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.rest.is_empty() {
            if let Some((extent, part)) = self.resident.take() {
                match self.read_piece(extent, part).await? {
                    Some(bytes) => return self.take(bytes).map(Some),
                    None => continue,
                }
            }
            match next_chunk(&mut self.body).await? {
                Chunk::Bytes(streamed) => {
                    let bytes = match streamed.lease {
                        Some(lease) => Bytes::from_owner(Leased(streamed.bytes, lease)),
                        None => streamed.bytes,
                    };
                    return self.take(bytes).map(Some);
                }
                Chunk::Resident { extent, part } => self.resident = Some((extent, part)),
            }
        }
        Ok(None)
    }

    /// Counts bytes that go to the caller.
    fn take(&mut self, bytes: Bytes) -> Result<Bytes> {
        if bytes.len() as u64 > self.rest.length() {
            return Err(Error::internal("the worker sent more bytes than were asked for"));
        }
        self.rest.start += bytes.len() as u64;
        Ok(bytes)
    }

    /// Reads one buffer's worth of `part`; `None` when pages were bad and the rest was asked for
    /// again.
    async fn read_piece(&mut self, extent: Extent, part: ByteRange) -> Result<Option<Bytes>> {
        let aligned = part.start - part.start % PAGE_SIZE;
        let piece = ByteRange::new(part.start, part.end.min(aligned + self.piece_size()));
        let pages = page::align(piece, extent.range.end);
        let length = usize::try_from(pages.length()).expect("a piece is one buffer at most");
        let lease = lease(&self.filesystem, BufferPool::size_for(length) as u64).await?;
        let buffer = self.filesystem.buffers.take(length, lease);
        let (buffer, verdict) = load(&extent, pages, buffer).await?;
        if let Verified::Bad(suspects) = verdict {
            self.ask_again(suspects).await?;
            return Ok(None);
        }
        if piece.end < part.end {
            self.resident = Some((extent, ByteRange::new(piece.end, part.end)));
        }
        let from = usize::try_from(piece.start - pages.start).expect("within the buffer");
        let to = usize::try_from(piece.end - pages.start).expect("within the buffer");
        Ok(Some(buffer.freeze().slice(from..to)))
    }

    /// Four pages at once; one when half of the memory is taken, so that many slow readers share
    /// what is left.
    fn piece_size(&self) -> u64 {
        let budget = &self.filesystem.budget;
        let short = budget.used() > budget.total() / 2;
        if short { SMALL_BUFFER_SIZE as u64 } else { BUFFER_SIZE as u64 }
    }

    /// Reports bad pages and continues at the byte reached, in the same version.
    async fn ask_again(&mut self, suspects: Vec<PageIndex>) -> Result<()> {
        self.corrupt_retries += 1;
        if self.corrupt_retries > CORRUPT_RETRIES_MAX {
            let path = &self.path;
            return Err(Error::corrupt(format!("{path} fails its checksum again and again")));
        }
        let request = ReadRequest {
            path: self.path.clone(),
            span: Span::Range(self.rest),
            pinned: Some(self.status.clone()),
            attributes: false,
            ahead: 0,
            suspects,
        };
        self.body = self.filesystem.bounded(self.worker.read(request)).await?.body;
        Ok(())
    }
}

/// Memory for one buffer; waits while slow readers hold it all, with a bound.
async fn lease(filesystem: &Filesystem, bytes: u64) -> Result<Lease> {
    if let Some(lease) = filesystem.budget.try_acquire(bytes) {
        return Ok(lease);
    }
    tokio::select! {
        lease = filesystem.budget.acquire(bytes) => Ok(lease),
        () = filesystem.clock.sleep(REPLY_WAIT_MAX) => Err(Error::exhausted(
            "the memory budget is taken by slow readers; raise memory_budget or try again",
        )),
    }
}

/// Bytes that keep their lease.
struct Leased(Bytes, #[expect(dead_code, reason = "held for its drop")] Arc<larder_core::Lease>);

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The next chunk of a body that is known not to be at its end.
pub(crate) async fn next_chunk(body: &mut Body) -> Result<Chunk> {
    let chunk = body.next().await;
    let chunk =
        chunk.ok_or_else(|| Error::unavailable("the reply ended before its last byte"))??;
    if let Chunk::Resident { extent, part } = &chunk
        && !(extent.is_consistent() && extent.range.contains(*part) && !part.is_empty())
    {
        return Err(Error::internal("the worker sent an extent that does not fit its range"));
    }
    Ok(chunk)
}
