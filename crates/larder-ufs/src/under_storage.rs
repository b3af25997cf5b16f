// SPDX-License-Identifier: Apache-2.0
//! The trait every under storage implements, with the contract of each method in words.
//!
//! Keys are relative to the mount's prefix and raw: an adapter maps them to the store's names
//! without normalising anything, and answers `NotFound` for (reads of) names its store can't
//! hold. Every wait inside an adapter is bounded. Error kinds mean what
//! [`larder_core::ErrorKind`] says: `Stale` when a version condition did not hold, `Denied` for
//! missing rights, `Exhausted` for throttling (429, 503, with the wait the store asked for),
//! `Unavailable` for what may work later (connection refused, time-out, 500, 502, 504).

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use larder_core::{Attributes, ByteRange, Key, Result, Span, Status, Version};

/// Body bytes as they arrive. A stream that ends early yields an error, never a silent end; a
/// stream never yields more than was promised; dropping it abandons the transfer at once.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// What must hold for a read to give bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The content is still this version; else the read fails with `Stale`.
    Match(Version),
    /// The content is no longer this version; else the answer is [`ReadOutcome::Unchanged`].
    NoneMatch(Version),
}

/// The answer to a read.
pub enum ReadOutcome {
    /// Bytes, with the status that belongs to them in the same reply.
    Content(Content),
    /// Only for [`Condition::NoneMatch`]: the store still holds that version.
    Unchanged,
    /// The span lies wholly behind the end. The status is there if the store told it; an adapter
    /// whose store does not tell asks with a stat.
    OutOfRange(Status),
}

/// Bytes of one version, streaming.
pub struct Content {
    /// The status of the file, attributes included.
    pub status: Status,
    /// Which bytes `body` gives.
    pub range: ByteRange,
    /// The bytes.
    pub body: ByteStream,
}

/// Where a listing starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ListStart {
    /// At the first key.
    #[default]
    Beginning,
    /// Behind this key (in byte order; the key itself need not exist). Common prefixes are
    /// rolled up from keys behind it; whether one in which this key itself lies is given is the
    /// store's choice (radosgw leaves it out).
    After(String),
    /// Where the page that gave this token ended.
    Token(String),
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ListRequest {
    /// Only keys that start with this (raw, may end anywhere, may be empty).
    pub prefix: String,
    /// Roll up all that follows the first delimiter behind the prefix into common prefixes.
    pub delimiter: Option<String>,
    /// Where to start.
    pub start: ListStart,
    /// Entries and common prefixes together at most; 1 to 1,000.
    pub max: u32,
}

/// One key in a listing, with the status the listing tells (no attributes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The raw key, relative to the mount.
    pub key: Key,
    /// Length, version, modification time.
    pub status: Status,
}

/// The answer to a [`ListRequest`], both lists in UTF-8 byte order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// Keys.
    pub entries: Vec<ListEntry>,
    /// Common prefixes, each ending with the delimiter.
    pub prefixes: Vec<String>,
    /// The token for the next page; `None` when this was the last.
    pub next: Option<String>,
}

/// A part of a multipart object (`partNumber`), where the store tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartInfo {
    /// Which bytes of the object the part holds.
    pub range: ByteRange,
    /// How many parts the object has; `None` when it was not written in parts.
    pub count: Option<u32>,
}

/// A place where data truly lives.
#[async_trait]
pub trait UnderStorage: Send + Sync + Debug {
    /// The status of the file with exactly this key, with attributes. One request, unconditional.
    /// `NotFound` when there is none (a local directory is not a file).
    async fn stat(&self, key: &Key) -> Result<Status>;

    /// Bytes and status in one reply. `span` is resolved by the store against the content it
    /// holds; the returned range may be shorter at the end of the file, never longer.
    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome>;

    /// Where part `number` (from 1) lies. `Ok(None)`: the store does not tell. `Invalid` when
    /// the object has fewer parts.
    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>>;

    /// One page of keys in byte order. An unknown prefix is an empty page; a missing bucket or
    /// root directory is `NotFound`.
    async fn list(&self, request: &ListRequest) -> Result<ListPage>;

    /// Writes the whole file from `body` of exactly `length` bytes and answers its new status.
    /// Readers see the old content or the new, never a part; on failure the old content stays.
    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status>;

    /// Removes the file. A missing file is not an error (as S3 does).
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Copies within the store, attributes included, and answers the new file's status.
    async fn copy(&self, from: &Key, to: &Key) -> Result<Status>;

    /// The canonical URI of a key: what its [`larder_core::FileId`] is the hash of. Two mounts
    /// of one bucket give one object one URI (`s3://bucket/key`, `file:///dir/key`).
    fn uri(&self, key: &Key) -> String;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: UnderStorage + ?Sized> UnderStorage for Arc<S> {
    async fn stat(&self, key: &Key) -> Result<Status> {
        (**self).stat(key).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        (**self).read(key, span, condition).await
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        (**self).part(key, number).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        (**self).list(request).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        (**self).write(key, length, body, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        (**self).delete(key).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        (**self).copy(from, to).await
    }

    fn uri(&self, key: &Key) -> String {
        (**self).uri(key)
    }
}
