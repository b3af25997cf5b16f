// SPDX-License-Identifier: Apache-2.0
//! ListObjectsV2, one page a call.
//!
//! Keys are asked for URL-encoded, because XML can't hold every character; a store that answers
//! without encoding is understood too. Dates are cut to whole seconds, as HEAD gives them, so
//! that both calls tell the same. An entry whose key is the mount's own prefix (a directory
//! marker of the mount itself) is left out: an empty key names no file.

use http::{Method, StatusCode};
use larder_core::{Error, Key, Result, Status, UnixMillis, Version};
use percent_encoding::percent_decode_str;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{ListEntry, ListPage, ListRequest, ListStart};

use super::{
    client::Call,
    failure,
    store::S3Store,
    xml::{self, Element},
};

/// Bytes of a page at most: 1,000 keys of 1,024 bytes, each byte encoded, and as much again.
const PAGE_MAX: usize = 8 << 20;

impl S3Store {
    pub(super) async fn list_page(&self, request: &ListRequest) -> Result<ListPage> {
        let endpoint = &self.client.endpoint;
        let prefix = format!("{}{}", endpoint.prefix(), request.prefix);
        let max = request.max.clamp(1, 1000).to_string();
        let after;
        let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", &max)];
        if !prefix.is_empty() {
            query.push(("prefix", &prefix));
        }
        if let Some(delimiter) = request.delimiter.as_deref().filter(|text| !text.is_empty()) {
            query.push(("delimiter", delimiter));
        }
        match &request.start {
            ListStart::Beginning => {}
            ListStart::After(key) => {
                after = format!("{}{key}", endpoint.prefix());
                query.push(("start-after", &after));
            }
            ListStart::Token(token) => query.push(("continuation-token", token)),
        }
        let reply = self.client.send(Call::new(Method::GET, None).query(&query)).await?;
        let what = format!("s3://{}/{prefix}", endpoint.bucket);
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, &what).await);
        }
        let (clock, timeout) = (&self.client.clock, self.client.read_timeout());
        let document = failure::collect(reply.into_body(), PAGE_MAX, clock, timeout).await?;
        let page = parse_page(&document, endpoint.prefix())
            .map_err(|error| error.context(format!("listing {what}")))?;
        if page.next.is_some() && same_token(&request.start, page.next.as_deref()) {
            return Err(Error::unavailable(format!(
                "the store's listing of {what} does not move on: it gave the same token twice"
            )));
        }
        Ok(page)
    }
}

fn same_token(start: &ListStart, next: Option<&str>) -> bool {
    matches!(start, ListStart::Token(token) if Some(token.as_str()) == next)
}

/// A page from its document; `mount_prefix` is taken off each name.
fn parse_page(document: &[u8], mount_prefix: &str) -> Result<ListPage> {
    let root = xml::parse(document)?;
    if root.name() != "ListBucketResult" {
        return Err(wrong("it is not a listing"));
    }
    let encoded = root.text("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
    let name = |text: &str| -> Result<String> {
        let name = if encoded { decode(text)? } else { text.to_owned() };
        let relative = name.strip_prefix(mount_prefix);
        Ok(relative.ok_or_else(|| wrong("it holds a key outside of the prefix"))?.to_owned())
    };
    let mut page = ListPage::default();
    for object in root.all("Contents") {
        let text = object.text("Key").ok_or_else(|| wrong("an entry has no key"))?;
        let relative = name(text)?;
        if relative.is_empty() {
            continue;
        }
        let key =
            Key::new(&relative).map_err(|error| wrong("a key is illegal").with_source(error))?;
        page.entries.push(ListEntry { key, status: status(object)? });
    }
    for group in root.all("CommonPrefixes") {
        let text = group.text("Prefix").ok_or_else(|| wrong("a prefix has no name"))?;
        page.prefixes.push(name(text)?);
    }
    if root.text("IsTruncated").is_some_and(|text| text.trim() == "true") {
        let token = root.text("NextContinuationToken").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| wrong("it goes on but has no token"))?;
        page.next = Some(token.to_owned());
    }
    Ok(page)
}

fn status(object: &Element) -> Result<Status> {
    let length = object.text("Size").and_then(|size| size.trim().parse().ok());
    let etag = object.text("ETag").map(str::trim).filter(|etag| !etag.is_empty());
    Ok(Status {
        length: length.ok_or_else(|| wrong("an entry has no size"))?,
        version: Version::from_etag(etag.ok_or_else(|| wrong("an entry has no ETag"))?),
        modified: object.text("LastModified").and_then(date).unwrap_or_default(),
        attributes: None,
    })
}

fn date(text: &str) -> Option<UnixMillis> {
    let seconds = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?.unix_timestamp();
    Some(UnixMillis(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

/// S3's `encoding-type=url`: a plus sign is a space.
fn decode(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    Ok(decoded.map_err(|error| wrong("a key is not UTF-8").with_source(error))?.into_owned())
}

fn wrong(what: &str) -> Error {
    Error::unavailable(format!("the store's reply can't be used: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(inner: &str) -> Result<ListPage> {
        let document = format!("<ListBucketResult>{inner}</ListBucketResult>");
        parse_page(document.as_bytes(), "p/")
    }

    const ENTRY: &str = "<Contents><Key>p/a%2Bb+%25+%C3%BC</Key><Size>5</Size>\
        <ETag>&quot;x&quot;</ETag><LastModified>1970-01-01T00:00:02.750Z</LastModified></Contents>";

    #[test]
    fn a_page_is_read_with_and_without_encoding() {
        let encoded = format!(
            "<EncodingType>url</EncodingType>{ENTRY}<CommonPrefixes><Prefix>p/d%2F</Prefix>\
             </CommonPrefixes><IsTruncated>true</IsTruncated>\
             <NextContinuationToken> opaque+</NextContinuationToken>"
        );
        let page = page(&encoded).expect("a page");
        assert_eq!(page.entries[0].key.as_str(), "a+b % ü");
        assert_eq!(page.entries[0].status.version.as_str(), "x");
        assert_eq!(page.entries[0].status.modified, UnixMillis(2000));
        assert_eq!(page.prefixes, ["d/"]);
        assert_eq!(page.next.as_deref(), Some(" opaque+"));
        let raw = super::tests::page(ENTRY).expect("a page");
        assert_eq!(raw.entries[0].key.as_str(), "a%2Bb+%25+%C3%BC");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let outside = ENTRY.replace("p/", "q/");
        let sizeless = ENTRY.replace("<Size>5</Size>", "<Size>-5</Size>");
        let tokenless = "<IsTruncated>true</IsTruncated>";
        let binary = ENTRY.replace("%C3", "%FF");
        let binary = format!("<EncodingType>url</EncodingType>{binary}");
        for inner in [outside.as_str(), &sizeless, tokenless, &binary, "<Contents/>", "<Cont"] {
            assert!(page(inner).is_err(), "{inner}");
        }
        let marker = ENTRY.replace("a%2Bb+%25+%C3%BC", "");
        assert_eq!(page(&marker).expect("a page"), ListPage::default());
    }
}
