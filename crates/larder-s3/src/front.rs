// SPDX-License-Identifier: Apache-2.0
//! What stands at the front of the bytes a client has sent: a plain read, which is answered
//! without hyper, or something else.
//!
//! A plain read is GetObject over HTTP/1.1 with a good signature in its header, no body, no
//! condition, no parameter and at most one `Range`. The one answer given here is "surely one":
//! whatever is not, is malformed, or could be read in two ways goes to hyper untouched, which
//! judges it anew.

use std::mem::MaybeUninit;

use httparse::{Request, Status};
use larder_core::{Span, UnixMillis};

use crate::{
    address::{Address, Domains},
    fields::{Fields, Lines},
    range,
    signature::{Signable, Signatures},
};

/// Header fields of a plain read at most; SDKs send about ten.
const FIELDS_MAX: usize = 32;
/// Fields that say how the connection goes on or that a body follows.
const FRAMING: [&str; 6] =
    ["content-length", "transfer-encoding", "expect", "upgrade", "te", "http2-settings"];
/// Fields that change what GetObject answers with.
const CONDITIONS: [&str; 6] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "x-amz-server-side-encryption-customer-algorithm",
];
/// The one query that means nothing: some SDKs name the operation they mean.
const IDLE_QUERY: &str = "x-id=GetObject";

/// The front of what was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// The beginning of a head, or nothing.
    Partial,
    /// A plain read, to be answered at once.
    Plain(PlainRead),
    /// One request, behind which the connection goes on.
    Single,
    /// Something after which nobody knows: it and all that follows is hyper's.
    Foreign,
}

/// A plain read, its signature found good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlainRead {
    /// Bytes of its head.
    pub(crate) length: usize,
    /// The path as it was sent.
    pub(crate) resource: String,
    pub(crate) address: Address,
    /// The `Range` header and what it means, unless it is to be ignored.
    pub(crate) range: Option<(String, Span)>,
}

/// Who can tell a plain read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) signatures: &'a Signatures,
    pub(crate) domains: &'a Domains,
    pub(crate) now: UnixMillis,
}

impl Judge<'_> {
    /// Looks at all that was received and not yet answered.
    pub(crate) fn front(&self, received: &[u8]) -> Front {
        let mut lines = [MaybeUninit::uninit(); FIELDS_MAX];
        let mut request = Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(received, &mut lines) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Front::Partial,
            Err(_) => return Front::Foreign,
        };
        let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
        else {
            return Front::Foreign;
        };
        let fields = Lines(request.headers);
        if FRAMING.iter().any(|name| fields.has(name)) || !goes_on(&fields) {
            return Front::Foreign;
        }
        let plain = self.plain(method, target, &fields);
        plain.map_or(Front::Single, |plain| Front::Plain(PlainRead { length, ..plain }))
    }

    fn plain(&self, method: &str, target: &str, fields: &Lines<'_>) -> Option<PlainRead> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let unconditional = !CONDITIONS.iter().any(|name| fields.has(name));
        if method != "GET" || !unconditional || !(query.is_empty() || query == IDLE_QUERY) {
            return None;
        }
        let range = match fields.count_named("range") {
            0 => None,
            1 => {
                let text = fields.one("range")?;
                range::parse(text).map(|span| (text.to_owned(), span))
            }
            _ => return None,
        };
        let address = Address::of(path, fields.one("host"), self.domains)?;
        if !matches!(address, Address::Object { .. }) {
            return None;
        }
        let request = Signable { method, path, query, fields, empty: true };
        let resource = path.to_owned();
        let good = self.signatures.is_good(&request, self.now);
        good.then_some(PlainRead { length: 0, resource, address, range })
    }
}

/// Whether the client will go on with this connection after the reply.
fn goes_on(fields: &Lines<'_>) -> bool {
    let kept = || fields.one("connection").is_some_and(|it| it.eq_ignore_ascii_case("keep-alive"));
    !fields.has("connection") || kept()
}
