// SPDX-License-Identifier: Apache-2.0
//! The one public error, shaped by what its receiver does next.
//!
//! A kind exists only if some caller acts differently on it. The message is for people and is
//! never matched. Foreign errors are boxed as the source, so that no room has to know another
//! room's libraries. Faces turn kinds into errno, S3 or HTTP codes, each in one exhaustive match.

use std::{error::Error as StdError, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The result of anything in Larder that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the receiver of an [`Error`] can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The name does not exist.
    NotFound,
    /// The name exists already and the caller asked that it does not.
    AlreadyExists,
    /// A directory was needed and the name is something else.
    NotADirectory,
    /// A file was needed and the name is a directory.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// The request can never succeed as it is: correct it.
    Invalid,
    /// The caller, or Larder at the store, has no right to this.
    Denied,
    /// Nobody implements this here.
    Unsupported,
    /// The version asked for is no longer what the store holds: stat again.
    Stale,
    /// It may work elsewhere or later: the store or a worker did not answer in time.
    Unavailable,
    /// A limit was met: slow down and try again.
    Exhausted,
    /// Bytes failed their checksum: drop them and fetch again.
    Corrupt,
    /// A defect in Larder.
    Internal,
}

impl ErrorKind {
    /// The kind as a word for labels and machine-readable output: `not_found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::NotADirectory => "not_a_directory",
            Self::IsADirectory => "is_a_directory",
            Self::NotEmpty => "not_empty",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

/// An error with its kind, one sentence for people, and its cause.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is one clear sentence without a secret in it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind, message, retry_after: None, source: None }))
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds how long the other side asked to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Puts `context` before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What the receiver can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence for people, without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the other side asked to wait, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The same error for a second receiver of a shared result; causes become text.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let source = self.0.source.as_ref().map(|source| source.to_string().into());
        Self(Box::new(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            retry_after: self.0.retry_after,
            source,
        }))
    }
}

/// One short constructor per kind: `Error::not_found("no such mount: lake")`.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self::new(ErrorKind::$kind, message)
                }
            )*
        }
    };
}

constructors! {
    not_found => NotFound,
    already_exists => AlreadyExists,
    not_a_directory => NotADirectory,
    is_a_directory => IsADirectory,
    not_empty => NotEmpty,
    invalid => Invalid,
    denied => Denied,
    unsupported => Unsupported,
    stale => Stale,
    unavailable => Unavailable,
    exhausted => Exhausted,
    corrupt => Corrupt,
    internal => Internal,
}

impl fmt::Display for Error {
    /// The message, then each cause after a colon, skipping causes that repeat what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut said = self.0.message.clone();
        let mut cause: Option<&dyn StdError> = self.0.source.as_deref().map(|s| s as &dyn StdError);
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_each_cause_once() {
        let io = std::io::Error::other("connection refused");
        let error = Error::unavailable("the store did not answer").with_source(io);
        assert_eq!(error.to_string(), "the store did not answer: connection refused");
        let again = error.duplicate();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(again.kind(), ErrorKind::Unavailable);
        assert_eq!(error.context("lake").message(), "lake: the store did not answer");
    }
}
