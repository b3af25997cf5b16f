// SPDX-License-Identifier: Apache-2.0
//! Reading: opening, checking and the first bytes in one visit to a blocking thread; then chunk
//! by chunk with one chunk of read-ahead.
//!
//! The file's print (modification time, length, inode) is taken when it is opened and compared
//! behind each chunk, before the chunk is given away: a file that changed underneath yields
//! `Stale`, never a silent mixture. A replaced file (renamed over) is no change: the old content
//! stays readable through the open descriptor.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_core::{ByteRange, Clock, Error, Key, Result, Span};
use rustix::{
    buffer::spare_capacity,
    fs::{Advice, fadvise, fstat},
    io::{Errno, pread},
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{ByteStream, Condition, Content, ReadOutcome};

use super::{
    root::{File, Print, failed},
    store::{LocalStore, bounded},
};

/// Bytes read at once.
const CHUNK: u64 = 512 * 1024;

pub(super) async fn read(
    store: &LocalStore,
    key: &Key,
    span: Span,
    condition: &Condition,
) -> Result<ReadOutcome> {
    let (key, condition) = (key.clone(), condition.clone());
    let uri: Arc<str> = store.root.uri(key.as_str()).into();
    let what = Arc::clone(&uri);
    let opened = store.blocking(move |root| {
        let file = root.open_file(&key)?;
        open(file, span, &condition, what)
    });
    match opened.await? {
        Opened::Content { reader, range, first } => {
            let status = reader.print.status();
            let body = body(reader, range, first, store.clock.clone());
            Ok(ReadOutcome::Content(Content { status, range, body }))
        }
        Opened::Other(outcome) => Ok(outcome),
    }
}

enum Opened {
    Content { reader: Arc<Reader>, range: ByteRange, first: Bytes },
    Other(ReadOutcome),
}

fn open(file: File, span: Span, condition: &Condition, uri: Arc<str>) -> Result<Opened> {
    let status = file.status();
    match condition {
        Condition::Match(version) if *version != status.version => {
            return Err(Error::stale(format!("{uri} has a new version")));
        }
        Condition::NoneMatch(version) if *version == status.version => {
            return Ok(Opened::Other(ReadOutcome::Unchanged));
        }
        _ => {}
    }
    let Some(range) = span.resolve(status.length) else {
        return Ok(Opened::Other(ReadOutcome::OutOfRange(status)));
    };
    let reader = Reader { file: file.file, print: file.print, uri };
    if range.length() > CHUNK {
        // Advice only: a file system that does not take it reads as well.
        let _ = fadvise(&reader.file, range.start, None, Advice::Sequential);
    }
    let first = reader.chunk(range)?;
    Ok(Opened::Content { reader: Arc::new(reader), range, first })
}

/// One open file.
struct Reader {
    file: std::os::fd::OwnedFd,
    print: Print,
    uri: Arc<str>,
}

impl Reader {
    /// The first chunk of `range`.
    fn chunk(&self, range: ByteRange) -> Result<Bytes> {
        // At most CHUNK, which fits in a usize.
        let wanted = range.length().min(CHUNK) as usize;
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            let offset = range.start + bytes.len() as u64;
            match pread(&self.file, spare_capacity(&mut bytes), offset) {
                Ok(0) => return Err(self.changed()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno, &self.uri)),
            }
        }
        // The allocator may have given more room than was asked for.
        bytes.truncate(wanted);
        let stat = fstat(&self.file).map_err(|errno| failed(errno, &self.uri))?;
        if Print::of(&stat) != self.print {
            return Err(self.changed());
        }
        Ok(bytes.into())
    }

    fn changed(&self) -> Error {
        Error::stale(format!("{} changed while it was read", self.uri))
    }
}

/// The stream behind a content: what is at hand, and the next chunk on its way.
struct Flow {
    reader: Arc<Reader>,
    clock: Clock,
    /// What has not been asked for yet.
    rest: ByteRange,
    ahead: Option<JoinHandle<Result<Bytes>>>,
}

impl Flow {
    fn start(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        let (reader, rest) = (Arc::clone(&self.reader), self.rest);
        self.rest.start = (rest.start + CHUNK).min(rest.end);
        self.ahead = Some(spawn_blocking(move || reader.chunk(rest)));
    }
}

fn body(reader: Arc<Reader>, range: ByteRange, first: Bytes, clock: Clock) -> ByteStream {
    if first.is_empty() {
        return stream::empty().boxed();
    }
    let rest = ByteRange::new(range.start + first.len() as u64, range.end);
    if rest.is_empty() {
        return stream::iter([Ok(first)]).boxed();
    }
    let flow = Flow { reader, clock, rest, ahead: None };
    stream::unfold((flow, Some(first)), |(mut flow, first)| async move {
        if let Some(first) = first {
            flow.start();
            return Some((Ok(first), (flow, None)));
        }
        let chunk = bounded(&flow.clock, flow.ahead.take()?).await;
        if chunk.is_ok() {
            flow.start();
        }
        Some((chunk, (flow, None)))
    })
    .boxed()
}
