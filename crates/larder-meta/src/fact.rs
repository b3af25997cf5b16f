// SPDX-License-Identifier: Apache-2.0
//! What is known about one path, and since when.

use larder_core::{Status, UnixMillis};

/// A fact about a path and when the store said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the store said.
    pub fact: Fact,
    /// When it was asked.
    pub checked: UnixMillis,
}

/// What a store can say about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// There is a file with this status.
    Present(Status),
    /// There is no file.
    Absent,
}

impl Known {
    /// This fact with what `before` knew beyond it: a status without attributes (a listing's)
    /// keeps the attributes known before of the same version.
    #[must_use]
    pub(crate) fn merged(mut self, before: Known) -> Self {
        if let (Fact::Present(status), Fact::Present(old)) = (&mut self.fact, before.fact)
            && status.attributes.is_none()
            && status.version == old.version
        {
            status.attributes = old.attributes;
        }
        self
    }

    /// Whether [`Known::merged`] could add anything.
    pub(crate) fn may_gain(&self) -> bool {
        matches!(&self.fact, Fact::Present(status) if status.attributes.is_none())
    }
}
