// SPDX-License-Identifier: Apache-2.0
//! Statuses and opening: which version of a file counts now.
//!
//! What is known and fresh is answered from the metadata store. Else the store is asked once for
//! all who ask at the same time, and in the cheapest way: an open that goes on to read fetches
//! the bytes with the same request (conditional, where the first page is resident), so a cold
//! read is one request and a revalidation moves no byte.

use std::{sync::Arc, time::Duration};

use larder_cluster::wire::message::{Outcome, PartReply, PartRequest, StatReply, StatRequest};
use larder_core::{
    ByteRange, Error, ErrorKind, Freshness, PAGE_SIZE, Path, Result, Span, Status, UnixMillis,
};
use larder_meta::{Fact, Known, Verdict, judge};
use larder_pages::Piece;
use larder_ufs::{
    priority::{Class, Priority},
    under_storage::{Condition, Content, ReadOutcome},
};

use crate::{
    Worker,
    miss::Attachment,
    mount::Mount,
    read::{PART, TAIL},
};

/// What an opening found.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) status: Status,
    /// When the store said so.
    pub(crate) checked: UnixMillis,
    pub(crate) outcome: Outcome,
    /// The fetch whose bytes came along; held until the reader follows it.
    pub(crate) fetch: Option<Arc<Attachment>>,
}

impl Opened {
    pub(crate) fn new(status: Status, checked: UnixMillis, outcome: Outcome) -> Self {
        Self { status, checked, outcome, fetch: None }
    }
}

/// Why a file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Attributes are needed.
    pub(crate) attributes: bool,
    /// These bytes will be read next; `None` when only the status is wanted.
    pub(crate) span: Option<Span>,
    /// Who waits for it.
    pub(crate) class: Class,
}

impl Wish {
    fn is_met_by(self, status: &Status) -> bool {
        !self.attributes || status.attributes.is_some()
    }
}

/// Where what was known may stand in for the store's answer, a reader waits for that no longer.
const BRIDGED_AFTER: Duration = Duration::from_secs(5);

/// A store that tells no attributes on a shared opening is asked again at most this often.
const OPENINGS_MAX: u32 = 3;

impl Worker {
    pub(crate) async fn answer_stat(&self, request: StatRequest) -> Result<StatReply> {
        let mount = self.mounts.get(&request.path.mount)?;
        let wish = Wish { attributes: request.attributes, span: None, class: Class::Foreground };
        let opened = self.open_file(&mount, &request.path, wish).await?;
        mount.counters.stat(opened.outcome);
        let age = self.clock.now().since(opened.checked);
        Ok(StatReply { status: opened.status, age, outcome: opened.outcome })
    }

    pub(crate) async fn answer_part(&self, request: PartRequest) -> Result<Option<PartReply>> {
        let mount = self.mounts.get(&request.path.mount)?;
        let storage = mount.storage.foreground();
        let told = mount.note(storage.part(&request.path.key, request.number).await)?;
        Ok(told.map(|(status, part)| PartReply { status, range: part.range, count: part.count }))
    }

    /// The version of a file that counts now, by the mount's freshness rule.
    pub(crate) async fn open_file(
        &self,
        mount: &Arc<Mount>,
        path: &Path,
        wish: Wish,
    ) -> Result<Opened> {
        if let Some(known) = self.known_fresh(mount, path, wish) {
            return known;
        }
        // `always` means that the store is asked after the caller asked, so nobody joins.
        if mount.record.freshness == Freshness::Always {
            let priority = Priority::new(wish.class);
            return self.shared().ask((Arc::clone(mount), path.clone()), wish, priority).await;
        }
        for _ in 0..OPENINGS_MAX {
            let (worker, mount, path) = (self.shared(), Arc::clone(mount), path.clone());
            let key = path.clone();
            let work = |priority| async move {
                // Another opening may have landed since this caller looked.
                match worker.known_fresh(&mount, &path, wish) {
                    Some(known) => known,
                    None => worker.ask((mount, path), wish, priority).await,
                }
            };
            let opened = self.openings.run((key, wish.class), work).await?;
            if wish.is_met_by(&opened.status) {
                return Ok(opened);
            }
        }
        Err(Error::internal(format!("the store tells no attributes of {path}")))
    }

    /// The answer without asking the store, where what is known is fresh and enough.
    fn known_fresh(&self, mount: &Mount, path: &Path, wish: Wish) -> Option<Result<Opened>> {
        let known = self.known(path)?;
        let (verdict, _age) = judge(&known, mount.record.freshness, self.clock.now());
        match (verdict, known.fact) {
            (Verdict::Fresh, Fact::Absent) => Some(Err(no_such_file(path))),
            (Verdict::Fresh, Fact::Present(status)) if wish.is_met_by(&status) => {
                Some(Ok(Opened::new(status, known.checked, Outcome::Hit)))
            }
            _ => None,
        }
    }

    /// What is known of a file. A metadata store that fails knows nothing.
    pub(crate) fn known(&self, path: &Path) -> Option<Known> {
        self.meta.status(path).unwrap_or_else(|error| {
            tracing::warn!(%path, %error, "the metadata store failed; asking the under storage");
            None
        })
    }

    /// Keeps what the store said at `checked`, unless something newer is known.
    pub(crate) fn learn(&self, path: &Path, fact: Fact, checked: UnixMillis) {
        let before = self.known(path);
        if before.as_ref().is_some_and(|before| before.checked > checked) {
            return;
        }
        self.drop_replaced(path, before, &fact);
        if let Err(error) = self.meta.put_status(path, Known { fact, checked }) {
            tracing::warn!(%path, %error, "a status could not be kept");
        }
    }

    /// Gives back the pages of a version that is no more.
    fn drop_replaced(&self, path: &Path, before: Option<Known>, now: &Fact) {
        let Some(Known { fact: Fact::Present(old), .. }) = before else { return };
        let is_same = |new: &Status| (&new.version, new.length) == (&old.version, old.length);
        if matches!(now, Fact::Present(new) if is_same(new)) {
            return;
        }
        let Ok(mount) = self.mounts.get(&path.mount) else { return };
        let content = mount.content_id(&path.key, &old.version);
        let pages = Arc::clone(&self.pages);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = pages.remove(content) {
                tracing::warn!(%content, %error, "pages of a replaced version stay until evicted");
            }
        });
    }

    /// Asks the store and learns from its answer.
    async fn ask(
        self: Arc<Self>,
        (mount, path): (Arc<Mount>, Path),
        wish: Wish,
        priority: Priority,
    ) -> Result<Opened> {
        let known = self.known(&path);
        let before = known.as_ref().and_then(|known| match &known.fact {
            Fact::Present(status) => Some(status.clone()),
            Fact::Absent => None,
        });
        let asked = self.clock.now();
        let question = async {
            match wish.span {
                None => mount.storage.with(&priority).stat(&path.key).await.map(Answer::Status),
                Some(span) => {
                    let question = Question { span, wish, before: before.as_ref() };
                    self.ask_for_bytes(&mount, &path, question, &priority).await
                }
            }
        };
        let bridged = known
            .as_ref()
            .filter(|_| before.is_some())
            .is_some_and(|known| mount.bridges(asked.since(known.checked)));
        let result = tokio::select! {
            biased;
            result = question => result,
            () = self.reader_waited(&priority, BRIDGED_AFTER), if bridged => {
                Err(Error::unavailable("the store gave no answer in time"))
            }
        };
        // Two lengths are no outage, so nothing bridges them.
        let result = match mount.note(result) {
            Ok(answer) => Ok(mount.note(self.agreed(&path, before.as_ref(), answer))?),
            Err(error) => Err(error),
        };
        match (result, before) {
            (Ok(Answer::Status(status)), _) => Ok(self.found(&path, status, asked)),
            (Ok(Answer::Content(content)), _) => {
                // The fetch first: who finds the status must find the bytes on their way.
                let status = content.status.clone();
                let fetch = self.adopt(&mount, &path, content, priority).map(Arc::new);
                Ok(Opened { fetch, ..self.found(&path, status, asked) })
            }
            (Ok(Answer::Unchanged), Some(status)) => {
                self.learn(&path, Fact::Present(status.clone()), asked);
                Ok(Opened::new(status, asked, Outcome::Revalidated))
            }
            (Ok(Answer::Unchanged), None) => {
                Err(Error::internal("the store confirmed a version nobody knew"))
            }
            (Err(error), before) => {
                self.asked_in_vain(&mount, &path, Failed { error, before, known, asked })
            }
        }
    }

    /// Waits until somebody has waited so long; a job does not count.
    async fn reader_waited(&self, priority: &Priority, time: Duration) {
        priority.raised().await;
        self.clock.sleep(time).await;
    }

    /// Refuses an answer that tells another length than was told before for the same version.
    /// One of the two is wrong, so what was known is forgotten, pages included.
    fn agreed(&self, path: &Path, before: Option<&Status>, answer: Answer) -> Result<Answer> {
        let told = match &answer {
            Answer::Status(status) => status,
            Answer::Content(content) => &content.status,
            Answer::Unchanged => return Ok(answer),
        };
        let Some(before) = before.filter(|b| b.version == told.version && b.length != told.length)
        else {
            return Ok(answer);
        };
        self.drop_replaced(path, self.known(path), &Fact::Absent);
        if let Err(error) = self.meta.remove_status(path) {
            tracing::warn!(%path, %error, "a doubtful status could not be dropped");
        }
        let (first, second) = (before.length, told.length);
        Err(Error::unavailable(format!(
            "the store tells two lengths for one version of {path}: {first} and {second}"
        )))
    }

    fn found(&self, path: &Path, status: Status, asked: UnixMillis) -> Opened {
        self.learn(path, Fact::Present(status.clone()), asked);
        Opened::new(status, asked, Outcome::Miss)
    }

    /// A read that brings the status with the bytes.
    async fn ask_for_bytes(
        &self,
        mount: &Mount,
        path: &Path,
        Question { span, wish, before }: Question<'_>,
        priority: &Priority,
    ) -> Result<Answer> {
        let storage = mount.storage.with(priority);
        let condition = match before {
            Some(status) if self.starts_resident(mount, path, status, span) => {
                if wish.attributes && status.attributes.is_none() {
                    return storage.stat(&path.key).await.map(Answer::Status);
                }
                Condition::NoneMatch(status.version.clone())
            }
            _ => Condition::None,
        };
        let tail = before.and_then(|status| {
            let content = mount.content_id(&path.key, &status.version);
            self.tail(content, status.length, span.resolve(status.length)?)
        });
        let span = tail.map_or(span, Span::Range);
        let asked = self.clock.elapsed();
        let span =
            if self.may_split(mount, wish.class) { first_part(widen(span)) } else { widen(span) };
        let outcome = storage.read(&path.key, span, &condition).await?;
        mount.cost.waited(self.clock.elapsed().saturating_sub(asked));
        Ok(match outcome {
            ReadOutcome::Content(content) => Answer::Content(content),
            ReadOutcome::Unchanged => Answer::Unchanged,
            ReadOutcome::OutOfRange(status) => Answer::Status(status),
        })
    }

    /// Whether the first byte of the span is here, so that bytes need not come along.
    fn starts_resident(&self, mount: &Mount, path: &Path, status: &Status, span: Span) -> bool {
        let Some(range) = span.resolve(status.length) else { return true };
        if range.is_empty() {
            return true;
        }
        let content = mount.content_id(&path.key, &status.version);
        let first = ByteRange::new(range.start, range.start + 1);
        let pieces = self.pages.look(content, status.length, first);
        matches!(pieces.first(), Some(Piece::Resident { .. }))
    }

    /// The store said no or did not answer: absence is learnt, an outage may be bridged.
    fn asked_in_vain(&self, mount: &Mount, path: &Path, failed: Failed) -> Result<Opened> {
        let Failed { error, before, known, asked } = failed;
        match error.kind() {
            ErrorKind::NotFound => {
                self.learn(path, Fact::Absent, asked);
                Err(error)
            }
            ErrorKind::Unavailable | ErrorKind::Exhausted => match (before, known) {
                (Some(status), Some(Known { checked, .. }))
                    if mount.bridges(self.clock.now().since(checked)) =>
                {
                    Ok(Opened::new(status, checked, Outcome::StaleIfError))
                }
                _ => Err(error),
            },
            _ => Err(error),
        }
    }
}

/// What an opening that brings bytes asks for, and what was known before it.
struct Question<'a> {
    span: Span,
    wish: Wish,
    before: Option<&'a Status>,
}

/// What the store answered to an opening.
enum Answer {
    Status(Status),
    Content(Content),
    Unchanged,
}

/// An opening that got no answer, and what was known before it.
struct Failed {
    error: Error,
    before: Option<Status>,
    known: Option<Known>,
    asked: UnixMillis,
}

impl Mount {
    /// Whether a status of this age may stand in while the store does not answer.
    pub(crate) fn bridges(&self, age: Duration) -> bool {
        let Some(grace) = self.record.stale_if_error else { return false };
        match self.record.freshness {
            Freshness::Immutable => true,
            Freshness::MaxAge(limit) => age <= limit.saturating_add(grace),
            Freshness::Always => age <= grace,
        }
    }
}

/// The span widened to whole pages, as far as that can be said before the length is known.
fn widen(span: Span) -> Span {
    let down = |offset: u64| offset - offset % PAGE_SIZE;
    match span {
        Span::All => Span::All,
        Span::From(start) if start < PAGE_SIZE => Span::All,
        Span::From(start) => Span::From(down(start)),
        Span::Range(range) => {
            let end = range.end.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE);
            Span::Range(ByteRange::new(down(range.start), end))
        }
        // One page more than asked, so that the page of the first byte comes whole; and as much as
        // a footer has, for who asks like this looks for one.
        Span::Last(count) => Span::Last(count.max(TAIL).saturating_add(PAGE_SIZE - 1)),
    }
}

/// The beginning of a long span, where what follows is brought by several requests at once.
fn first_part(span: Span) -> Span {
    let end_of = |start: u64| start.saturating_add(2 * PART);
    match span {
        Span::All => Span::Range(ByteRange::new(0, end_of(0))),
        Span::From(start) => Span::Range(ByteRange::new(start, end_of(start))),
        Span::Range(range) => {
            Span::Range(ByteRange::new(range.start, range.end.min(end_of(range.start))))
        }
        Span::Last(_) => span,
    }
}

fn no_such_file(path: &Path) -> Error {
    Error::not_found(format!("there is no {path}"))
}
