// SPDX-License-Identifier: Apache-2.0
//! HeadObject and GetObject.
//!
//! A GET is one read: conditions are judged against the head it answers with, and the body is
//! dropped when they exclude it. So a cold conditional GET is one request to the store too.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use larder_client::{
    ReadOptions, Reading,
    message::{Outcome, PartRequest, StatRequest},
};
use larder_core::{ByteRange, Error, ErrorKind, Key, MountName, Path, Span, Status, path};

use crate::{
    address::Address,
    body::ObjectBody,
    condition::{self, Verdict},
    face::{Face, Question, Reply},
    headers::{self, Heading},
    query::Query,
    range,
    refusal::Refusal,
};

const PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");
/// Parts an upload can have at most.
const PARTS_MAX: u32 = 10_000;
/// How often a part is looked up again because the object was overwritten in between.
const PART_RETRIES_MAX: u32 = 3;
/// Headers of a request for an object that only its owner's key can decrypt.
const CUSTOMER_KEY: HeaderName =
    HeaderName::from_static("x-amz-server-side-encryption-customer-algorithm");

/// What a request wants of an object.
struct Wish {
    path: Path,
    /// `None`: the whole object, answered with 200.
    span: Option<Span>,
    part: Option<u32>,
}

/// A version and what it means for a wish.
struct Found<'a> {
    status: &'a Status,
    age: Duration,
    outcome: Outcome,
    /// The bytes of a partial reply; `None` for the whole object.
    partial: Option<ByteRange>,
}

/// Which bytes of which version hold a part.
struct Part {
    range: ByteRange,
    count: Option<u32>,
    status: Status,
}

/// Answers HeadObject.
pub(crate) async fn head(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    let wish = Wish::of(question)?;
    let request = StatRequest { path: wish.path.clone(), attributes: true };
    let reply = face.filesystem.stat(request).await;
    let reply = reply.map_err(|error| face.refuse_object(&wish.path, &error))?;
    let length = reply.status.length;
    let part = match wish.part {
        Some(number) => Some(find_part(face, &wish.path, number).await?),
        None => None,
    };
    let span = wish.span.filter(|_| condition::range_applies(question.headers, &reply.status));
    if part.as_ref().is_some_and(|part| part.status.version != reply.status.version) {
        let error = Error::stale(format!("{} was overwritten; ask again", wish.path));
        return Err(face.refuse_object(&wish.path, &error));
    }
    let partial = match (&part, span) {
        (Some(part), _) => (!part.range.is_empty()).then_some(part.range),
        (None, Some(span)) => Some(span.resolve(length).unwrap_or(ByteRange::new(length, 0))),
        (None, None) => None,
    };
    let found = Found { status: &reply.status, age: reply.age, outcome: reply.outcome, partial };
    let mut answer = found.answer(question)?;
    if answer.status().is_success() {
        let length = found.partial.map_or(length, ByteRange::length);
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        count_parts(answer.headers_mut(), part.as_ref());
    }
    Ok(answer)
}

/// Answers GetObject.
pub(crate) async fn get(face: &Face, question: &Question<'_>) -> Result<Reply, Refusal> {
    let wish = Wish::of(question)?;
    if let Some(number) = wish.part {
        return get_part(face, question, &wish.path, number).await;
    }
    let mut span = wish.span;
    let mut reading = read(face, &wish.path, span, None).await?;
    if span.is_some() && !condition::range_applies(question.headers, &reading.head.status) {
        span = None;
        reading = read(face, &wish.path, None, None).await?;
    }
    send(question, wish.path, span, reading)
}

async fn read(
    face: &Face,
    path: &Path,
    span: Option<Span>,
    pinned: Option<Status>,
) -> Result<Reading, Refusal> {
    let options = ReadOptions { span: span.unwrap_or_default(), pinned, attributes: true };
    let reading = face.filesystem.read(path, options).await;
    reading.map_err(|error| face.refuse_object(path, &error))
}

/// What a request without conditions gets: the whole object, or the range it asked for.
pub(crate) struct Plain {
    pub(crate) path: Path,
    pub(crate) reading: Reading,
    /// The bytes of the body.
    pub(crate) range: ByteRange,
}

/// Answers a GetObject that has no condition and no parameter; `range` is its header and what
/// that means.
pub(crate) async fn get_plain(
    face: &Face,
    address: &Address,
    range: Option<&(String, Span)>,
) -> Result<Plain, Refusal> {
    let path = path_of(address)?;
    let reading = read(face, &path, range.map(|(_, span)| *span), None).await?;
    let length = reading.head.status.length;
    match (reading.head.range, range) {
        (None, Some((asked, _))) => Err(not_satisfiable(asked, length)),
        (None, None) => Ok(Plain { path, reading, range: ByteRange::new(length, length) }),
        (Some(range), _) => Ok(Plain { path, reading, range }),
    }
}

/// The reply to a read that was begun for `span`.
fn send(
    question: &Question<'_>,
    path: Path,
    span: Option<Span>,
    reading: Reading,
) -> Result<Reply, Refusal> {
    let Reading { head, body } = reading;
    let range = head.range.unwrap_or(ByteRange::new(head.status.length, 0));
    let partial = span.map(|_| range);
    let found = Found { status: &head.status, age: head.age, outcome: head.outcome, partial };
    let answer = found.answer(question)?;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let body = s3s::Body::http_body_unsync(ObjectBody::new(path, range.length(), body));
    Ok(answer.map(|_| body))
}

/// A part is read from the very version in which it was found; when that is gone, it is looked
/// up again.
async fn get_part(
    face: &Face,
    question: &Question<'_>,
    path: &Path,
    number: u32,
) -> Result<Reply, Refusal> {
    let mut tries = 0;
    loop {
        let part = find_part(face, path, number).await?;
        // An empty object has one empty part, which no range names.
        let span = (!part.range.is_empty()).then_some(Span::Range(part.range));
        let options = ReadOptions {
            span: span.unwrap_or_default(),
            pinned: Some(part.status.clone()),
            attributes: true,
        };
        match face.filesystem.read(path, options).await {
            Ok(reading) => {
                let mut answer = send(question, path.clone(), span, reading)?;
                if answer.status().is_success() {
                    count_parts(answer.headers_mut(), Some(&part));
                }
                return Ok(answer);
            }
            Err(error) if error.kind() == ErrorKind::Stale && tries < PART_RETRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(face.refuse_object(path, &error)),
        }
    }
}

/// Where a part lies. An object whose store tells nothing of parts is one part.
async fn find_part(face: &Face, path: &Path, number: u32) -> Result<Part, Refusal> {
    let request = PartRequest { path: path.clone(), number };
    match face.filesystem.part(request).await {
        Ok(Some(reply)) => {
            Ok(Part { range: reply.range, count: reply.count, status: reply.status })
        }
        Ok(None) if number == 1 => {
            let request = StatRequest { path: path.clone(), attributes: true };
            let reply = face.filesystem.stat(request).await;
            let status = reply.map_err(|error| face.refuse_object(path, &error))?.status;
            Ok(Part { range: ByteRange::new(0, status.length), count: None, status })
        }
        Ok(None) => Err(no_such_part(number)),
        Err(error) if error.kind() == ErrorKind::Invalid => Err(no_such_part(number)),
        Err(error) => Err(face.refuse_object(path, &error)),
    }
}

fn no_such_part(number: u32) -> Refusal {
    let message = format!("The object has no part {number}");
    Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", message)
        .with("PartNumberRequested", number.to_string())
}

fn count_parts(headers: &mut HeaderMap, part: Option<&Part>) {
    if let Some(count) = part.and_then(|part| part.count) {
        headers.insert(PARTS_COUNT, HeaderValue::from(count));
    }
}

impl Wish {
    fn of(question: &Question<'_>) -> Result<Self, Refusal> {
        if question.headers.contains_key(CUSTOMER_KEY) {
            return Err(Refusal::not_implemented(
                "Objects encrypted with a customer's key can't be read through Larder",
            ));
        }
        let path = path_of(&question.call.address)?;
        let span = range::requested(question.headers);
        let part = part_of(&question.call.query)?;
        if part.is_some() && span.is_some() {
            return Err(Refusal::bad_request(
                "InvalidRequest",
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        Ok(Self { path, span, part })
    }
}

fn path_of(address: &Address) -> Result<Path, Refusal> {
    let refuse = |error: Error| Refusal::of(&error);
    let mount = MountName::new(address.bucket()).map_err(|_| {
        Refusal::bad_request("InvalidBucketName", "The specified bucket is not valid.")
            .with("BucketName", address.bucket())
    })?;
    if address.key().len() > path::KEY_LENGTH_MAX {
        let message = format!("The key is longer than {} bytes", path::KEY_LENGTH_MAX);
        return Err(Refusal::bad_request("KeyTooLongError", message));
    }
    Ok(Path::new(mount, Key::new(address.key()).map_err(refuse)?))
}

fn part_of(query: &Query) -> Result<Option<u32>, Refusal> {
    let Some(text) = query.get("partNumber") else { return Ok(None) };
    match text.parse() {
        Ok(number) if (1..=PARTS_MAX).contains(&number) => Ok(Some(number)),
        _ => Err(Refusal::argument(
            "partNumber",
            text,
            format!("partNumber must be an integer between 1 and {PARTS_MAX}, inclusive"),
        )),
    }
}

impl Found<'_> {
    /// The reply without its body: 200, 206 or 304.
    fn answer(&self, question: &Question<'_>) -> Result<Reply, Refusal> {
        self.check_version(&question.call.query)?;
        let mut headers = HeaderMap::with_capacity(16);
        headers::describe(self.status, (self.age, self.outcome), &mut headers);
        match condition::judge(question.headers, self.status) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                headers.remove(header::CONTENT_TYPE);
                return Ok(reply(StatusCode::NOT_MODIFIED, headers));
            }
            Verdict::Failed(condition) => {
                let message = "At least one of the pre-conditions you specified did not hold";
                let status = StatusCode::PRECONDITION_FAILED;
                let mut refusal = Refusal::new(status, "PreconditionFailed", message);
                refusal = refusal.with("Condition", condition);
                // The version that is there, so that the client can go on with it.
                for name in [header::ETAG, header::LAST_MODIFIED] {
                    if let Some(value) = headers.remove(&name) {
                        refusal.headers.push((name, value));
                    }
                }
                return Err(refusal);
            }
        }
        headers::override_from(&question.call.query, question.signed, &mut headers)?;
        let Some(range) = self.partial else { return Ok(reply(StatusCode::OK, headers)) };
        let length = self.status.length;
        if range.is_empty() {
            let asked = question.headers.get(header::RANGE);
            let asked = asked.and_then(|range| range.to_str().ok());
            return Err(not_satisfiable(asked.unwrap_or(""), length));
        }
        headers.put(header::CONTENT_RANGE, &content_range(range, length));
        Ok(reply(StatusCode::PARTIAL_CONTENT, headers))
    }

    /// Only the current version can be read; asking for it by its id is fine.
    fn check_version(&self, query: &Query) -> Result<(), Refusal> {
        let Some(wanted) = query.get("versionId") else { return Ok(()) };
        let attributes = self.status.attributes.as_deref();
        let current = attributes.and_then(|attributes| attributes.version_id.as_deref());
        if wanted == current.unwrap_or("null") {
            return Ok(());
        }
        Err(Refusal::not_implemented(format!(
            "Larder reads the current version of an object only, and '{wanted}' is not it"
        )))
    }
}

fn reply(status: StatusCode, headers: HeaderMap) -> Reply {
    let mut reply = Reply::new(s3s::Body::empty());
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}

/// Which bytes of how many a partial reply holds; the range is not empty.
pub(crate) fn content_range(range: ByteRange, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

fn not_satisfiable(asked: &str, length: u64) -> Refusal {
    let message = "The requested range is not satisfiable";
    let mut refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message)
        .with("RangeRequested", asked)
        .with("ActualObjectSize", length.to_string());
    let value = HeaderValue::try_from(format!("bytes */{length}"));
    let value = value.expect("digits can stand in a header");
    refusal.headers.push((header::CONTENT_RANGE, value));
    refusal
}
