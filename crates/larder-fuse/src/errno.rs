// SPDX-License-Identifier: Apache-2.0
//! From an error's kind to the number a program sees.
//!
//! `Unavailable` is `EIO` and not `EAGAIN` or `ETIMEDOUT`: programs expect neither of a regular
//! file, and some spin on the first. What a person needs to know beyond the number is in the log.

use fuser::Errno;
use larder_core::ErrorKind;

/// An error number and its name, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) errno: Errno,
    pub(crate) name: &'static str,
}

/// Whether the number alone tells the program's user what is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// It does.
    Itself,
    /// The sentence belongs into the log.
    Log,
}

pub(crate) fn code(kind: ErrorKind) -> (Code, Telling) {
    let of = |errno, name| Code { errno, name };
    match kind {
        ErrorKind::NotFound => (of(Errno::ENOENT, "ENOENT"), Telling::Itself),
        ErrorKind::AlreadyExists => (of(Errno::EEXIST, "EEXIST"), Telling::Itself),
        ErrorKind::NotADirectory => (of(Errno::ENOTDIR, "ENOTDIR"), Telling::Itself),
        ErrorKind::IsADirectory => (of(Errno::EISDIR, "EISDIR"), Telling::Itself),
        ErrorKind::NotEmpty => (of(Errno::ENOTEMPTY, "ENOTEMPTY"), Telling::Itself),
        ErrorKind::Invalid => (of(Errno::EINVAL, "EINVAL"), Telling::Itself),
        ErrorKind::Denied => (of(Errno::EACCES, "EACCES"), Telling::Log),
        ErrorKind::Unsupported => (of(Errno::EOPNOTSUPP, "EOPNOTSUPP"), Telling::Itself),
        ErrorKind::Stale => (of(Errno::ESTALE, "ESTALE"), Telling::Itself),
        ErrorKind::Unavailable => (of(Errno::EIO, "EIO"), Telling::Log),
        ErrorKind::Exhausted => (of(Errno::EBUSY, "EBUSY"), Telling::Log),
        ErrorKind::Corrupt => (of(Errno::EIO, "EIO"), Telling::Log),
        ErrorKind::Internal => (of(Errno::EIO, "EIO"), Telling::Log),
    }
}
