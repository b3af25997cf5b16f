// SPDX-License-Identifier: Apache-2.0
//! The headers of a reply as a status. All of them are input from the network.

use std::str::FromStr;

use http::{
    HeaderMap, HeaderName,
    header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
    },
};
use larder_core::{Attributes, ByteRange, Error, Result, Status, UnixMillis, Version};

/// The prefix of user metadata.
pub(super) const META: &str = "x-amz-meta-";

/// The status of an object of `length` bytes, with attributes.
pub(super) fn status(headers: &HeaderMap, length: u64, what: &str) -> Result<Status> {
    let etag = text(headers, &ETAG).filter(|etag| !etag.is_empty()).ok_or_else(|| {
        Error::unsupported(format!(
            "the store gives no ETag for {what}, so its versions can't be told apart"
        ))
    })?;
    let modified = text(headers, &LAST_MODIFIED)
        .and_then(|date| httpdate::parse_http_date(&date).ok())
        .map(UnixMillis::from_system_time)
        .unwrap_or_default();
    let attributes = Some(Box::new(attributes(headers)));
    Ok(Status { length, version: Version::from_etag(&etag), modified, attributes })
}

/// `Content-Length`, where the store tells it.
pub(super) fn content_length(headers: &HeaderMap, what: &str) -> Result<u64> {
    number(headers, &CONTENT_LENGTH).ok_or_else(|| {
        Error::unavailable(format!("the store's reply does not tell the length of {what}"))
    })
}

/// Refuses a reply whose `Content-Length` contradicts its range.
pub(super) fn agrees(headers: &HeaderMap, length: u64, what: &str) -> Result<()> {
    match number::<u64>(headers, &CONTENT_LENGTH) {
        Some(told) if told != length => Err(Error::unavailable(format!(
            "the store's reply for {what} tells a length of {told} for {length} bytes"
        ))),
        _ => Ok(()),
    }
}

/// `Content-Range: bytes a-b/total` as the range and the total; `None` when there is none.
pub(super) fn content_range(headers: &HeaderMap) -> Result<Option<(ByteRange, u64)>> {
    let Some(value) = text(headers, &CONTENT_RANGE) else { return Ok(None) };
    let parsed = parse_content_range(&value);
    let wrong = || Error::unavailable("the store's reply has a Content-Range that makes no sense");
    parsed.map(Some).ok_or_else(wrong)
}

fn parse_content_range(value: &str) -> Option<(ByteRange, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (digits(first)?, digits(last)?, digits(total)?);
    let sensible = first <= last && last < total;
    sensible.then(|| (ByteRange::new(first, last + 1), total))
}

/// A number of digits only: `parse` alone would take a plus sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A header that holds a number.
pub(super) fn number<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<T> {
    digits(text(headers, name)?.as_str())
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn attributes(headers: &HeaderMap) -> Attributes {
    let named = |name: &'static str| text(headers, &HeaderName::from_static(name));
    let user = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(META)?;
        Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Attributes {
        content_type: text(headers, &CONTENT_TYPE),
        content_encoding: text(headers, &CONTENT_ENCODING),
        content_language: text(headers, &CONTENT_LANGUAGE),
        content_disposition: text(headers, &CONTENT_DISPOSITION),
        cache_control: text(headers, &CACHE_CONTROL),
        expires: text(headers, &EXPIRES),
        storage_class: named("x-amz-storage-class"),
        version_id: named("x-amz-version-id"),
        website_redirect: named("x-amz-website-redirect-location"),
        user: user.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_checked() {
        let parse = parse_content_range;
        assert_eq!(parse("bytes 0-0/1"), Some((ByteRange::new(0, 1), 1)));
        assert_eq!(parse("bytes 5-9/10"), Some((ByteRange::new(5, 10), 10)));
        for wrong in [
            "",
            "bytes",
            "bytes */5",
            "bytes 0-5/5",
            "bytes 4-3/9",
            "bytes 0-1/*",
            "bytes +0-1/2",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes -1-2/3",
            "items 0-1/2",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn headers_become_a_status() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, "\"abc\"".parse().expect("a value"));
        headers.insert(LAST_MODIFIED, "Thu, 01 Jan 1970 00:00:07 GMT".parse().expect("a value"));
        headers.insert(CONTENT_TYPE, "text/plain".parse().expect("a value"));
        headers.insert("x-amz-meta-colour", "blue".parse().expect("a value"));
        let status = status(&headers, 5, "k").expect("a status");
        assert_eq!((status.version.as_str(), status.modified), ("abc", UnixMillis(7000)));
        let attributes = status.attributes.expect("attributes");
        assert_eq!(attributes.content_type.as_deref(), Some("text/plain"));
        assert_eq!(attributes.user, [("colour".to_owned(), "blue".to_owned())]);
        assert!(super::status(&HeaderMap::new(), 5, "k").is_err());
    }
}
