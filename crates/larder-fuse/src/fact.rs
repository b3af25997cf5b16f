// SPDX-License-Identifier: Apache-2.0
//! Extended attributes: what Larder knows about a file, told without asking the store.
//!
//! | name | value |
//! |---|---|
//! | `user.larder.uri` | where the file lies at its store |
//! | `user.larder.version` | the version that an open would read, as the store names it |
//! | `user.larder.age_ms` | how long ago the store said so |
//! | `user.larder.resident_pages` | its pages on the owner's disk |
//! | `user.larder.total_pages` | the pages it has |
//!
//! What is not known (yet) is absent. Directories have the first only; the root has none.

use larder_client::message::Explanation;

use crate::inode::Inode;

/// All of them begin so; others are answered without looking.
pub(crate) const PREFIX: &str = "user.larder.";

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    /// What `explanation` tells about `inode`.
    pub(crate) fn new(inode: &Inode, explanation: Explanation) -> Self {
        let mut facts = vec![("uri", explanation.uri)];
        if let (Inode::File(..), Some(status)) = (inode, explanation.status) {
            facts.push(("version", status.version.to_string()));
            facts.push(("resident_pages", explanation.resident_pages.to_string()));
            facts.push(("total_pages", explanation.total_pages.to_string()));
            facts.extend(explanation.age.map(|age| ("age_ms", age.as_millis().to_string())));
        }
        Self(facts)
    }

    /// The value of the attribute with this full name.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        let bare = name.strip_prefix(PREFIX)?;
        let fact = self.0.iter().find(|(known, _)| *known == bare);
        fact.map(|(_, value)| value.as_bytes())
    }

    /// All names, each ended by a NUL, as `listxattr` has them.
    pub(crate) fn names(&self) -> Vec<u8> {
        let mut names = Vec::new();
        for (name, _) in &self.0 {
            names.extend_from_slice(PREFIX.as_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        names
    }
}
