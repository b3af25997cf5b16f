// SPDX-License-Identifier: Apache-2.0
//! ListBuckets, HeadBucket, GetBucketLocation: answered from the mount records alone.

use http::{HeaderName, HeaderValue, header};

use crate::{
    face::{Face, Question, Reply},
    refusal::Refusal,
    xml::Document,
};

/// Every bucket is here as far as a client can tell; signatures for any region are taken.
const REGION: HeaderValue = HeaderValue::from_static("us-east-1");
const REGION_HEADER: HeaderName = HeaderName::from_static("x-amz-bucket-region");
/// A mount has no date of creation, and clients want one that does not move.
const CREATED: &str = "1970-01-01T00:00:00.000Z";
/// Buckets of one answer at most, as at S3.
const BUCKETS_MAX: usize = 10_000;

/// Answers ListBuckets.
pub(crate) fn list(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    let query = &question.call.query;
    let max = match query.get("max-buckets") {
        None => BUCKETS_MAX,
        Some(text) => match text.parse() {
            Ok(max) if (1..=BUCKETS_MAX).contains(&max) => max,
            _ => {
                let message = format!("max-buckets must be between 1 and {BUCKETS_MAX}");
                return Err(Refusal::argument("max-buckets", text, message));
            }
        },
    };
    let prefix = query.get("prefix").unwrap_or("");
    let after = query.get("continuation-token").unwrap_or("");
    let mounts = face.filesystem.mounts();
    let names = mounts.iter().map(|record| record.name.as_str());
    let mut names = names.filter(|name| name.starts_with(prefix) && *name > after).peekable();
    let mut document = Document::new("ListAllMyBucketsResult");
    write_owner(&mut document);
    document.open("Buckets");
    let mut last = "";
    for name in names.by_ref().take(max) {
        document.open("Bucket");
        document.text("Name", name);
        document.text("CreationDate", CREATED);
        document.close("Bucket");
        last = name;
    }
    document.close("Buckets");
    if names.peek().is_some() {
        document.text("ContinuationToken", last);
    }
    if query.has("prefix") {
        document.text("Prefix", prefix);
    }
    Ok(to_reply(document.finish("ListAllMyBucketsResult")))
}

/// Answers HeadBucket.
pub(crate) fn head(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    face.mount_of(question.call.address.bucket())?;
    let mut reply = Reply::new(s3s::Body::empty());
    reply.headers_mut().insert(REGION_HEADER, REGION);
    Ok(reply)
}

/// Answers GetBucketLocation: an empty constraint is `us-east-1`.
pub(crate) fn location(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    face.mount_of(question.call.address.bucket())?;
    Ok(to_reply(Document::new("LocationConstraint").finish("LocationConstraint")))
}

/// The owner of everything.
pub(crate) fn write_owner(document: &mut Document) {
    document.open("Owner");
    document.text("ID", "larder");
    document.text("DisplayName", "larder");
    document.close("Owner");
}

/// A reply that is a document.
pub(crate) fn to_reply(document: String) -> Reply {
    let mut reply = Reply::new(s3s::Body::from(document));
    let value = HeaderValue::from_static("application/xml");
    reply.headers_mut().insert(header::CONTENT_TYPE, value);
    reply
}
