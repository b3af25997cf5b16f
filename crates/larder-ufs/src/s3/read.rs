// SPDX-License-Identifier: Apache-2.0
//! GET and HEAD: bytes and statuses.
//!
//! A store may ignore ranges, conditions or both; the answer is checked against what was asked,
//! so that the caller gets what the contract says from any of them.

use futures::StreamExt;
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{IF_MATCH, IF_NONE_MATCH, RANGE},
};
use hyper::body::Incoming;
use larder_core::{ByteRange, Error, Key, Result, Span, Status, Version};

use crate::{Condition, Content, PartInfo, ReadOutcome};

use super::{
    client::Call,
    failure, head,
    receive::{Receive, Rest, Waiting, Wanted},
    store::S3Store,
};

/// Error documents behind a head that already says everything are read up to here, so that the
/// connection can be used again.
const DRAIN_MAX: usize = 16 * 1024;
/// Where a store sends the whole for a part, what lies before the part is read and thrown away up
/// to here; beyond that another try is cheaper.
const SKIP_MAX: u64 = 8 << 20;

impl S3Store {
    /// HEAD of the whole object.
    pub(super) async fn head(&self, key: &Key) -> Result<Status> {
        let name = self.client.endpoint.name_to_find(key)?;
        let reply = self.client.send(Call::new(Method::HEAD, Some(&name))).await?;
        let what = self.client.endpoint.uri(key);
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, &what).await);
        }
        let length = head::content_length(reply.headers(), &what)?;
        head::status(reply.headers(), length, &what)
    }

    /// HEAD of one part.
    pub(super) async fn head_part(
        &self,
        key: &Key,
        number: u32,
    ) -> Result<Option<(Status, PartInfo)>> {
        let what = self.client.endpoint.uri(key);
        if !(1..=10_000).contains(&number) {
            return Err(Error::invalid(format!("{number} is not a part number; use 1 to 10,000")));
        }
        let name = self.client.endpoint.name_to_find(key)?;
        let text = number.to_string();
        let query = [("partNumber", text.as_str())];
        let reply = self.client.send(Call::new(Method::HEAD, Some(&name)).query(&query)).await?;
        match reply.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Error::invalid(format!("{what} has no part {number}")));
            }
            _ => return Err(self.client.refused(reply, &what).await),
        }
        // A store that ignores part numbers tells no range.
        let Some((range, total)) = head::content_range(reply.headers())? else { return Ok(None) };
        let count = head::number(reply.headers(), &HeaderName::from_static("x-amz-mp-parts-count"));
        if count.is_none() && range != ByteRange::new(0, total) {
            return Ok(None);
        }
        let status = head::status(reply.headers(), total, &what)?;
        Ok(Some((status, PartInfo { range, count })))
    }

    /// GET of a span.
    pub(super) async fn get(
        &self,
        key: &Key,
        span: Span,
        condition: &Condition,
    ) -> Result<ReadOutcome> {
        let name = self.client.endpoint.name_to_find(key)?;
        let what = self.client.endpoint.uri(key);
        let range = match span {
            Span::All => None,
            Span::From(start) => Some(format!("bytes={start}-")),
            Span::Range(range) if !range.is_empty() => {
                Some(format!("bytes={}-{}", range.start, range.end - 1))
            }
            Span::Last(count) if count > 0 => Some(format!("bytes=-{count}")),
            // HTTP can't ask for no bytes.
            Span::Range(_) | Span::Last(_) => {
                return checked(self.head(key).await?, condition, &what);
            }
        };
        let mut call = Call::new(Method::GET, Some(&name));
        if let Some(range) = range {
            call.headers.insert(RANGE, header_value(&range)?);
        }
        // A weak tag never matches at the store (RFC 9110 §13.1.1); it is compared below.
        match condition {
            Condition::Match(version) if !version.as_str().starts_with("W/") => {
                call.headers.insert(IF_MATCH, header_value(&version.to_etag())?);
            }
            Condition::NoneMatch(version) => {
                call.headers.insert(IF_NONE_MATCH, header_value(&version.to_etag())?);
            }
            Condition::Match(_) | Condition::None => {}
        }
        let reply = self.client.send(call).await?;
        match (reply.status(), condition) {
            (StatusCode::OK, _) => self.content(reply, span, condition, &what),
            (StatusCode::PARTIAL_CONTENT, _) if span != Span::All => {
                self.content(reply, span, condition, &what)
            }
            (StatusCode::NOT_MODIFIED, Condition::NoneMatch(_)) => Ok(ReadOutcome::Unchanged),
            (StatusCode::RANGE_NOT_SATISFIABLE, _) if span != Span::All => {
                self.drain(reply).await;
                let status = self.meter.count("stat", self.head(key)).await?;
                if span.resolve(status.length).is_some() {
                    // It grew between the two requests.
                    return Err(Error::unavailable(format!("{what} changes as it is read")));
                }
                checked(status, condition, &what)
            }
            _ => Err(self.client.refused(reply, &what).await),
        }
    }

    /// A reply with bytes, checked against what was asked.
    fn content(
        &self,
        reply: Response<Incoming>,
        span: Span,
        condition: &Condition,
        what: &str,
    ) -> Result<ReadOutcome> {
        let (parts, body) = reply.into_parts();
        let partial = match parts.status {
            StatusCode::PARTIAL_CONTENT => head::content_range(&parts.headers)?,
            _ => None,
        };
        if parts.status == StatusCode::PARTIAL_CONTENT && partial.is_none() {
            return Err(Error::unavailable(format!(
                "the store gave a part of {what} and did not say which"
            )));
        }
        let total = match partial {
            Some((_, total)) => total,
            None => head::content_length(&parts.headers, what)?,
        };
        let status = head::status(&parts.headers, total, what)?;
        match condition {
            Condition::Match(version) if *version != status.version => return Err(stale(what)),
            Condition::NoneMatch(version) if *version == status.version => {
                return Ok(ReadOutcome::Unchanged);
            }
            _ => {}
        }
        let Some(range) = span.resolve(total) else { return Ok(ReadOutcome::OutOfRange(status)) };
        let wanted = match partial {
            Some((given, _)) if given == range => {
                head::agrees(&parts.headers, range.length(), what)?;
                Wanted { skip: 0, length: range.length(), rest: Rest::Refuse }
            }
            Some((given, _)) => {
                return Err(Error::unavailable(format!(
                    "the store gave bytes {given} of {what} where {range} were asked for"
                )));
            }
            None if range == ByteRange::new(0, total) => {
                Wanted { skip: 0, length: total, rest: Rest::Refuse }
            }
            None if range.start > SKIP_MAX => {
                return Err(Error::unavailable(format!(
                    "the store gave all of {what} where bytes {range} were asked for"
                )));
            }
            None => Wanted { skip: range.start, length: range.length(), rest: Rest::Leave },
        };
        let waiting = Waiting::new(self.client.clock.clone(), self.client.read_timeout());
        let body = Receive::new(body, wanted, waiting, what).boxed();
        Ok(ReadOutcome::Content(Content { status, range, body }))
    }

    async fn drain(&self, reply: Response<Incoming>) {
        let (clock, timeout) = (&self.client.clock, self.client.read_timeout());
        // What is read here is of no interest, and neither is why it broke off.
        let _ = failure::collect(reply.into_body(), DRAIN_MAX, clock, timeout).await;
    }
}

/// The answer for a span without bytes, with the condition held against a status.
fn checked(status: Status, condition: &Condition, what: &str) -> Result<ReadOutcome> {
    match condition {
        Condition::Match(version) if *version != status.version => Err(stale(what)),
        Condition::NoneMatch(version) if *version == status.version => Ok(ReadOutcome::Unchanged),
        _ => Ok(ReadOutcome::OutOfRange(status)),
    }
}

fn stale(what: &str) -> Error {
    Error::stale(format!("{what} has a new version"))
}

fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| {
        let version = Version::new(text);
        Error::invalid(format!("{version:?} can't stand in a header")).with_source(error)
    })
}
