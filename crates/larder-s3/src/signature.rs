// SPDX-License-Identifier: Apache-2.0
//! The signatures of plain reads, checked without deriving the signing key anew.
//!
//! Nearly all requests of readers have one shape: no body, signed in the header, path and query
//! written as they are signed. Their signing key is the same all day, so it is kept, where s3s
//! derives it at each request by four HMACs; at 4 KiB that and the rest of s3s's way is a fifth
//! of what a reply costs.
//!
//! The only answer given here is "surely good". Whatever is not known, not of that shape or
//! wrong goes to s3s, which judges it anew and words the refusal: so nobody is refused by a
//! mistake made here, and all that could be wrong is to find something good that is not.
//!
//! Source: AWS General Reference, Signature Version 4, "Authenticating Requests: Using the
//! Authorization Header".

use std::{
    collections::VecDeque,
    fmt,
    sync::{PoisonError, RwLock},
};

use hmac::{Hmac, KeyInit, Mac};
use larder_core::UnixMillis;
use sha2::{Digest, Sha256};
use time::{Date, Month, Time, UtcDateTime};

use crate::{fields::Fields, keys::Keys};

/// How far the clocks of two machines may be apart, in seconds; as at S3.
const SKEW_MAX: u64 = 15 * 60;
/// Signing keys that are kept: one for each access key, day and region.
const SIGNERS_MAX: usize = 64;
/// What requests without a body say of it: the hash of nothing, or that they do not.
const PAYLOADS: [&str; 2] =
    ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "UNSIGNED-PAYLOAD"];
const OWN_PREFIX: &str = "x-amz-";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Tells good signatures of plain reads.
pub(crate) struct Signatures {
    keys: Keys,
    signers: RwLock<VecDeque<Signer>>,
}

/// Everything of a request that its signature covers or that makes it a plain read.
pub(crate) struct Signable<'a, F> {
    pub(crate) method: &'a str,
    /// Percent-encoded, as it was sent.
    pub(crate) path: &'a str,
    /// The same; empty when there is none.
    pub(crate) query: &'a str,
    pub(crate) fields: &'a F,
    /// Whether the request has no body.
    pub(crate) empty: bool,
}

/// What a key signs with on one day in one region.
struct Signer {
    access_key: String,
    date: String,
    region: String,
    key: Hmac<Sha256>,
}

/// An `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Authorization<'a> {
    access_key: &'a str,
    /// Day, region, service and the word at the end: what stands behind the access key.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    signed_headers: &'a str,
    signature: [u8; 32],
}

impl Signatures {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, signers: RwLock::default() }
    }

    /// Whether the request is a plain read with a good signature. `false` says nothing.
    pub(crate) fn is_good(&self, request: &Signable<'_, impl Fields>, now: UnixMillis) -> bool {
        self.judge(request, now).is_some()
    }

    fn judge(&self, request: &Signable<'_, impl Fields>, now: UnixMillis) -> Option<()> {
        if !request.empty || !matches!(request.method, "GET" | "HEAD") {
            return None;
        }
        let authorization = Authorization::parse(only(request.fields, "authorization")?)?;
        let instant = only(request.fields, "x-amz-date")?;
        if !instant.starts_with(authorization.date) || skew(instant, now)? > SKEW_MAX {
            return None;
        }
        let payload = only(request.fields, "x-amz-content-sha256")?;
        if !PAYLOADS.contains(&payload) {
            return None;
        }
        let canonical = canonical(request, authorization.signed_headers, payload)?;
        let text = string_to_sign(instant, authorization.scope, &canonical);
        self.verify(&authorization, text.as_bytes())
    }

    fn verify(&self, authorization: &Authorization<'_>, text: &[u8]) -> Option<()> {
        let signers = self.signers.read().unwrap_or_else(PoisonError::into_inner);
        let known = signers.iter().find(|signer| signer.is_for(authorization));
        let key = known.map(|signer| signer.key.clone());
        drop(signers);
        let is_known = key.is_some();
        let key = match key {
            Some(key) => key,
            None => self.derive(authorization)?,
        };
        let mac = key.clone().chain_update(text);
        mac.verify_slice(&authorization.signature).ok()?;
        // Kept only once it proved good: strangers can't fill the place with days and regions.
        if !is_known {
            self.keep(authorization, key);
        }
        Some(())
    }

    fn derive(&self, authorization: &Authorization<'_>) -> Option<Hmac<Sha256>> {
        let secret = self.keys.secret(authorization.access_key)?;
        let first = signing(&[b"AWS4", secret.expose().as_bytes()].concat(), authorization.date)?;
        let region = signing(&first, authorization.region)?;
        let service = signing(&region, "s3")?;
        let key = signing(&service, "aws4_request")?;
        Hmac::new_from_slice(&key).ok()
    }

    fn keep(&self, authorization: &Authorization<'_>, key: Hmac<Sha256>) {
        let mut signers = self.signers.write().unwrap_or_else(PoisonError::into_inner);
        if signers.iter().any(|signer| signer.is_for(authorization)) {
            return;
        }
        if signers.len() == SIGNERS_MAX {
            signers.pop_back();
        }
        signers.push_front(Signer {
            access_key: authorization.access_key.to_owned(),
            date: authorization.date.to_owned(),
            region: authorization.region.to_owned(),
            key,
        });
    }
}

impl Signer {
    fn is_for(&self, authorization: &Authorization<'_>) -> bool {
        self.access_key == authorization.access_key
            && self.date == authorization.date
            && self.region == authorization.region
    }
}

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signatures").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix(ALGORITHM)?.strip_prefix(' ')?.split(',');
        let mut part = |name| parts.next()?.trim_start_matches(' ').strip_prefix(name);
        let credential: &str = part("Credential=")?;
        let signed_headers = part("SignedHeaders=")?;
        let signature = from_hex(part("Signature=")?)?;
        let (access_key, scope) = credential.split_once('/')?;
        let mut words = scope.split('/');
        let (date, region) = (words.next()?, words.next()?);
        let rest = (words.next()?, words.next()?, words.next());
        let sound = rest == ("s3", "aws4_request", None)
            && parts.next().is_none()
            && date.len() == 8
            && !region.is_empty();
        sound.then_some(Self { access_key, scope, date, region, signed_headers, signature })
    }
}

/// The one value of a field that occurs once, written as it is signed: visible letters, with
/// single spaces within.
fn only<'a>(fields: &'a impl Fields, name: &str) -> Option<&'a str> {
    fields.one(name).filter(|value| value.trim() == *value && !value.contains("  "))
}

/// Seconds between `instant` (`20130524T000000Z`) and now.
fn skew(instant: &str, now: UnixMillis) -> Option<u64> {
    let bytes = instant.as_bytes();
    let number = |range: std::ops::Range<usize>| {
        let digits = instant.get(range)?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?
    };
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let small = |range| number(range).and_then(|number| u8::try_from(number).ok());
    let month = Month::try_from(small(4..6)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0..4)?), month, small(6..8)?).ok()?;
    let time = Time::from_hms(small(9..11)?, small(11..13)?, small(13..15)?).ok()?;
    let then = u64::try_from(UtcDateTime::new(date, time).unix_timestamp()).ok()?;
    Some(then.abs_diff(now.0 / 1000))
}

/// The canonical request. `None` where it is not plainly what was sent.
fn canonical(request: &Signable<'_, impl Fields>, signed: &str, payload: &str) -> Option<String> {
    let mut text = String::with_capacity(512);
    text.push_str(request.method);
    text.push('\n');
    text.push_str(Some(request.path).filter(|path| is_encoded(path, true))?);
    text.push('\n');
    push_query(&mut text, request.query)?;
    text.push('\n');
    let mut last = "";
    let mut own = 0;
    let mut host = false;
    for name in signed.split(';') {
        if name <= last || !name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return None;
        }
        for part in [name, ":", only(request.fields, name)?, "\n"] {
            text.push_str(part);
        }
        own += usize::from(name.starts_with(OWN_PREFIX));
        host |= name == "host";
        last = name;
    }
    if !host || own != request.fields.count(OWN_PREFIX) {
        return None;
    }
    for part in ["\n", signed, "\n", payload] {
        text.push_str(part);
    }
    Some(text)
}

/// The parameters in the order of their names.
fn push_query(text: &mut String, query: &str) -> Option<()> {
    if query.is_empty() {
        return Some(());
    }
    let pairs: Option<Vec<(&str, &str)>> = query.split('&').map(|it| it.split_once('=')).collect();
    let mut pairs = pairs?;
    pairs.sort_unstable();
    for (nth, (name, value)) in pairs.into_iter().enumerate() {
        if name.is_empty() || !is_encoded(name, false) || !is_encoded(value, false) {
            return None;
        }
        for part in [if nth == 0 { "" } else { "&" }, name, "=", value] {
            text.push_str(part);
        }
    }
    Some(())
}

/// Whether a text is percent-encoded exactly as it is signed: nothing that must be is not,
/// nothing that need not be is. `slashes` may stand as they are in a path.
fn is_encoded(text: &str, slashes: bool) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    };
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    let decoded = high << 4 | low;
                    // An encoded slash of a path is signed in more than one way.
                    if plain(decoded) || (decoded == b'/' && slashes) {
                        return false;
                    }
                    rest
                }
                _ => return false,
            },
            [c, rest @ ..] if plain(*c) || (*c == b'/' && slashes) => rest,
            _ => return false,
        }
    }
}

fn string_to_sign(instant: &str, scope: &str, canonical: &str) -> String {
    let mut text = String::with_capacity(160);
    for part in [ALGORITHM, "\n", instant, "\n", scope, "\n"] {
        text.push_str(part);
    }
    for byte in Sha256::digest(canonical) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

fn signing(key: &[u8], text: &str) -> Option<[u8; 32]> {
    let mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    Some(mac.chain_update(text).finalize().into_bytes().into())
}

/// Reads 64 digits in small letters.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::fields::Lines;

    /// The first example of the source ("GET Object").
    const SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";

    struct Example {
        method: &'static str,
        path: &'static str,
        query: &'static str,
        headers: Vec<(&'static str, String)>,
        empty: bool,
        now: UnixMillis,
    }

    impl Example {
        fn new() -> Self {
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/\
                 aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
                 Signature={SIGNATURE}"
            );
            Self {
                method: "GET",
                path: "/test.txt",
                query: "",
                headers: vec![
                    ("host", "examplebucket.s3.amazonaws.com".into()),
                    ("range", "bytes=0-9".into()),
                    ("x-amz-content-sha256", PAYLOADS[0].into()),
                    ("x-amz-date", "20130524T000000Z".into()),
                    ("authorization", authorization),
                ],
                empty: true,
                now: UnixMillis(1_369_353_600_000),
            }
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.headers.retain(|(known, _)| *known != name);
            self.headers.push((name, value.to_owned()));
            self
        }

        fn authorized(self, old: &str, new: &str) -> Self {
            let value = self.headers.iter().find(|(name, _)| *name == "authorization");
            let value = value.expect("the example has one").1.replacen(old, new, 1);
            self.with("authorization", &value)
        }

        fn is_good(&self) -> bool {
            let mut keys = Keys::new();
            let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
            keys.insert("AKIAIOSFODNN7EXAMPLE", secret.into()).expect("legal");
            keys.insert("OTHER", "another".into()).expect("legal");
            let signatures = Signatures::new(keys);
            let mut headers = HeaderMap::new();
            for (name, value) in &self.headers {
                headers.append(*name, HeaderValue::from_str(value).expect("legal"));
            }
            let Self { method, path, query, empty, .. } = *self;
            let request = Signable { method, path, query, fields: &headers, empty };
            let first = signatures.is_good(&request, self.now);
            assert_eq!(first, signatures.is_good(&request, self.now), "with the key kept");
            let bytes: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value)).collect();
            let lines: Vec<_> = bytes
                .iter()
                .map(|(name, value)| httparse::Header { name, value: value.as_bytes() })
                .collect();
            let fields = Lines(&lines);
            let request = Signable { method, path, query, fields: &fields, empty };
            assert_eq!(first, signatures.is_good(&request, self.now), "as it came in");
            let kept = signatures.signers.read().expect("not poisoned").len();
            assert_eq!(kept, usize::from(first), "kept once it proved good");
            first
        }
    }

    #[test]
    fn the_published_example_is_good() {
        assert!(Example::new().is_good());
        let spaced = Example::new().authorized(",SignedHeaders", ", SignedHeaders");
        assert!(spaced.is_good());
        let late = Example { now: UnixMillis(1_369_353_600_000 + 899_000), ..Example::new() };
        assert!(late.is_good());
    }

    #[test]
    fn whatever_is_changed_is_not_found_good() {
        let examples = [
            Example { method: "HEAD", ..Example::new() },
            Example { method: "PUT", ..Example::new() },
            Example { path: "/test.tx", ..Example::new() },
            Example { query: "a=b", ..Example::new() },
            Example { path: "/test%2Etxt", ..Example::new() },
            Example { empty: false, ..Example::new() },
            Example { now: UnixMillis(1_369_353_600_000 + 901_000), ..Example::new() },
            Example { now: UnixMillis(1_369_353_600_000 - 901_000), ..Example::new() },
            Example::new().with("host", "examplebucket.s3.amazonaws.org"),
            Example::new().with("range", "bytes=0-8"),
            Example::new().with("range", "bytes=0-9 "),
            Example::new().with("x-amz-date", "20130524T000001Z"),
            Example::new().with("x-amz-date", "20130524T0000-1Z"),
            Example::new().with("x-amz-content-sha256", PAYLOADS[1]),
            Example::new().with("x-amz-security-token", "not signed"),
            Example::new().authorized(SIGNATURE, &SIGNATURE.replace('f', "e")),
            Example::new().authorized(SIGNATURE, &SIGNATURE.to_uppercase()),
            Example::new().authorized(SIGNATURE, &SIGNATURE[..62]),
            Example::new().authorized("AKIAIOSFODNN7EXAMPLE", "OTHER"),
            Example::new().authorized("AKIAIOSFODNN7EXAMPLE", "NOBODY"),
            Example::new().authorized("us-east-1", "us-east-2"),
            Example::new().authorized("20130524", "20130525"),
            Example::new().authorized("/s3/", "/sts/"),
            Example::new().authorized("host;range", "range;host"),
            Example::new().authorized("host;range", "range"),
            Example::new().authorized("host;range", "host"),
            Example::new().authorized("AWS4-", "AWS4X-"),
        ];
        for example in examples {
            assert!(!example.is_good(), "{} {:?}", example.path, example.headers);
        }
        let mut twice = Example::new();
        twice.headers.push(("range", "bytes=0-9".into()));
        assert!(!twice.is_good(), "a header given twice");
    }

    #[test]
    fn only_what_is_written_as_it_is_signed_is_plain() {
        for (text, slashes) in [("/a-b_c.d~e", true), ("a%20b%2B%C3%BC", false), ("", false)] {
            assert!(is_encoded(text, slashes), "{text}");
        }
        for (text, slashes) in [
            ("a/b", false),
            ("/a%2Fb", true),
            ("a%2f", false),
            ("a%41", false),
            ("a+b", false),
            ("a b", false),
            ("%", false),
            ("%4", false),
            ("ü", false),
        ] {
            assert!(!is_encoded(text, slashes), "{text}");
        }
        let mut text = String::new();
        push_query(&mut text, "prefix=a%2Fb&list-type=2&a=").expect("plain");
        assert_eq!(text, "a=&list-type=2&prefix=a%2Fb");
        assert_eq!(push_query(&mut text, "location"), None, "s3s knows how that is signed");
    }

    #[test]
    fn instants_that_are_none() {
        let now = UnixMillis(1_369_353_600_000);
        assert_eq!(skew("20130524T000000Z", now), Some(0));
        assert_eq!(skew("20130523T235959Z", now), Some(1));
        for wrong in ["20131324T000000Z", "20130532T000000Z", "20130524T240000Z", "20130524"] {
            assert_eq!(skew(wrong, now), None, "{wrong}");
        }
    }
}
