// SPDX-License-Identifier: Apache-2.0
//! A proxy in front of a tiny origin, and a client that shows how a reply really ended.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use larder_bench::proxy::{
    control::Pace,
    server::{Settings, StoreProxy},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::origin::{self, Seen};

/// No exchange of these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy, its origin, and the runtime both need.
pub(crate) struct Scene {
    pub(crate) proxy: StoreProxy,
    pub(crate) seen: Seen,
    pub(crate) folder: TempDir,
    _runtime: Runtime,
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The promised length came.
    Whole,
    /// The connection was closed before.
    Closed,
    /// The connection was reset before.
    Reset,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Scene {
    pub(crate) fn new(body: Vec<u8>) -> Self {
        let (address, seen) = origin::start(body);
        Self::between(address, seen)
    }

    /// A proxy in front of an address where the test keeps its own origin, or none.
    pub(crate) fn with_origin(address: SocketAddr) -> Self {
        Self::between(address, Seen::default())
    }

    fn between(address: SocketAddr, seen: Seen) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings {
            listen: any,
            control: any,
            origin: format!("http://{address}").parse().unwrap(),
            pace: Pace::default(),
            log: Some(folder.path().join("log")),
        };
        let proxy = runtime.block_on(StoreProxy::start(settings)).unwrap();
        Self { proxy, seen, folder, _runtime: runtime }
    }

    /// One request on a connection of its own.
    pub(crate) fn send(&self, request: &[u8]) -> Got {
        exchange(self.proxy.listen, request)
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: store\r\n\r\n").as_bytes())
    }

    /// One request to the control port: the status line and the JSON that came back.
    pub(crate) fn control(&self, line: &str, body: &str) -> (String, Value) {
        let length = body.len();
        let request =
            format!("{line} HTTP/1.1\r\nHost: control\r\nContent-Length: {length}\r\n\r\n{body}");
        let got = exchange(self.proxy.control, request.as_bytes());
        let status = got.head.lines().next().unwrap_or_default().to_owned();
        (status, serde_json::from_slice(&got.body).unwrap())
    }

    /// Sets rules and insists that they were understood.
    pub(crate) fn rules(&self, rules: &str) {
        let (status, reply) = self.control("POST /faults", rules);
        assert!(status.contains("200"), "{status} {reply}");
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn exchange(address: SocketAddr, request: &[u8]) -> Got {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let bodiless = request.starts_with(b"HEAD ");
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let whole = whole_length(&bytes, bodiless);
        if whole.is_some_and(|length| bytes.len() >= length) {
            return got(bytes, End::Whole);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return got(bytes, End::Closed),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return got(bytes, End::Reset);
            }
            Err(error) => panic!("no reply within {PATIENCE:?}: {error}"),
        }
    }
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

fn whole_length(bytes: &[u8], bodiless: bool) -> Option<usize> {
    let head = head_length(bytes)?;
    if bodiless {
        return Some(head);
    }
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    Some(head + length.map_or(0, |length| length.trim().parse::<usize>().unwrap()))
}

fn got(bytes: Vec<u8>, end: End) -> Got {
    let split = head_length(&bytes).unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    Got { head, body: bytes[split..].to_vec(), end }
}
