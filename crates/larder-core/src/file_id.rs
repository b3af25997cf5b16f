// SPDX-License-Identifier: Apache-2.0
//! Ids: 128-bit hashes (XXH3) that name a file and one content of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::Version;

/// One object or file of an under storage: the hash of its canonical URI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u128);

impl FileId {
    /// The id of the file with this canonical URI (`s3://bucket/key`, raw key bytes).
    #[must_use]
    pub fn of_uri(uri: &str) -> Self {
        Self(xxh3_128(uri.as_bytes()))
    }
}

/// One version of one file: what pages are keyed by. A new version is a new content, so nothing
/// is ever invalidated in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId(pub u128);

impl ContentId {
    /// The id of `version` of `file`.
    #[must_use]
    pub fn new(file: FileId, version: &Version) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&file.0.to_be_bytes());
        hash.update(version.as_str().as_bytes());
        Self(hash.digest128())
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}
