// SPDX-License-Identifier: Apache-2.0
//! Byte ranges: resolved ones, and the spans callers ask for before the length is known.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of a file; `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One behind the last byte.
    pub end: u64,
}

impl ByteRange {
    /// `start..end`; an inverted range becomes the empty range at `start`.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Bytes in the range.
    #[must_use]
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The bytes in both ranges; `None` when they share none.
    #[must_use]
    pub fn overlap(self, other: Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (both.start < both.end).then_some(both)
    }

    /// Whether every byte of `other` is in this range.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// What part of a file a caller wants, said before anybody knows its length (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// The whole file.
    #[default]
    All,
    /// From this byte to the end.
    From(u64),
    /// These bytes, cut at the end of the file.
    Range(ByteRange),
    /// The last so many bytes; all of them when the file is shorter.
    Last(u64),
}

impl Span {
    /// The bytes meant in a file of `length` bytes. `None` when the span lies wholly behind the
    /// end (HTTP: 416 Range Not Satisfiable); `All` of an empty file is the empty range.
    #[must_use]
    pub fn resolve(self, length: u64) -> Option<ByteRange> {
        match self {
            Self::All => Some(ByteRange { start: 0, end: length }),
            Self::From(start) => (start < length).then_some(ByteRange { start, end: length }),
            Self::Range(range) => (range.start < length && !range.is_empty())
                .then_some(ByteRange { start: range.start, end: range.end.min(length) }),
            Self::Last(count) => (count > 0 && length > 0)
                .then_some(ByteRange { start: length.saturating_sub(count), end: length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_resolve_as_rfc_9110_says() {
        let range = |start, end| Some(ByteRange { start, end });
        assert_eq!(Span::All.resolve(0), range(0, 0));
        assert_eq!(Span::From(5).resolve(5), None);
        assert_eq!(Span::From(4).resolve(5), range(4, 5));
        assert_eq!(Span::Range(ByteRange::new(2, 99)).resolve(5), range(2, 5));
        assert_eq!(Span::Range(ByteRange::new(5, 6)).resolve(5), None);
        assert_eq!(Span::Last(0).resolve(5), None);
        assert_eq!(Span::Last(9).resolve(5), range(0, 5));
        assert_eq!(Span::Last(2).resolve(5), range(3, 5));
    }
}
