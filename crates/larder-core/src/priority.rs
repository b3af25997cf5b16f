// SPDX-License-Identifier: Apache-2.0
//! What goes first when the cache needs room.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All of what has a lower priority is evicted before any of what has a higher one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Low,
    /// As what nobody said anything about.
    #[default]
    Normal,
    /// After all others.
    High,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}
