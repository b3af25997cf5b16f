// SPDX-License-Identifier: Apache-2.0
//! The HTTP face against its front door: a worker with one file in memory behind it, and real
//! sockets before it.

mod control;
mod public;
mod worker;

use std::{path::PathBuf, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use larder_client::{Filesystem, MountRecord, Parts};
use larder_cluster::{
    member::{Member, WorkerId},
    registry::local::LocalRegistry,
};
use larder_core::{Clock, MemoryBudget, Metrics, MountName};
use larder_http::{FaceAddress, Facts, Readiness};
use tokio::net::{TcpStream, UnixStream};
use worker::OneFile;

fn facts(readiness: &Readiness) -> Facts {
    let record = MountRecord {
        name: MountName::new("lake").expect("legal"),
        uri: "s3://lake".into(),
        endpoint: None,
        freshness: Default::default(),
        stale_if_error: None,
        prices: None,
    };
    let member = Member { id: WorkerId(1), weight: 1, address: String::new() };
    let filesystem = Filesystem::new(Parts {
        registry: Arc::new(LocalRegistry::new(member, vec![record.clone()])),
        worker: Arc::new(OneFile(record)),
        budget: MemoryBudget::new(8 << 20),
        clock: Clock::system(),
        metrics: Arc::new(Metrics::new()),
    });
    let control = FaceAddress { face: "control".into(), address: "/x/larder.sock".into() };
    let s3 = FaceAddress { face: "s3".into(), address: "http://127.0.0.1:9710".into() };
    Facts { filesystem, readiness: readiness.clone(), faces: vec![s3, control], version: "1.2.3" }
}

/// Where a request goes.
enum Peer {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

/// A whole reply: code, headers and body, or how the body broke off.
struct Reply {
    code: u16,
    headers: http::HeaderMap,
    body: Result<Bytes, hyper::Error>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8(self.body.as_ref().expect("whole").to_vec()).expect("text")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }
}

async fn ask(peer: &Peer, method: &str, uri: &str, body: &'static str) -> Reply {
    match peer {
        Peer::Tcp(address) => {
            let stream = TcpStream::connect(address).await.expect("connected");
            talk(TokioIo::new(stream), method, uri, body).await
        }
        Peer::Unix(path) => {
            let stream = UnixStream::connect(path).await.expect("connected");
            talk(TokioIo::new(stream), method, uri, body).await
        }
    }
}

async fn talk(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    method: &str,
    uri: &str,
    body: &'static str,
) -> Reply {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("connected");
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "x")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("legal");
    let response = sender.send_request(request).await.expect("answered");
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(|whole| whole.to_bytes());
    Reply { code: head.status.as_u16(), headers: head.headers, body }
}
