// SPDX-License-Identifier: Apache-2.0
//! How old a status may be before the store is asked again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The freshness rule of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// What exists never changes: a known status is never asked for again.
    Immutable,
    /// A status older than this is revalidated by one conditional request on the next open.
    MaxAge(Duration),
    /// Every open asks the store.
    Always,
}

/// What a mount gets when it says nothing: 60 seconds.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60);

impl Default for Freshness {
    fn default() -> Self {
        Self::MaxAge(DEFAULT_MAX_AGE)
    }
}

impl Freshness {
    /// Whether a status of this age may be used without asking the store.
    #[must_use]
    pub fn allows(self, age: Duration) -> bool {
        match self {
            Self::Immutable => true,
            Self::MaxAge(limit) => age <= limit,
            Self::Always => false,
        }
    }

    /// The same for what can appear at any time even where files never change: listings and the
    /// knowledge that a name does not exist. `Immutable` keeps those for the default age.
    #[must_use]
    pub fn allows_absence(self, age: Duration) -> bool {
        match self {
            Self::Immutable => age <= DEFAULT_MAX_AGE,
            Self::MaxAge(limit) => age <= limit,
            Self::Always => false,
        }
    }
}
