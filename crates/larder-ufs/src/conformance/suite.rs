// SPDX-License-Identifier: Apache-2.0
//! The suite itself: its order, and the words its checks are written in.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use larder_core::{Attributes, ErrorKind, Key, Result, Span, Status};

use crate::{Condition, ListRequest, ListStart, ReadOutcome, UnderStorage};

use super::{listing, reading, writing};

/// What a store can do beyond what every store must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What becomes of keys such as `a//b`, `/a`, `a/`, `..`, `x` beside `x/y`.
    pub keys: Keys,
    /// Content type, user metadata and the like are kept.
    pub attributes: bool,
}

/// What a store does with keys that no file system can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Every key is a name of its own.
    Raw,
    /// They are not found, and refused on write.
    Refused,
    /// It treats some of them as other names, so they are not tried.
    Aliased,
}

impl Capabilities {
    /// What an object store can do.
    pub const OBJECTS: Self = Self { keys: Keys::Raw, attributes: true };

    /// What a local directory can do.
    pub const FILES: Self = Self { keys: Keys::Refused, attributes: false };
}

/// Runs the suite below `prefix`, which nothing else may use.
///
/// # Errors
/// The first broken promise as a sentence.
pub async fn run(
    store: Arc<dyn UnderStorage>,
    capabilities: Capabilities,
    prefix: &str,
) -> Result<(), String> {
    let suite = Suite { store, capabilities, prefix: format!("{prefix}/") };
    let checked = async {
        reading::check(&suite).await?;
        listing::check(&suite).await?;
        writing::check(&suite).await
    };
    let checked = checked.await;
    let swept = suite.sweep().await;
    checked.and(swept)
}

/// What every check works with.
pub(super) struct Suite {
    pub(super) store: Arc<dyn UnderStorage>,
    pub(super) capabilities: Capabilities,
    pub(super) prefix: String,
}

impl Suite {
    pub(super) fn key(&self, name: &str) -> Key {
        Key::new(&format!("{}{name}", self.prefix)).expect("names in the suite are short")
    }

    /// Writes `bytes` in chunks of odd sizes.
    pub(super) async fn put(&self, name: &str, bytes: &Bytes) -> Result<Status, String> {
        self.put_with(name, bytes, &Attributes::default()).await
    }

    pub(super) async fn put_with(
        &self,
        name: &str,
        bytes: &Bytes,
        attributes: &Attributes,
    ) -> Result<Status, String> {
        let chunks: Vec<_> = bytes.chunks(70_001).map(|chunk| Ok(bytes.slice_ref(chunk))).collect();
        let body = stream::iter(chunks).boxed();
        let length = bytes.len() as u64;
        let written = self.store.write(&self.key(name), length, body, attributes).await;
        let status = written.map_err(|error| format!("write {name:?}: {error}"))?;
        equal(format_args!("length told by write of {name:?}"), status.length, length)?;
        Ok(status)
    }

    /// What a read answered, its body collected.
    pub(super) async fn get(
        &self,
        name: &str,
        span: Span,
        condition: &Condition,
    ) -> Result<Got, String> {
        let outcome = self.store.read(&self.key(name), span, condition).await;
        match outcome {
            Err(error) => Ok(Got::Failed(error.kind())),
            Ok(ReadOutcome::Unchanged) => Ok(Got::Unchanged),
            Ok(ReadOutcome::OutOfRange(status)) => Ok(Got::OutOfRange(status)),
            Ok(ReadOutcome::Content(mut content)) => {
                let mut bytes = BytesMut::new();
                while let Some(chunk) = content.body.next().await {
                    let chunk = chunk.map_err(|error| format!("body of {name:?}: {error}"))?;
                    bytes.extend_from_slice(&chunk);
                }
                let told = content.range.length();
                equal(format_args!("bytes in the body of {name:?}"), bytes.len() as u64, told)?;
                let first = content.range.start;
                Ok(Got::Bytes { status: content.status, first, bytes: bytes.freeze() })
            }
        }
    }

    /// The bytes of a whole file.
    pub(super) async fn whole(&self, name: &str) -> Result<Bytes, String> {
        match self.get(name, Span::All, &Condition::None).await? {
            Got::Bytes { bytes, .. } => Ok(bytes),
            other => Err(format!("read {name:?}: {other:?} instead of bytes")),
        }
    }

    pub(super) async fn stat(&self, name: &str) -> Result<Status, ErrorKind> {
        self.store.stat(&self.key(name)).await.map_err(|error| error.kind())
    }

    /// Deletes all that the suite wrote.
    async fn sweep(&self) -> Result<(), String> {
        loop {
            let request = ListRequest {
                prefix: self.prefix.clone(),
                delimiter: None,
                start: ListStart::Beginning,
                max: 1000,
            };
            let page = self.store.list(&request).await.map_err(|error| error.to_string())?;
            if page.entries.is_empty() {
                return Ok(());
            }
            for entry in page.entries {
                let deleted = self.store.delete(&entry.key).await;
                deleted.map_err(|error| format!("delete {}: {error}", entry.key))?;
            }
        }
    }
}

/// What a read answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes { status: Status, first: u64, bytes: Bytes },
    Unchanged,
    OutOfRange(Status),
    Failed(ErrorKind),
}

/// A promise that two things are the same.
pub(super) fn equal<T: PartialEq + fmt::Debug>(
    what: impl fmt::Display,
    found: T,
    promised: T,
) -> Result<(), String> {
    if found == promised {
        return Ok(());
    }
    Err(format!("{what}: found {found:?} where {promised:?} was promised"))
}

/// Bytes that differ from place to place and from seed to seed.
pub(super) fn pattern(length: usize, seed: u64) -> Bytes {
    let random = larder_core::Random::seeded(seed);
    let mut bytes = BytesMut::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.freeze()
}
