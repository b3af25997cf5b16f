// SPDX-License-Identifier: Apache-2.0
//! Exit codes, all of them, and the failure that carries one to `main`.

use std::process::ExitCode;

use larder_core::{Error, ErrorKind};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok,
    /// Something went wrong that no other code names.
    Failed,
    /// The command line or the configuration is wrong, or names a directory that can't be
    /// used.
    Usage,
    /// There is no such file, mount, bucket or directory.
    NotFound,
    /// No larder runs with this state directory, or it does not answer.
    NotRunning,
    /// The store, the key or the file system denied it.
    Denied,
    /// A store did not answer; later it may.
    Unavailable,
    /// The address, the state directory, a cache directory or a mount point is in use.
    Taken,
}

impl Exit {
    /// Each with its number and what it means.
    pub(crate) const ALL: [(Self, u8, &'static str); 8] = [
        (Self::Ok, 0, "everything was done"),
        (Self::Failed, 1, "something went wrong; stderr says what"),
        (
            Self::Usage,
            2,
            "the command line or configuration is wrong, or names a directory that can't be used",
        ),
        (Self::NotFound, 3, "there is no such file, mount, bucket or directory"),
        (Self::NotRunning, 4, "no larder runs with this state directory, or it does not answer"),
        (Self::Denied, 5, "the store or the file system denied it; check credentials and rights"),
        (Self::Unavailable, 6, "a store did not answer or throttles; later it may"),
        (Self::Taken, 7, "an address, a directory or a mount point is in use by another process"),
    ];

    /// The list for `--help` and the manual page.
    pub(crate) fn table() -> String {
        let lines = Self::ALL.map(|(_, number, meaning)| format!("  {number}  {meaning}\n"));
        format!("Exit codes:\n{}", lines.concat())
    }

    /// The number.
    pub(crate) fn code(self) -> ExitCode {
        let found = Self::ALL.iter().find(|(exit, ..)| *exit == self);
        ExitCode::from(found.map_or(1, |(_, number, _)| *number))
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::AlreadyExists => Self::Taken,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Unavailable | ErrorKind::Exhausted => Self::Unavailable,
            ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::NotEmpty
            | ErrorKind::Unsupported
            | ErrorKind::Stale
            | ErrorKind::Corrupt
            | ErrorKind::Internal => Self::Failed,
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code to end with.
    pub(crate) exit: Exit,
    /// What to say on stderr; nothing when it was said already.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// For a directory that was named: that it can't be used is wrong input, whatever the disk
    /// says; only rights and another process are codes of their own, as everywhere.
    pub(crate) fn of_place(error: &Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::AlreadyExists => Exit::Taken,
            ErrorKind::Denied => Exit::Denied,
            ErrorKind::Invalid
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::NotEmpty
            | ErrorKind::Unsupported
            | ErrorKind::Unavailable
            | ErrorKind::Exhausted => Exit::Usage,
            ErrorKind::Stale | ErrorKind::Corrupt | ErrorKind::Internal => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }

    /// Ends with `exit`; everything was said already.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_same_codes() {
        let page = include_str!("../../../docs/troubleshooting.md");
        for (_, number, meaning) in Exit::ALL {
            let row = format!("| {number} | {meaning} |");
            assert!(page.contains(&row), "docs/troubleshooting.md lacks: {row}");
        }
    }

    #[test]
    fn a_directory_that_can_not_be_used_is_wrong_input() {
        for kind in [ErrorKind::NotADirectory, ErrorKind::Exhausted, ErrorKind::Unavailable] {
            assert_eq!(Failure::of_place(&Error::new(kind, "x")).exit, Exit::Usage);
        }
        assert_eq!(Failure::of_place(&Error::denied("x")).exit, Exit::Denied);
        assert_eq!(Failure::of_place(&Error::already_exists("x")).exit, Exit::Taken);
    }
}
