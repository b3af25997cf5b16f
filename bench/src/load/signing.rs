// SPDX-License-Identifier: Apache-2.0
//! Requests signed by SigV4 headers, as the bytes that go over the wire.

use std::{fmt, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, header};
use larder_core::ByteRange;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest as _};

/// The region that requests are signed for.
pub const REGION: &str = "us-east-1";

/// An S3 key pair. Its secret never shows in Debug.
#[derive(Clone)]
pub struct Keys {
    /// The access key.
    pub access: String,
    /// The secret key.
    pub secret: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Keys {
    /// The `[default]` profile of an AWS credentials file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the key pair in {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("no [default] key pair in {}", path.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let profile = text.lines().map(str::trim).skip_while(|line| *line != "[default]").skip(1);
        let (mut access, mut secret) = (None, None);
        for line in profile.take_while(|line| !line.starts_with('[')) {
            let Some((name, value)) = line.split_once('=') else { continue };
            match name.trim() {
                "aws_access_key_id" => access = Some(value.trim().to_owned()),
                "aws_secret_access_key" => secret = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        Some(Self { access: access?, secret: secret? })
    }
}

/// A request as it goes over the wire, and the body length that its reply must have.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Head and body.
    pub bytes: Vec<u8>,
    /// The length of the reply's body, if it is known.
    pub expect: Option<u64>,
}

/// Whom requests are signed for.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The server.
    pub address: SocketAddr,
    /// The key pair it knows.
    pub keys: Keys,
}

impl Signer {
    /// A signed GET of `path` (already percent-encoded) whose reply has `length` bytes.
    pub fn get(&self, path: &str, length: u64) -> Result<Prepared> {
        let bytes = self.sign(&Method::GET, path, &[])?;
        Ok(Prepared { bytes, expect: Some(length) })
    }

    /// The same for a range of it. The range is not signed, as most clients leave it.
    pub fn get_range(&self, path: &str, range: ByteRange) -> Result<Prepared> {
        let mut bytes = self.sign(&Method::GET, path, &[])?;
        bytes.truncate(bytes.len() - 2);
        let (first, last) = (range.start, range.end - 1);
        bytes.extend_from_slice(format!("Range: bytes={first}-{last}\r\n\r\n").as_bytes());
        Ok(Prepared { bytes, expect: Some(range.length()) })
    }

    /// A signed PUT of `body` at `path`.
    pub fn put(&self, path: &str, body: &[u8]) -> Result<Prepared> {
        Ok(Prepared { bytes: self.sign(&Method::PUT, path, body)?, expect: None })
    }

    fn sign(&self, method: &Method, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        if !path.starts_with('/') {
            bail!("a request path starts with a slash, '{path}' does not");
        }
        let host = self.address.to_string();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{host}{path}"))
            .header(header::HOST, &host)
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .body(())?;
        let (mut head, ()) = request.into_parts();
        let key = Credential {
            access_key_id: self.keys.access.clone(),
            secret_access_key: self.keys.secret.clone(),
            ..Credential::default()
        };
        RequestSigner::new("s3", REGION)
            .sign_request(&Context::new(), &mut head, Some(&key), None)
            .now_or_never()
            .context("signing with a given key pair waits for nothing")??;
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_read_and_the_secret_is_not_shown() {
        let text = "[other]\naws_access_key_id = no\n[default]\n\
                    aws_access_key_id = AK\naws_secret_access_key = S/K+\n[more]\n";
        let keys = Keys::parse(text).unwrap();
        assert_eq!((keys.access.as_str(), keys.secret.as_str()), ("AK", "S/K+"));
        assert!(!format!("{keys:?}").contains("S/K+"));
        assert!(Keys::parse("[default]\naws_access_key_id = AK\n").is_none());
    }

    #[test]
    fn a_prepared_request_is_complete() {
        let keys = Keys { access: "AK".into(), secret: "SK".into() };
        let signer = Signer { address: "127.0.0.1:9710".parse().unwrap(), keys };
        let request = signer.get("/bench/4KiB/00001", 4096).unwrap();
        let text = String::from_utf8(request.bytes).unwrap();
        assert!(text.starts_with("GET /bench/4KiB/00001 HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        for part in ["host: 127.0.0.1:9710\r\n", "x-amz-date: ", "Credential=AK/", "Signature="] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(signer.get("bench", 0).is_err());
        let request = signer.get_range("/bench/x", ByteRange::new(5, 9)).unwrap();
        let text = String::from_utf8(request.bytes).unwrap();
        assert!(text.ends_with("\r\nRange: bytes=5-8\r\n\r\n"), "{text}");
        assert_eq!((text.matches("\r\n\r\n").count(), request.expect), (1, Some(4)));
    }
}
