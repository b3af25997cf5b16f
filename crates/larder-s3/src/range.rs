// SPDX-License-Identifier: Apache-2.0
//! The `Range` header, as S3 reads it: one range of bytes; anything else is as if it were absent.

use http::{HeaderMap, header};
use larder_core::{ByteRange, Span};

/// The span a request asks for. `None` when there is no range to honour: no header, a malformed
/// one, another unit, or several ranges (S3 sends the whole object then).
pub(crate) fn requested(headers: &HeaderMap) -> Option<Span> {
    let mut lines = headers.get_all(header::RANGE).iter();
    let line = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    parse(line)
}

/// The span a `Range` header means; `None` when it is to be ignored.
pub(crate) fn parse(line: &str) -> Option<Span> {
    let (unit, range) = line.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            Some(Span::Range(ByteRange::new(first, last.saturating_add(1))))
        }
        (Some(first), None) if last.is_empty() => Some(Span::From(first)),
        (None, Some(last)) if first.is_empty() => Some(Span::Last(last)),
        _ => None,
    }
}

/// Digits only; a number above 64 bits counts as the largest, which lies behind every end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use larder_core::{ByteRange, Span};

    use super::parse;

    #[test]
    fn one_range_or_none() {
        let range = |first, end| Some(Span::Range(ByteRange::new(first, end)));
        assert_eq!(parse("bytes=0-0"), range(0, 1));
        assert_eq!(parse("Bytes=5-9"), range(5, 10));
        assert_eq!(parse("bytes=5-"), Some(Span::From(5)));
        assert_eq!(parse("bytes=-5"), Some(Span::Last(5)));
        assert_eq!(parse("bytes=-0"), Some(Span::Last(0)));
        assert_eq!(parse("bytes=0-99999999999999999999999"), range(0, u64::MAX));
        for ignored in
            ["bytes=5-2", "bytes=0-1,3-4", "bytes=-", "bytes=a-b", "lines=1-2", "bytes 1-2", ""]
        {
            assert_eq!(parse(ignored), None, "{ignored}");
        }
    }
}
