// SPDX-License-Identifier: Apache-2.0
//! What identifies the content of a file at its under storage.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// An under storage's own mark of one content: the entity tag without its quotes (RFC 9110
/// §8.8.3) where there is one, else modification time, length and inode. Never guessed, compared
/// byte by byte. A weak tag keeps its `W/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(Arc<str>);

impl Version {
    /// A version from the store's own mark.
    pub fn new(mark: impl Into<Arc<str>>) -> Self {
        Self(mark.into())
    }

    /// A version from an `ETag` header or listing field: outer quotes are taken off.
    #[must_use]
    pub fn from_etag(etag: &str) -> Self {
        let bare = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Self(bare.unwrap_or(etag).into())
    }

    /// The mark itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As an `ETag` or `If-Match` header has it: quoted, unless it is weak (`W/"…"`).
    #[must_use]
    pub fn to_etag(&self) -> String {
        if self.0.starts_with("W/") { self.0.to_string() } else { format!("\"{}\"", self.0) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.0)
    }
}
