// SPDX-License-Identifier: Apache-2.0
//! Reads: which version, what is resident, and the body that walks over both.
//!
//! The body looks at one segment at a time and holds nothing between two polls but its place: a
//! resident run goes out as an extent, a gap attaches to a fetch and goes out as its bytes come.
//! Where one stream of the store is the limit, others bring what comes later (`spread`). Who begins
//! with the end of a file gets a footer's worth of it (`tail`).

mod spread;
mod tail;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream::try_unfold};
use larder_cluster::wire::{
    body::{Body, Chunk, StreamedBytes},
    message::{Outcome, ReadHead, ReadReply, ReadRequest, RepeatedReads},
};
use larder_core::{ByteRange, ContentId, Error, Lease, Path, Result, SEGMENT_SIZE, Status, page};
use larder_pages::{Access, Piece};
use larder_ufs::priority::Class;

use crate::{
    Worker,
    miss::{Attachment, Gap, Joining, More, Source, Step, Stretch},
    mount::Mount,
    status::{Opened, Wish},
};

pub(crate) use self::spread::PART;
use self::spread::{Fetched, Spread};
pub(crate) use self::tail::TAIL;

impl Worker {
    pub(crate) async fn answer_read(&self, request: ReadRequest) -> Result<ReadReply> {
        let mount = self.mounts.get(&request.path.mount)?;
        let opened = match &request.pinned {
            Some(status) => self.pinned(&request.path, status),
            None => {
                let wish = Wish {
                    attributes: request.attributes,
                    span: Some(request.span),
                    class: Class::Foreground,
                };
                self.open_file(&mount, &request.path, wish).await?
            }
        };
        if !request.suspects.is_empty() {
            self.drop_bad_pages(&mount, &request, &opened.status).await?;
        }
        let age = self.clock.now().since(opened.checked);
        let range = request.span.resolve(opened.status.length);
        let rest = range.unwrap_or(ByteRange::new(0, 0));
        let mut walk = self.walk(&mount, &request.path, &opened.status, rest);
        walk.ahead = request.ahead;
        walk.begun_by(opened.fetch);
        let outcome = walk.outcome(opened.outcome);
        mount.counters.read(outcome);
        let head = ReadHead { status: opened.status, age, range, outcome };
        Ok(ReadReply { head, body: walk.into_body() })
    }

    /// Reads of resident pages that a client did without asking, for it had asked for the same
    /// pages within a second. The advisor does not hear of them: no cache of whatever size would
    /// have missed them.
    pub(crate) fn count_repeated(&self, repeated: &RepeatedReads) {
        // A mount that is gone counts no more.
        let Ok(mount) = self.mounts.get(&repeated.mount) else { return };
        mount.counters.hits(repeated.reads);
        mount.counters.from_cache.inc_by(repeated.bytes);
    }

    /// A handle's version: as old as what is known of it, if that is the same version.
    fn pinned(&self, path: &Path, status: &Status) -> Opened {
        let now = self.clock.now();
        let checked = self.known(path).map_or(now, |known| known.checked);
        Opened::new(status.clone(), checked, Outcome::Hit)
    }

    async fn drop_bad_pages(
        &self,
        mount: &Mount,
        request: &ReadRequest,
        status: &Status,
    ) -> Result<()> {
        let content = mount.content_id(&request.path.key, &status.version);
        let (pages, suspects) = (Arc::clone(&self.pages), request.suspects.clone());
        let length = status.length;
        let task = tokio::task::spawn_blocking(move || pages.verify(content, length, &suspects));
        let dropped = task
            .await
            .map_err(|error| Error::internal("a check was abandoned").with_source(error))??;
        tracing::warn!(path = %request.path, dropped, "pages failed their checksum");
        Ok(())
    }

    /// A walk over `range` of one version.
    pub(crate) fn walk(
        &self,
        mount: &Arc<Mount>,
        path: &Path,
        status: &Status,
        range: ByteRange,
    ) -> Walk {
        let source = Source {
            mount: Arc::clone(mount),
            path: path.clone(),
            version: status.version.clone(),
        };
        Walk {
            worker: self.shared(),
            content: source.content_id(),
            source,
            length: status.length,
            rest: range,
            ahead: 0,
            pieces: VecDeque::new(),
            attached: None,
            elsewhere: false,
            noted_to: 0,
            opening: None,
            fetched: Fetched::default(),
            from_store: 0,
            spread: Spread::default(),
            purpose: Purpose::Read,
        }
    }
}

/// What a walk is for: only what readers get is a gain of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody reads the bytes.
    Read,
    /// The bytes are to become resident.
    Load,
}

impl Purpose {
    /// Whose requests go first.
    fn class(self) -> Class {
        match self {
            Self::Read => Class::Foreground,
            Self::Load => Class::Bulk,
        }
    }
}

/// A place in a file and the way to its next bytes.
pub(crate) struct Walk {
    worker: Arc<Worker>,
    source: Source,
    pub(crate) content: ContentId,
    length: u64,
    rest: ByteRange,
    pub(crate) ahead: u64,
    /// Up to here the advisor knows of the read.
    noted_to: u64,
    /// Resident runs found and not yet given, the first starting at `rest.start`.
    pieces: VecDeque<Piece>,
    /// The fetch being followed; kept while resident pages are read in between, for a fetch that
    /// nobody follows ends.
    attached: Option<Attachment>,
    /// The next bytes are in the page store, not in the fetch.
    elsewhere: bool,
    /// The fetch that the opening began, held until the first look so that it goes on.
    opening: Option<Arc<Attachment>>,
    fetched: Fetched,
    /// Bytes given so far that came from the store.
    pub(crate) from_store: u64,
    /// What comes later and is on its way for this walk.
    spread: Spread,
    purpose: Purpose,
}

impl Walk {
    /// Nobody reads: the bytes are to become resident, which is no gain of the cache.
    pub(crate) fn only_loads(&mut self) {
        self.purpose = Purpose::Load;
    }

    /// The opening has begun a fetch of what is to be walked over, or of its beginning.
    pub(crate) fn begun_by(&mut self, opening: Option<Arc<Attachment>>) {
        if let Some(opening) = &opening {
            self.fetched.add(opening.range(), self.rest.start);
        }
        self.opening = opening;
    }

    /// What the head of the reply says: judged by the first segment, and by the whole where the
    /// whole is resident.
    fn outcome(&mut self, opened: Outcome) -> Outcome {
        if opened == Outcome::Miss || self.rest.is_empty() {
            return opened;
        }
        self.look();
        let starts_here = matches!(self.pieces.front(), Some(Piece::Resident { .. }));
        let all_here = self.pieces.iter().all(|piece| matches!(piece, Piece::Resident { .. }))
            && (self.rest.end <= self.segment_end() || {
                let presence = self.worker.pages.presence(self.content, self.length);
                presence.bytes == self.length
            });
        match (all_here, starts_here) {
            (true, _) => opened,
            (false, true) => Outcome::Part,
            (false, false) => Outcome::Miss,
        }
    }

    fn into_body(self) -> Body {
        try_unfold(self, |mut walk| async move {
            let chunk = walk.next().await?;
            Ok(chunk.map(|chunk| (chunk, walk)))
        })
        .boxed()
    }

    /// The next chunk, `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Chunk>> {
        while !self.rest.is_empty() {
            self.note();
            self.spread();
            if let Some(attached) = self.attached.as_ref().filter(|_| !self.elsewhere) {
                self.spread.comes_to(self.rest.start, attached);
                match attached.step(self.rest.start).await {
                    Step::Bytes(bytes, lease) => return Ok(Some(self.streamed(bytes, lease))),
                    Step::Failed(error) => return Err(error),
                    Step::Elsewhere => self.elsewhere = true,
                }
            }
            if let Some(part) = self.spread.part_at(self.rest.start) {
                self.attached = Some(part);
                self.elsewhere = false;
                self.pieces.clear();
                continue;
            }
            if self.pieces.is_empty() {
                self.look();
            }
            match self.pieces.pop_front() {
                Some(Piece::Resident { extent, part }) => {
                    self.rest.start = part.end;
                    self.count_resident(part);
                    return Ok(Some(Chunk::Resident { extent, part }));
                }
                Some(Piece::Gap(gap)) => {
                    self.pieces.clear();
                    let gap = self.gap(gap);
                    self.fetched.add(gap.range, self.rest.start);
                    if let Some(attached) = self.worker.follow(&self.source, gap) {
                        self.attached = Some(attached);
                        self.elsewhere = false;
                        self.opening = None;
                    }
                }
                None => return Err(Error::internal("the page store left a hole in its answer")),
            }
        }
        Ok(None)
    }

    /// Tells the advisor of each segment that a reader comes to.
    fn note(&mut self) {
        if self.rest.start < self.noted_to || self.purpose == Purpose::Load {
            return;
        }
        self.noted_to = self.rest.end.min(self.segment_end());
        // No cache of whatever size would have it.
        if self.worker.rules.pass(&self.source.path) {
            return;
        }
        let range = ByteRange::new(self.rest.start, self.noted_to);
        let access = Access::new(self.content, self.length, range, self.ahead);
        self.worker.advisor.read(&self.source.mount, &access);
    }

    fn count_resident(&mut self, part: ByteRange) {
        let fetched = self.fetched.of(part);
        self.count_fetched(fetched);
        if self.purpose == Purpose::Read {
            self.source.mount.counters.from_cache.inc_by(part.length() - fetched);
        }
    }

    fn count_fetched(&mut self, bytes: u64) {
        self.from_store += bytes;
        let counters = &self.source.mount.counters;
        match self.purpose {
            Purpose::Read => counters.from_store.inc_by(bytes),
            Purpose::Load => counters.loaded.inc_by(bytes),
        };
    }

    /// What of these bytes was asked for.
    fn streamed(&mut self, mut bytes: Bytes, lease: Arc<Lease>) -> Chunk {
        let rest = usize::try_from(self.rest.length()).unwrap_or(usize::MAX);
        bytes.truncate(rest);
        self.rest.start += bytes.len() as u64;
        self.count_fetched(bytes.len() as u64);
        Chunk::Bytes(StreamedBytes { bytes, lease: Some(lease) })
    }

    /// Asks the page store about the rest of the present segment.
    fn look(&mut self) {
        let end = self.rest.end.min(self.segment_end());
        let range = ByteRange::new(self.rest.start, end);
        self.pieces = self.worker.pages.get(self.content, self.length, range).into();
    }

    fn segment_end(&self) -> u64 {
        (self.rest.start / SEGMENT_SIZE + 1) * SEGMENT_SIZE
    }

    /// How far ahead of what is asked a fetch may run. What is not kept is not fetched ahead:
    /// nobody would find it.
    fn may_run_ahead(&self) -> u64 {
        if self.ahead > 0 && self.worker.rules.pass(&self.source.path) { 0 } else { self.ahead }
    }

    /// Where what is wanted ends.
    fn wanted_end(&self) -> u64 {
        self.rest.end.saturating_add(self.may_run_ahead()).min(self.length)
    }

    /// What to fetch for a gap: up to the end of what is wanted, or of the first part of it where
    /// that is brought in parts.
    fn gap(&self, first: ByteRange) -> Gap {
        if let Some(tail) = self.worker.tail(self.content, self.length, self.rest)
            && tail.contains(first)
        {
            let range = page::align(tail, self.length);
            return self.fetch_of(range, first.start);
        }
        let wanted_end = self.wanted_end();
        let part_end = self.first_part_end(first.start, wanted_end);
        self.gap_up_to(first, part_end.unwrap_or(wanted_end))
    }

    /// What to fetch for a gap, over segment borders and over resident pages where that is worth
    /// it, in whole pages, up to `end`.
    fn gap_up_to(&self, first: ByteRange, end: u64) -> Gap {
        let wanted_end = self.wanted_end().min(end);
        let first = ByteRange::new(first.start, first.end.min(wanted_end));
        let wanted = wanted_end.saturating_sub(first.start);
        let mount = &self.source.mount;
        let request_bytes = mount.cost.request_bytes(mount.record.prices.as_ref());
        let mut joining = Joining::new(first, wanted, request_bytes);
        let mut more = More::Wanted;
        while more == More::Wanted && joining.reached() < wanted_end {
            let start = joining.reached();
            let segment_end = (start / SEGMENT_SIZE + 1) * SEGMENT_SIZE;
            let next = ByteRange::new(start, wanted_end.min(segment_end));
            more = More::Done;
            for piece in self.worker.pages.look(self.content, self.length, next) {
                more = joining.add(match piece {
                    Piece::Gap(gap) => Stretch::Gap(gap),
                    Piece::Resident { part, .. } => Stretch::Resident(part),
                });
                if more == More::Done {
                    break;
                }
            }
        }
        self.fetch_of(page::align(joining.range(), self.length), first.start)
    }

    /// A fetch of whole pages for this walk, which is or will be at `position`.
    fn fetch_of(&self, range: ByteRange, position: u64) -> Gap {
        let ahead_to = if self.may_run_ahead() > 0 { range.end } else { 0 };
        let (content, length, class) = (self.content, self.length, self.purpose.class());
        let far = self.source.mount.cost.bytes_in_a_wait();
        Gap { content, length, range, position, ahead_to, class, far }
    }
}
