// SPDX-License-Identifier: Apache-2.0
//! One thing that breaks a rule: where, which rule, and a sentence that says what to do.

use std::fmt;

/// One thing that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root.
    pub(crate) path: String,
    /// The line, from 1; none when the file as a whole is meant.
    pub(crate) line: Option<usize>,
    /// The rule's short name.
    pub(crate) rule: &'static str,
    /// What is wrong and what to do.
    pub(crate) sentence: String,
}

impl Finding {
    /// A finding about the whole file.
    pub(crate) fn new(path: &str, rule: &'static str, sentence: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, rule, sentence: sentence.into() }
    }

    /// The same, at this line.
    pub(crate) fn at(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}: {}", self.path, self.rule, self.sentence),
            None => write!(f, "{}: {}: {}", self.path, self.rule, self.sentence),
        }
    }
}
