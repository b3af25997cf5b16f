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
const FRAMING: [&str; 5] = ["transfer-encoding", "expect", "upgrade", "te", "http2-settings"];
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
    /// One request without a body, behind which the connection goes on; so many bytes.
    Single(usize),
    /// Something after which nobody knows: it and all that follows is hyper's.
    Foreign,
}

/// A plain read, its signature found good.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let framed = FRAMING.iter().any(|name| fields.has(name)) || !is_bodiless(&fields);
        if framed || !goes_on(&fields) {
            return Front::Foreign;
        }
        let plain = self.plain(method, target, &fields);
        plain.map_or(Front::Single(length), |plain| Front::Plain(PlainRead { length, ..plain }))
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

/// Whether no body follows: nothing is said of one, or once that it is empty, as some clients do.
fn is_bodiless(fields: &Lines<'_>) -> bool {
    !fields.has("content-length") || fields.one("content-length") == Some("0")
}

/// Whether the client will go on with this connection after the reply.
fn goes_on(fields: &Lines<'_>) -> bool {
    let kept = || fields.one("connection").is_some_and(|it| it.eq_ignore_ascii_case("keep-alive"));
    !fields.has("connection") || kept()
}

#[cfg(test)]
mod tests {
    use larder_core::ByteRange;

    use super::*;
    use crate::keys::Keys;

    /// The first example of the source of SigV4 for S3 ("GET Object").
    const EXAMPLE: &str = "GET /test.txt HTTP/1.1\r\n\
        Host: examplebucket.s3.amazonaws.com\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/\
        aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\
        Range: bytes=0-9\r\n\
        x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n\
        x-amz-date: 20130524T000000Z\r\n\r\n";

    fn front(received: &str) -> Front {
        let mut keys = Keys::new();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        keys.insert("AKIAIOSFODNN7EXAMPLE", secret.into()).expect("legal");
        let (signatures, domains) =
            (Signatures::new(keys), Domains::new(&["s3.amazonaws.com".into()]));
        let now = UnixMillis(1_369_353_600_000);
        Judge { signatures: &signatures, domains: &domains, now }.front(received.as_bytes())
    }

    /// The example with a line more.
    fn with(line: &str) -> Front {
        front(&EXAMPLE.replacen("\r\n", &format!("\r\n{line}\r\n"), 1))
    }

    #[test]
    fn a_plain_read_is_told() {
        let (bucket, key) = ("examplebucket".into(), "test.txt".into());
        let plain = PlainRead {
            length: EXAMPLE.len(),
            resource: "/test.txt".into(),
            address: Address::Object { bucket, key },
            range: Some(("bytes=0-9".into(), Span::Range(ByteRange::new(0, 10)))),
        };
        assert_eq!(front(EXAMPLE), Front::Plain(plain.clone()));
        assert_eq!(front(&EXAMPLE.repeat(2)), Front::Plain(plain), "the first of two");
        for more in ["user-agent: x", "connection: Keep-Alive", "Content-Length: 0"] {
            assert!(matches!(with(more), Front::Plain(_)), "{more}");
        }
    }

    #[test]
    fn nothing_is_told_of_half_a_head() {
        for length in 0..EXAMPLE.len() {
            assert_eq!(front(&EXAMPLE[..length]), Front::Partial, "{length} bytes");
        }
    }

    #[test]
    fn one_request_for_hyper() {
        for line in [
            "if-match: \"a\"",
            "If-None-Match: \"a\"",
            "if-modified-since: Wed, 01 Jan 2020 00:00:01 GMT",
            "if-range: \"a\"",
            "range: bytes=0-9",
            "host: other",
            "x-amz-security-token: not signed",
            "x-amz-server-side-encryption-customer-algorithm: AES256",
        ] {
            let length = EXAMPLE.len() + line.len() + 2;
            assert_eq!(with(line), Front::Single(length), "{line}");
        }
        for (old, new) in [
            ("GET", "HEAD"),
            ("GET", "PUT"),
            ("/test.txt", "/test.txt?versionId=1"),
            ("/test.txt", "http://examplebucket.s3.amazonaws.com/test.txt"),
            ("/test.txt", "/"),
            ("f0e8", "f0e9"),
            ("20130524T000000Z", "20130525T000000Z"),
            ("Authorization: AWS4-HMAC-SHA256", "x: "),
        ] {
            let head = EXAMPLE.replacen(old, new, 1);
            let single = Front::Single(head.len());
            assert_eq!(front(&format!("{head}{EXAMPLE}")), single, "{new}");
        }
    }

    #[test]
    fn a_connection_for_hyper() {
        for line in [
            "Content-Length: 5",
            "content-length: 00",
            "content-length: +0",
            "content-length: 0\r\ncontent-length: 0",
            "content-length: 0\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked",
            "expect: 100-continue",
            "upgrade: h2c",
            "connection: close",
            "connection: keep-alive\r\nconnection: keep-alive",
            "connection: keep-alive, upgrade",
            "no colon",
            "blank : before the colon",
            "a: b\r\n".repeat(FIELDS_MAX).trim_end(),
        ] {
            assert_eq!(with(line), Front::Foreign, "{line}");
        }
        for version in ["HTTP/1.0", "HTTP/2.0", "HTTP"] {
            assert_eq!(front(&EXAMPLE.replacen("HTTP/1.1", version, 1)), Front::Foreign);
        }
        assert_eq!(front("\u{16}\u{3}\u{1} a TLS client"), Front::Foreign);
    }
}
