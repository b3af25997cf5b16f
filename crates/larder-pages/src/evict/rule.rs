// SPDX-License-Identifier: Apache-2.0
//! The rules among which the contest chooses. All of them work on the same queues, so another
//! one can take over at any time and the content follows as segments come and go.

/// Who may pass from the window to the main part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// What was read more often than what would have to go for it (W-TinyLFU).
    MoreOften,
    /// What was read again and again while it was in the window (S3-FIFO).
    ReadAgain,
    /// Nothing: all is window, ordered by the last read (LRU).
    Closed,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// The window's share, in per cent of what the queues hold.
    pub(super) window_percent: u64,
    pub(super) entrance: Entrance,
    /// What comes back soon after it left the window starts in the main part.
    pub(super) recalls: bool,
}

/// Each of them is best on some kind of trace; the first is in force until another wins (ADR 30).
pub(super) const RULES: [Rule; 5] = [
    // Steady popularity, loops, shuffled epochs.
    Rule { window_percent: 1, entrance: Entrance::MoreOften, recalls: false },
    // The usual mixture.
    Rule { window_percent: 5, entrance: Entrance::ReadAgain, recalls: true },
    // What was read lately is read again, and what is older never.
    Rule { window_percent: 100, entrance: Entrance::Closed, recalls: false },
    // A loop with something beside it: what is in stays in.
    Rule { window_percent: 1, entrance: Entrance::ReadAgain, recalls: false },
    // Popularity that changes slowly.
    Rule { window_percent: 10, entrance: Entrance::MoreOften, recalls: true },
];
