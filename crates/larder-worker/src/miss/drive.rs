// SPDX-License-Identifier: Apache-2.0
//! Driving a fetch: bytes from the store go to the readers as they come, and as whole pages to
//! the page store behind.
//!
//! A reader never waits for the disk, and what the page store has no room for is not kept. A job is
//! there to have it kept, so while nobody reads and the page store is behind it goes at the disk's
//! pace.
//!
//! A body that breaks is continued at the byte reached, in the same version, a few times; a request
//! that gets no answer is not repeated here, for the store's layers have done that. Memory is
//! leased before bytes are taken from the store.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use larder_core::{
    ByteRange, ContentId, Error, ErrorKind, FileId, PAGE_SIZE, Path, Result, Span, Version,
};
use larder_meta::Fact;
use larder_pages::{NewPage, NotKept, Piece, PutOutcome};
use larder_ufs::{
    priority::Priority,
    under_storage::{ByteStream, Condition, Content, ReadOutcome},
};
use tokio::runtime::Handle;

use super::{
    cost::Pace,
    fetch::{Attachment, Fetch, Run, Wanted},
    flights::{Gap, Joined},
    intake::{Intake, Pages},
    streams::Stream,
};
use crate::{Worker, mount::Mount, rules::Treatment};

/// How often in a row a body that breaks is continued without a page in between.
const RESUMES_MAX: u32 = 3;
/// A job waits so long for a disk that takes nothing, and then no more: its pages are not kept.
const DISK_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a fetch that waits because memory is short looks whether it still is.
const MEMORY_LOOK: Duration = Duration::from_millis(50);
/// The wait before the first continuation; doubles each time.
const RESUME_WAIT: Duration = Duration::from_millis(100);

/// Which version of which file a fetch brings.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) mount: Arc<Mount>,
    pub(crate) path: Path,
    pub(crate) version: Version,
}

impl Source {
    pub(crate) fn content_id(&self) -> ContentId {
        let file: FileId = self.mount.file_id(&self.path.key);
        ContentId::new(file, &self.version)
    }
}

impl Worker {
    /// Follows the fetch that brings the reader's page, starting one if there is none. `None`:
    /// the page is resident by now.
    pub(crate) fn follow(&self, source: &Source, gap: Gap) -> Option<Attachment> {
        let first = ByteRange::new(gap.position, gap.position + 1);
        let resident = || {
            let pieces = self.pages.look(gap.content, gap.length, first);
            matches!(pieces.first(), Some(Piece::Resident { .. }))
        };
        match self.flights.join_or_start(gap, resident) {
            Joined::Resident => None,
            Joined::Attached(attachment) => Some(attachment),
            Joined::Started(fetch, attachment) => {
                self.drive(source.clone(), fetch, None);
                Some(attachment)
            }
        }
    }

    /// Makes a fetch of a body that came with an opening, so that its bytes are kept and other
    /// readers find them. It goes on while the answer is held or somebody reads. `priority` is
    /// that of the body.
    pub(crate) fn adopt(
        &self,
        mount: &Arc<Mount>,
        path: &Path,
        content: Content,
        priority: Priority,
    ) -> Option<Attachment> {
        let Content { status, range, body } = content;
        let start = range.start.div_ceil(PAGE_SIZE) * PAGE_SIZE;
        let end = if range.end == status.length { range.end } else { floor(range.end) };
        if start >= end {
            return None;
        }
        let source =
            Source { mount: Arc::clone(mount), path: path.clone(), version: status.version };
        let id = source.content_id();
        let pages = ByteRange::new(start, end);
        let first = self.pages.look(id, status.length, ByteRange::new(start, start + 1));
        if matches!(first.first(), Some(Piece::Resident { .. })) {
            return None;
        }
        let (fetch, attachment) = self.flights.adopt((id, status.length), pages, priority)?;
        let skip = start - range.start;
        self.drive(source, fetch, Some(Body { stream: body, carry: Bytes::new(), skip }));
        Some(attachment)
    }

    /// Starts a fetch for a reader that will come to its first byte. `None`: another brings that,
    /// or it is resident by now.
    pub(crate) fn hold(&self, source: &Source, gap: Gap) -> Option<Attachment> {
        let first = ByteRange::new(gap.position, gap.position + 1);
        let resident = || {
            let pieces = self.pages.look(gap.content, gap.length, first);
            matches!(pieces.first(), Some(Piece::Resident { .. }))
        };
        let (fetch, attachment) = self.flights.hold(gap, resident)?;
        self.drive(source.clone(), fetch, None);
        Some(attachment)
    }

    fn drive(&self, source: Source, fetch: Arc<Fetch>, body: Option<Body>) {
        let worker = self.shared();
        // From here on, so that who looks next knows of it.
        let length = fetch.stop() - fetch.start;
        let stream = Stream::new(&source.mount.streams, length, self.clock.elapsed());
        let landing = Landing { worker: Arc::clone(&worker), fetch: Arc::clone(&fetch) };
        tokio::spawn(async move {
            let result = worker.pump((&source, &fetch), body, stream).await;
            if let Err(error) = &result
                && error.kind() == ErrorKind::Stale
            {
                worker.forget(&source);
            }
            fetch.finish(result);
            fetch.drained().await;
            drop(landing);
        });
    }

    /// Moves bytes until the last is here, nobody wants more, or the store gives up.
    async fn pump(
        &self,
        (source, fetch): (&Source, &Arc<Fetch>),
        mut body: Option<Body>,
        mut stream: Stream,
    ) -> Result<()> {
        let mut position = fetch.start;
        let mut resumes = 0;
        let mut intake = Intake::new(&self.budget);
        let mut pages = Pages::new(position, fetch.length);
        let mut pace = Pace::default();
        let mut disk_moves = true;
        loop {
            if disk_moves && fetch.can_wait_for_disk() && self.pages.is_behind() {
                pace.pause();
                stream.pause(self.clock.elapsed());
                intake.release();
                disk_moves = self.disk_catches_up(fetch).await;
            }
            let wanted = match fetch.wanted_now(self.memory_is_short()) {
                Some(wanted) => wanted,
                None => {
                    pace.pause();
                    stream.pause(self.clock.elapsed());
                    intake.release();
                    self.wanted(fetch).await
                }
            };
            let Wanted::To(end) = wanted else { return Ok(()) };
            let lease = intake.ready().await;
            stream.resume(self.clock.elapsed());
            let mut open = match body.take() {
                Some(open) => open,
                None => {
                    stream.begin(self.clock.elapsed());
                    self.connect((source, fetch), ByteRange::new(position, end)).await?
                }
            };
            match stream.next((&self.clock, length_of), open.arrived(end - position)).await {
                Ok(mut chunk) => {
                    let run = intake.take(&mut chunk, position, lease);
                    open.carry = chunk;
                    body = Some(open);
                    let (bytes, now) = (run.bytes.len() as u64, self.clock.elapsed());
                    pace.received(bytes, now, &source.mount.cost);
                    let delivered = self.deliver((source, fetch), &mut pages, run);
                    position = delivered.reached;
                    if delivered.pages > 0 {
                        resumes = 0;
                    }
                }
                Err(error) if resumes >= RESUMES_MAX || !worth_resuming(error.kind()) => {
                    return Err(error);
                }
                Err(error) => {
                    let path = &source.path;
                    tracing::debug!(%path, %error, position, "continuing a broken body");
                    pace.pause();
                    stream.pause(self.clock.elapsed());
                    self.clock.sleep(RESUME_WAIT * 2_u32.pow(resumes)).await;
                    resumes += 1;
                }
            }
        }
    }

    /// Waits until the next byte of a fetch is wanted, or nobody wants it any more. Nobody tells
    /// that memory is no longer short, so that is looked at from time to time.
    async fn wanted(&self, fetch: &Fetch) -> Wanted {
        loop {
            let short = self.memory_is_short();
            tokio::select! {
                wanted = fetch.wanted(short) => return wanted,
                () = self.clock.sleep(MEMORY_LOOK), if short => {}
            }
        }
    }

    /// Waits until the disk has caught up with a job; `false` when it takes nothing.
    async fn disk_catches_up(&self, fetch: &Fetch) -> bool {
        tokio::select! {
            () = fetch.disk_catches_up(|| !self.pages.is_behind()) => true,
            () = self.clock.sleep(DISK_WAIT_MAX) => false,
        }
    }

    /// Whether so much of the memory budget is taken that what is left is for readers that are
    /// here. They get by with a quarter less than what makes them copy small chunks.
    pub(crate) fn memory_is_short(&self) -> bool {
        self.budget.used() > self.budget.total() / 4
    }

    /// Asks the store for the rest of a fetch.
    async fn connect(&self, (source, fetch): (&Source, &Fetch), range: ByteRange) -> Result<Body> {
        let (span, position) = (Span::Range(range), range.start);
        let condition = Condition::Match(source.version.clone());
        let asked = self.clock.elapsed();
        let storage = source.mount.storage.with(&fetch.priority);
        let read = storage.read(&source.path.key, span, &condition).await;
        if read.is_ok() {
            source.mount.cost.waited(self.clock.elapsed().saturating_sub(asked));
        }
        let path = &source.path;
        match source.mount.note(read)? {
            ReadOutcome::Content(content) if content.status.version != source.version => {
                Err(Error::stale(format!("{path} was overwritten")))
            }
            ReadOutcome::Content(content) if content.status.length != fetch.length => {
                Err(Error::stale(format!("{path} has another length than it had")))
            }
            ReadOutcome::Content(content) if content.range.start != position => {
                let got = content.range;
                Err(Error::unavailable(format!(
                    "the store sent {got} of {path}, not what was asked"
                )))
            }
            ReadOutcome::Content(content) => {
                Ok(Body { stream: content.body, carry: Bytes::new(), skip: 0 })
            }
            ReadOutcome::Unchanged | ReadOutcome::OutOfRange(_) => {
                Err(Error::stale(format!("{path} no longer has the bytes it had")))
            }
        }
    }

    /// Bytes have come: readers first, then the pages that are whole by them to the disk.
    fn deliver(
        &self,
        (source, fetch): (&Source, &Arc<Fetch>),
        pages: &mut Pages,
        run: Run,
    ) -> Delivered {
        let mut run = fetch.publish(run);
        // Anew each time, for rules change while bytes come; also between this and the put.
        let (edition, editions) = (self.rules.edition(), self.rules.editions());
        let runtime = Handle::current();
        let treatment = self.rules.now().treatment(&source.path);
        let path = Arc::new(source.path.clone());
        let mut delivered = Delivered { reached: run.end(), pages: 0 };
        while !run.bytes.is_empty() {
            let Some(page) = pages.add(&mut run) else { break };
            delivered.pages += 1;
            let index = page.index;
            let Treatment::Keep(class) = treatment else {
                fetch.settle(index, PutOutcome::NotKept(NotKept::Unwanted));
                continue;
            };
            let page = NewPage {
                content: fetch.content,
                length: fetch.length,
                index,
                checksum: page.bytes.checksum(),
                class,
                bytes: page.bytes,
                hold: Some(Box::new(page.leases)),
            };
            let (settling, path) = (Arc::clone(fetch), Arc::clone(&path));
            let (worker, editions) = (Weak::clone(&self.this), editions.clone());
            let runtime = runtime.clone();
            self.pages.put(page, move |outcome| {
                if outcome != PutOutcome::Kept || editions.now() == edition {
                    settling.settle(index, outcome);
                    return;
                }
                // Not here: with its last owner the worker closes the page store, which waits for
                // its threads, and this may be one of them.
                runtime.spawn_blocking(move || {
                    if let Some(worker) = worker.upgrade() {
                        worker.keep_to_rules(&path, settling.content, edition);
                    }
                    settling.settle(index, outcome);
                });
            });
        }
        delivered
    }

    /// The store says that a version is no more: the next open must ask.
    fn forget(&self, source: &Source) {
        let known = self.known(&source.path);
        let same = known.is_some_and(
            |known| matches!(known.fact, Fact::Present(status) if status.version == source.version),
        );
        if same && let Err(error) = self.meta.remove_status(&source.path) {
            tracing::warn!(path = %source.path, %error, "a stale status could not be dropped");
        }
    }
}

/// A body being read: what is left of the chunk before, and bytes to throw away first.
struct Body {
    stream: ByteStream,
    carry: Bytes,
    skip: u64,
}

impl Body {
    /// The next bytes, at least one and at most `wanted`.
    async fn arrived(&mut self, wanted: u64) -> Result<Bytes> {
        while self.carry.is_empty() {
            let next = self.stream.next().await;
            self.carry =
                next.ok_or_else(|| Error::unavailable("the store's reply ended early"))??;
            let skipped = self.skip.min(self.carry.len() as u64);
            self.skip -= skipped;
            self.carry.advance(usize::try_from(skipped).expect("within a chunk"));
        }
        let mut chunk = std::mem::take(&mut self.carry);
        chunk.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        Ok(chunk)
    }
}

/// What became of bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivered {
    /// The fetch has come so far.
    reached: u64,
    /// So many pages are whole by them.
    pages: u32,
}

/// Takes the fetch off the table at the end, also when its task dies; then readers get an error.
struct Landing {
    worker: Arc<Worker>,
    fetch: Arc<Fetch>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.fetch.finish_if_open();
        self.worker.flights.remove(&self.fetch);
    }
}

fn length_of(chunk: &Result<Bytes>) -> u64 {
    chunk.as_ref().map_or(0, |chunk| chunk.len() as u64)
}

fn worth_resuming(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Corrupt)
}

fn floor(offset: u64) -> u64 {
    offset - offset % PAGE_SIZE
}
