// SPDX-License-Identifier: Apache-2.0
//! A small client of our own: raw HTTP/1.1 over a socket, so that nothing is normalised on the
//! way, and SigV4 written from its specification, so that it shares no mistake with s3s.

use std::{collections::HashMap, fmt::Write, net::SocketAddr};

use larder_core::Clock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::crypto::{Checksum, Sha256};
use time::{OffsetDateTime, macros::format_description};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::worker::{ACCESS, SECRET};

const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request that is built up, signed and sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// Percent-encoded.
    pub(crate) path: String,
    /// Decoded names and values.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended before its announced length.
    pub(crate) short: bool,
}

/// Who signs, and when.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(crate) access: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) at: OffsetDateTime,
}

impl Default for Signer {
    fn default() -> Self {
        let at = OffsetDateTime::from(Clock::system().now().to_system_time());
        Self { access: ACCESS, secret: SECRET, at }
    }
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn head(path: &str) -> Self {
        Self::new("HEAD", path)
    }

    /// `path` is percent-encoded already.
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        let (query, headers, body) = (Vec::new(), Vec::new(), Vec::new());
        Self { method, path: path.into(), query, headers, body }
    }

    /// An object by its raw key.
    pub(crate) fn object(key: &str) -> Self {
        Self::get(&format!("/lake/{}", encode_path(key)))
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_lowercase(), value.into()));
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Signs in the header, then sends.
    pub(crate) async fn send(self, address: SocketAddr) -> Response {
        self.sign(address, &Signer::default()).send_unsigned(address).await
    }

    pub(crate) async fn send_unsigned(self, address: SocketAddr) -> Response {
        let mut connection = Connection::open(address).await;
        connection.exchange(&self).await
    }

    fn host(&self, address: SocketAddr) -> String {
        let given = self.headers.iter().find(|(name, _)| name == "host");
        given.map_or_else(|| address.to_string(), |(_, host)| host.clone())
    }

    /// Adds an `Authorization` header over every header there is.
    pub(crate) fn sign(mut self, address: SocketAddr, signer: &Signer) -> Self {
        let host = self.host(address);
        self.headers.retain(|(name, _)| name != "host");
        self.headers.push(("host".into(), host));
        self.headers.push(("x-amz-date".into(), signer.instant()));
        self.headers.push(("x-amz-content-sha256".into(), EMPTY_HASH.into()));
        self.headers.sort();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let signature = signer.signature(&self, &names, EMPTY_HASH);
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            signer.access,
            signer.scope()
        );
        self.headers.push(("authorization".into(), value));
        self
    }

    /// Moves the signature into the query.
    pub(crate) fn presign(mut self, address: SocketAddr, signer: &Signer, expires: &str) -> Self {
        let host = self.host(address);
        self.headers.retain(|(name, _)| name != "host");
        self.headers.push(("host".into(), host));
        let credential = format!("{}/{}", signer.access, signer.scope());
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &signer.instant()),
            ("X-Amz-Expires", expires),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            self = self.query(name, value);
        }
        let signature = signer.signature(&self, "host", "UNSIGNED-PAYLOAD");
        self.query("X-Amz-Signature", &signature)
    }

    fn encoded_query(&self) -> Vec<(String, String)> {
        let encode = |text: &str| utf8_percent_encode(text, &UNRESERVED).to_string();
        self.query.iter().map(|(name, value)| (encode(name), encode(value))).collect()
    }

    /// The bytes on the wire; `host` is added unless it is there.
    pub(crate) fn to_wire(&self, host: &str) -> Vec<u8> {
        let query: Vec<String> =
            self.encoded_query().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut text = format!("{} {}{query} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            let _ = write!(text, "host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(text, "content-length: {}\r\n", self.body.len());
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl Signer {
    fn instant(&self) -> String {
        let form = format_description!("[year][month][day]T[hour][minute][second]Z");
        self.at.format(form).unwrap()
    }

    fn scope(&self) -> String {
        format!("{}/us-east-1/s3/aws4_request", &self.instant()[..8])
    }

    fn signature(&self, request: &Request, names: &str, payload: &str) -> String {
        let mut query = request.encoded_query();
        query.sort();
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, query.join("&"));
        for (name, value) in &request.headers {
            if names.split(';').any(|signed| signed == name) {
                let _ = writeln!(canonical, "{name}:{}", value.trim());
            }
        }
        let _ = write!(canonical, "\n{names}\n{payload}");
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{}\n{}",
            self.instant(),
            self.scope(),
            hex(&Sha256::checksum(canonical.as_bytes()))
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in self.scope().split('/') {
            key = hmac(&key, step.as_bytes()).to_vec();
        }
        hex(&hmac(&key, text.as_bytes()))
    }
}

/// RFC 2104 with SHA-256, for keys of one block at most.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
        block.to_vec()
    };
    let inner = Sha256::checksum(&[pad(0x36), message.to_vec()].concat());
    Sha256::checksum(&[pad(0x5c), inner.to_vec()].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key as SigV4 wants it in a path.
pub(crate) fn encode_path(key: &str) -> String {
    const PLAIN: AsciiSet = UNRESERVED.remove(b'/');
    utf8_percent_encode(key, &PLAIN).to_string()
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a document is UTF-8")
    }

    /// What an element of the document holds, as it is written there.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let open = format!("<{name}>");
        let pieces = text.split(&open).skip(1);
        pieces.filter_map(|rest| Some(rest.split_once("</")?.0.to_owned())).collect()
    }

    /// Status and S3's code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.element("Code").unwrap_or_default())
    }
}

/// One connection, for requests one after the other.
pub(crate) struct Connection {
    pub(crate) stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the face listens");
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: address.to_string() }
    }

    pub(crate) async fn exchange(&mut self, request: &Request) -> Response {
        self.stream.get_mut().write_all(&request.to_wire(&self.host)).await.unwrap();
        self.receive(request.method).await.expect("a reply")
    }

    /// The next reply; `None` when the connection is closed before it.
    pub(crate) async fn receive(&mut self, method: &str) -> Option<Response> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.ok()?;
        let status = line.split(' ').nth(1)?.parse().expect("a status");
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        assert!(!headers.contains_key("transfer-encoding"), "no reply is chunked");
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let bodiless = method == "HEAD" || status == 304;
        let mut body = vec![0; if bodiless { 0 } else { length }];
        let mut filled = 0;
        while filled < body.len() {
            match self.stream.read(&mut body[filled..]).await {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        let short = filled < body.len();
        body.truncate(filled);
        Some(Response { status, headers, body, short })
    }
}
