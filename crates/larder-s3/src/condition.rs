// SPDX-License-Identifier: Apache-2.0
//! Conditional requests (RFC 9110 §13), judged against the version that a read answered with, so
//! that a condition never costs a request of its own.
//!
//! The order is S3's and the RFC's: `If-Match` decides alone where it is there, else
//! `If-Unmodified-Since`; then `If-None-Match` alone where it is there, else
//! `If-Modified-Since`. A date that can't be read is as if it were absent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};
use larder_core::Status;

/// What the conditions of a request say about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it.
    Proceed,
    /// The client has it already.
    NotModified,
    /// The client wanted something else; names the condition that failed.
    Failed(&'static str),
}

/// Judges the conditions in `headers` for an object that exists.
pub(crate) fn judge(headers: &HeaderMap, status: &Status) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !names(headers, &header::IF_MATCH, status) {
            return Verdict::Failed("If-Match");
        }
    } else if let Some(date) = date(headers, &header::IF_UNMODIFIED_SINCE)
        && modified(status) > date
    {
        return Verdict::Failed("If-Unmodified-Since");
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if names(headers, &header::IF_NONE_MATCH, status) {
            return Verdict::NotModified;
        }
    } else if let Some(date) = date(headers, &header::IF_MODIFIED_SINCE)
        && modified(status) <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` may be honoured: `If-Range` is absent or names this very version.
pub(crate) fn range_applies(headers: &HeaderMap, status: &Status) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    match date(headers, &header::IF_RANGE) {
        Some(date) => modified(status) == date,
        None => names(headers, &header::IF_RANGE, status),
    }
}

/// Whether a header's list of entity tags holds the version's own, or `*`.
fn names(headers: &HeaderMap, name: &HeaderName, status: &Status) -> bool {
    let own = bare(status.version.as_str());
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(tags).any(|tag| tag == "*" || bare(tag) == own)
}

/// Entity tags hold no quote, so commas outside of quotes separate them. S3 also takes a tag
/// without quotes.
fn tags(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let separator = move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    line.split(separator).map(str::trim).filter(|tag| !tag.is_empty())
}

/// A tag without weakness mark and quotes: what two spellings of one tag have in common.
fn bare(tag: &str) -> &str {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// When the version was written, in the whole seconds that an HTTP date has.
pub(crate) fn modified(status: &Status) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(status.modified.0 / 1_000)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use larder_core::{UnixMillis, Version};

    use super::*;

    const BEFORE: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const AT: &str = "Wed, 01 Jan 2020 00:00:01 GMT";
    const AFTER: &str = "Wed, 01 Jan 2020 00:00:02 GMT";

    fn verdict(lines: &[(&'static str, &'static str)]) -> Verdict {
        judge(&headers(lines), &status())
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn status() -> Status {
        let modified = UnixMillis(1_577_836_801_900);
        Status { length: 1, version: Version::new("abc"), modified, attributes: None }
    }

    #[test]
    fn entity_tags() {
        assert_eq!(verdict(&[]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "\"abc\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "abc")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "*")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "\"x,y\", \"abc\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "\"abd\"")]), Verdict::Failed("If-Match"));
        assert_eq!(verdict(&[("if-none-match", "W/\"abc\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", "*")]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", "\"abd\"")]), Verdict::Proceed);
    }

    #[test]
    fn dates_have_whole_seconds() {
        assert_eq!(verdict(&[("if-modified-since", AT)]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", AFTER)]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", BEFORE)]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-unmodified-since", AT)]), Verdict::Proceed);
        let failed = Verdict::Failed("If-Unmodified-Since");
        assert_eq!(verdict(&[("if-unmodified-since", BEFORE)]), failed);
        assert_eq!(verdict(&[("if-modified-since", "yesterday")]), Verdict::Proceed);
    }

    #[test]
    fn tags_overrule_dates() {
        let both = [("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)];
        assert_eq!(verdict(&both), Verdict::Proceed);
        let both = [("if-none-match", "\"abd\""), ("if-modified-since", AFTER)];
        assert_eq!(verdict(&both), Verdict::Proceed);
        let both = [("if-match", "\"abc\""), ("if-none-match", "\"abc\"")];
        assert_eq!(verdict(&both), Verdict::NotModified);
    }

    #[test]
    fn a_range_of_another_version_does_not_apply() {
        let applies = |value| range_applies(&headers(&[("if-range", value)]), &status());
        assert!(applies("\"abc\"") && applies(AT));
        assert!(!applies("\"abd\"") && !applies(BEFORE));
        assert!(range_applies(&HeaderMap::new(), &status()));
    }
}
