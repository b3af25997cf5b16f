// SPDX-License-Identifier: Apache-2.0
//! One request through the proxy: count, delay, fault, origin, reply.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use larder_core::Clock;

use super::{
    body::{BoxError, Break, Content, Direction, Shape, Shaped, Turn},
    count::{Asked, Counters, Record},
    fault::{Action, Faults},
    link::Link,
    socket::ResetMark,
    timer::Timer,
};

/// Headers that concern one connection, not the message; each side makes its own.
const HOP_BY_HOP: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE];

/// A reply as the proxy sends it.
pub type Reply = Response<BoxBody<Bytes, BoxError>>;

/// What every request needs; one for the whole proxy.
pub struct Forward {
    /// Where requests go.
    pub origin: Authority,
    /// Connections to there.
    pub client: Client<HttpConnector, Shaped>,
    /// What passed.
    pub counters: Arc<Counters>,
    /// What is to be hurt.
    pub faults: Faults,
    /// Microseconds that each request waits before it goes on.
    pub delay_us: AtomicU64,
    /// The line towards the client.
    pub down: Arc<Link>,
    /// The line towards the origin.
    pub up: Arc<Link>,
    /// What the delay waits on.
    pub timer: Timer,
    /// Time.
    pub clock: Clock,
}

impl Forward {
    /// Takes one request through. An error closes the connection without a reply.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        reset: ResetMark,
    ) -> Result<Reply, io::Error> {
        let record = self.counters.begin(asked(&request));
        let action = self.faults.pick(request.method(), raw_path(request.uri()));
        if action.is_some() {
            self.counters.hurt();
        }
        self.wait(action.as_ref()).await;
        match &action {
            Some(Action::Drop) => return Err(io::Error::other("dropped by a rule")),
            Some(Action::Status { code, body, retry_after }) => {
                let reply = made_up(*code, body, *retry_after);
                record.answered(reply.status());
                record.count_reply(body.len() as u64);
                record.finish();
                return Ok(reply);
            }
            _ => {}
        }
        let mut onward = self.onward(request, &record)?;
        if action == Some(Action::WholeForRange) {
            forget_range(onward.headers_mut());
        }
        match self.client.request(onward).await {
            Ok(reply) => Ok(self.back(reply, action, (record, reset))),
            Err(error) => {
                let text = format!("the origin gave no reply: {error}\n");
                let reply = made_up(502, &text, None);
                record.answered(reply.status());
                Ok(reply)
            }
        }
    }

    async fn wait(&self, action: Option<&Action>) {
        let mut delay = Duration::from_micros(self.delay_us.load(Ordering::Relaxed));
        if let Some(Action::Delay { ms }) = action {
            delay += Duration::from_millis(*ms);
        }
        self.timer.sleep(delay).await;
    }

    /// The request as the origin gets it: everything that may be signed stays as it came.
    fn onward(
        &self,
        request: Request<Incoming>,
        record: &Arc<Record>,
    ) -> Result<Request<Shaped>, io::Error> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.origin.clone());
        head.uri = Uri::from_parts(uri).map_err(io::Error::other)?;
        head.version = Version::HTTP_11;
        strip(&mut head.headers);
        let shape = Shape {
            direction: Direction::ToOrigin,
            links: vec![Arc::clone(&self.up)],
            broken: None,
            chunk_max: usize::MAX,
            content: Content::True,
        };
        let body = Shaped::new(body, shape, Arc::clone(record), self.clock.clone());
        Ok(Request::from_parts(head, body))
    }

    /// The reply as the client gets it.
    fn back(
        &self,
        reply: Response<Incoming>,
        action: Option<Action>,
        (record, reset): (Arc<Record>, ResetMark),
    ) -> Reply {
        let (mut head, body) = reply.into_parts();
        strip(&mut head.headers);
        let mut links = vec![Arc::clone(&self.down)];
        let (mut broken, mut chunk_max, mut content) = (None, usize::MAX, Content::True);
        match action {
            Some(Action::CutAfter { bytes }) => {
                broken = Some(Break { after: bytes, turn: Turn::Reset(reset) });
            }
            Some(Action::Truncate { bytes }) => {
                broken = Some(Break { after: bytes, turn: Turn::Close });
            }
            Some(Action::StallAfter { bytes, ms }) => {
                let turn = Turn::Stall(Duration::from_millis(ms));
                broken = Some(Break { after: bytes, turn });
            }
            Some(Action::Slow { bytes_per_s }) => {
                links.push(Arc::new(Link::new(bytes_per_s)));
                chunk_max = usize::try_from(bytes_per_s / 10).unwrap_or(usize::MAX).max(1);
            }
            Some(Action::WrongRange) => shift_range(&mut head.headers),
            Some(Action::WrongLength { less }) => {
                broken = shorten(&mut head.headers, less);
            }
            Some(Action::OtherVersion) => {
                content = Content::Inverted;
                let tag = HeaderValue::from_static("\"another-version\"");
                head.headers.insert(header::ETAG, tag);
            }
            Some(
                Action::Delay { .. } | Action::Drop | Action::Status { .. } | Action::WholeForRange,
            )
            | None => {}
        }
        record.answered(head.status);
        let shape = Shape { direction: Direction::ToClient, links, broken, chunk_max, content };
        let body = Shaped::new(body, shape, record, self.clock.clone());
        Response::from_parts(head, body.boxed())
    }
}

fn asked(request: &Request<Incoming>) -> Asked {
    let text = |name| {
        let value: Option<&HeaderValue> = request.headers().get(name);
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Asked {
        method: request.method().as_str().to_owned(),
        path: raw_path(request.uri()).to_owned(),
        range: text(header::RANGE),
        if_match: text(header::IF_MATCH),
    }
}

fn raw_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// A reply that no origin gave.
fn made_up(code: u16, body: &str, retry_after: Option<u64>) -> Reply {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let mut reply = Response::new(body.map_err(|never| match never {}).boxed());
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Takes away the range and the signature over it.
fn forget_range(headers: &mut HeaderMap) {
    headers.remove(header::RANGE);
    headers.remove(header::AUTHORIZATION);
    for name in ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        headers.remove(name);
    }
}

/// Tells a length that is `less` too short, and answers where the body then ends.
fn shorten(headers: &mut HeaderMap, less: u64) -> Option<Break> {
    let told = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    let after = told.saturating_sub(less);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(after));
    Some(Break { after, turn: Turn::End })
}

/// Moves what a Content-Range header claims by one byte.
fn shift_range(headers: &mut HeaderMap) {
    let shifted = headers.get(header::CONTENT_RANGE).and_then(|value| {
        let (range, total) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        let text = format!("bytes {}-{}/{total}", first.checked_add(1)?, last.checked_add(1)?);
        HeaderValue::from_str(&text).ok()
    });
    if let Some(shifted) = shifted {
        headers.insert(header::CONTENT_RANGE, shifted);
    }
}
