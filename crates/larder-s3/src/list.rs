// SPDX-License-Identifier: Apache-2.0
//! ListObjects and ListObjectsV2: one page of the file system's listing each.
//!
//! A continuation token is the store's own, opaque, behind a mark of ours, so that a token from
//! elsewhere is refused instead of being sent to the store.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, header};
use larder_client::message::{ListEntry, ListPage, ListReply, ListRequest, ListStart};
use larder_core::MountName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::{
    OffsetDateTime, format_description::StaticFormatDescription, macros::format_description,
};

use crate::{
    bucket,
    face::{Face, Question, Reply},
    query::Query,
    refusal::Refusal,
    xml::Document,
};

/// Keys of one page at most, as at S3.
const KEYS_MAX: u32 = 1_000;
/// What our tokens begin with before they are encoded; counts up when their form changes.
const TOKEN_MARK: &str = "1:";
/// What `encoding-type=url` leaves as it is.
const PLAIN: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');

const INSTANT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What both versions of the operation ask.
struct Wish<'a> {
    mount: MountName,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    max: u32,
    encoding: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Raw,
    Url,
}

/// Who is named as owner of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Told,
    Silent,
}

/// Answers ListObjects.
pub(crate) async fn first_version(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    let query = &question.call.query;
    let wish = Wish::of(face, question)?;
    let marker = query.get("marker").unwrap_or("");
    let reply = wish.ask(face, wish.start_after(marker)).await?;
    let page = &reply.page;
    let mut document = Document::new("ListBucketResult");
    document.text("Name", wish.mount.as_str());
    document.text("Prefix", &wish.encoding.apply(wish.prefix));
    document.text("Marker", &wish.encoding.apply(marker));
    if let (Some(_), Some(_), Some(last)) = (&page.next, wish.delimiter, last_name(page)) {
        document.text("NextMarker", &wish.encoding.apply(last));
    }
    wish.write_rest(&mut document, page, Owner::Told);
    Ok(with_age(bucket::to_reply(document.finish("ListBucketResult")), &reply))
}

/// Answers ListObjectsV2.
pub(crate) async fn second_version(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    let query = &question.call.query;
    let wish = Wish::of(face, question)?;
    let token = query.get("continuation-token");
    let after = query.get_filled("start-after");
    let start = match (token, after) {
        (Some(token), _) => ListStart::Token(open_token(token)?),
        (None, Some(after)) => wish.start_after(after),
        (None, None) => ListStart::Beginning,
    };
    let reply = wish.ask(face, start).await?;
    let page = &reply.page;
    let mut document = Document::new("ListBucketResult");
    document.text("Name", wish.mount.as_str());
    document.text("Prefix", &wish.encoding.apply(wish.prefix));
    if let Some(after) = after {
        document.text("StartAfter", &wish.encoding.apply(after));
    }
    if let Some(token) = token {
        document.text("ContinuationToken", token);
    }
    if let Some(next) = &page.next {
        document.text("NextContinuationToken", &seal_token(next));
    }
    document.value("KeyCount", page.entries.len() + page.prefixes.len());
    let told = query.get("fetch-owner") == Some("true");
    wish.write_rest(&mut document, page, if told { Owner::Told } else { Owner::Silent });
    Ok(with_age(bucket::to_reply(document.finish("ListBucketResult")), &reply))
}

impl<'a> Wish<'a> {
    fn of(face: &Face, question: &'a Question<'_>) -> Result<Self, Refusal> {
        let query = &question.call.query;
        Ok(Self {
            mount: face.mount_of(question.call.address.bucket())?,
            prefix: query.get("prefix").unwrap_or(""),
            delimiter: query.get_filled("delimiter"),
            max: max_of(query)?,
            encoding: Encoding::of(query)?,
        })
    }

    /// Behind `name`. A name that is one of the common prefixes of this listing (a marker S3
    /// gave) stands for all keys below it.
    fn start_after(&self, name: &str) -> ListStart {
        if name.is_empty() {
            return ListStart::Beginning;
        }
        let rolled_up = self.delimiter.is_some_and(|delimiter| {
            let rest = name.strip_prefix(self.prefix).unwrap_or("");
            rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
        });
        ListStart::After(if rolled_up { format!("{name}{}", char::MAX) } else { name.to_owned() })
    }

    async fn ask(&self, face: &Face, start: ListStart) -> Result<ListReply, Refusal> {
        if self.max == 0 {
            return Ok(ListReply { page: Default::default(), age: Default::default() });
        }
        let request = ListRequest {
            mount: self.mount.clone(),
            prefix: self.prefix.to_owned(),
            delimiter: self.delimiter.map(str::to_owned),
            start,
            max: self.max,
        };
        let reply = face.filesystem.list(request).await;
        reply.map_err(|error| face.refuse_bucket(&self.mount, &error))
    }

    /// What both versions say in the same words.
    fn write_rest(&self, document: &mut Document, page: &ListPage, owner: Owner) {
        document.value("MaxKeys", self.max);
        if let Some(delimiter) = self.delimiter {
            document.text("Delimiter", &self.encoding.apply(delimiter));
        }
        if self.encoding == Encoding::Url {
            document.text("EncodingType", "url");
        }
        document.value("IsTruncated", page.next.is_some());
        for entry in &page.entries {
            self.write_entry(document, entry, owner);
        }
        for prefix in &page.prefixes {
            document.open("CommonPrefixes");
            document.text("Prefix", &self.encoding.apply(prefix));
            document.close("CommonPrefixes");
        }
    }

    fn write_entry(&self, document: &mut Document, entry: &ListEntry, owner: Owner) {
        document.open("Contents");
        document.text("Key", &self.encoding.apply(entry.key.as_str()));
        let modified = OffsetDateTime::from(entry.status.modified.to_system_time());
        document.text("LastModified", &modified.format(INSTANT).unwrap_or_default());
        document.text("ETag", &entry.status.version.to_etag());
        document.value("Size", entry.status.length);
        if owner == Owner::Told {
            bucket::write_owner(document);
        }
        let attributes = entry.status.attributes.as_deref();
        let class = attributes.and_then(|attributes| attributes.storage_class.as_deref());
        document.text("StorageClass", class.unwrap_or("STANDARD"));
        document.close("Contents");
    }
}

impl Encoding {
    fn of(query: &Query) -> Result<Self, Refusal> {
        match query.get_filled("encoding-type") {
            None => Ok(Self::Raw),
            Some("url") => Ok(Self::Url),
            Some(other) => {
                let message = "Invalid Encoding Method specified in Request";
                Err(Refusal::argument("encoding-type", other, message))
            }
        }
    }

    fn apply(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Raw => Cow::Borrowed(name),
            Self::Url => Cow::from(utf8_percent_encode(name, &PLAIN)),
        }
    }
}

fn max_of(query: &Query) -> Result<u32, Refusal> {
    let Some(text) = query.get_filled("max-keys") else { return Ok(KEYS_MAX) };
    match text.parse::<i32>().map(u32::try_from) {
        Ok(Ok(max)) => Ok(max.min(KEYS_MAX)),
        _ => {
            let message = "Argument max-keys must be an integer between 0 and 2147483647";
            Err(Refusal::argument("max-keys", text, message))
        }
    }
}

/// The last name of a page in byte order, key or common prefix.
fn last_name(page: &ListPage) -> Option<&str> {
    let entry = page.entries.last().map(|entry| entry.key.as_str());
    entry.max(page.prefixes.last().map(String::as_str))
}

fn seal_token(token: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{TOKEN_MARK}{token}"))
}

fn open_token(sealed: &str) -> Result<String, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let token = text.as_deref().and_then(|text| text.strip_prefix(TOKEN_MARK));
    token.map(str::to_owned).ok_or_else(|| {
        let message = "The continuation token provided is incorrect";
        Refusal::argument("continuation-token", sealed, message)
    })
}

fn with_age(mut reply: Reply, listing: &ListReply) -> Reply {
    reply.headers_mut().insert(header::AGE, HeaderValue::from(listing.age.as_secs()));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ours_and_opaque() {
        for token in ["", "1:x", "ü/ =\n"] {
            assert_eq!(open_token(&seal_token(token)).as_deref(), Ok(token));
        }
        for foreign in ["", "abc", "!!", "MTIz"] {
            assert!(open_token(foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn a_common_prefix_as_marker_skips_what_is_below() {
        let wish = |prefix, delimiter| Wish {
            mount: MountName::new("lake").expect("legal"),
            prefix,
            delimiter,
            max: 1,
            encoding: Encoding::Raw,
        };
        let after = |text: &str| ListStart::After(text.into());
        assert_eq!(wish("", Some("/")).start_after("a/"), after("a/\u{10ffff}"));
        assert_eq!(wish("a/", Some("/")).start_after("a/b/"), after("a/b/\u{10ffff}"));
        assert_eq!(wish("a/", Some("/")).start_after("a/"), after("a/"));
        assert_eq!(wish("", Some("/")).start_after("a/b"), after("a/b"));
        assert_eq!(wish("", None).start_after("a/"), after("a/"));
        assert_eq!(wish("", None).start_after(""), ListStart::Beginning);
    }

    #[test]
    fn url_encoding_is_undone_by_both_ways_to_decode() {
        let encoded = Encoding::Url.apply("a b+ü/\u{1}&%");
        assert_eq!(encoded, "a%20b%2B%C3%BC/%01%26%25");
    }
}
