// SPDX-License-Identifier: Apache-2.0
//! The header fields of a request, whoever parsed them: hyper's map, or the lines as they came.

use http::HeaderMap;
use httparse::Header;

/// Read access to header fields.
pub(crate) trait Fields {
    /// The value of a field that occurs exactly once and is visible ASCII.
    fn one(&self, name: &str) -> Option<&str>;

    /// How many fields have a name that begins with `prefix` (in small letters).
    fn count(&self, prefix: &str) -> usize;
}

impl Fields for HeaderMap {
    fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    fn count(&self, prefix: &str) -> usize {
        self.keys().filter(|name| name.as_str().starts_with(prefix)).count()
    }
}

/// The lines of a head, in their order, repeated ones included.
pub(crate) struct Lines<'a>(pub(crate) &'a [Header<'a>]);

impl Lines<'_> {
    /// Whether a field of this name is there, however often.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.count_named(name) > 0
    }

    /// How often a field of this name is there.
    pub(crate) fn count_named(&self, name: &str) -> usize {
        self.0.iter().filter(|line| line.name.eq_ignore_ascii_case(name)).count()
    }
}

impl Fields for Lines<'_> {
    fn one(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        let value = lines.next()?.value;
        let visible = value.iter().all(|&c| c == b'\t' || (b' '..=b'~').contains(&c));
        let value = visible.then(|| std::str::from_utf8(value).ok())??;
        lines.next().is_none().then_some(value)
    }

    fn count(&self, prefix: &str) -> usize {
        let begins = |name: &str| {
            let front = name.as_bytes().get(..prefix.len());
            front.is_some_and(|front| front.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        self.0.iter().filter(|line| begins(line.name)).count()
    }
}
