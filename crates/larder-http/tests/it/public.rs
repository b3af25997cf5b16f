// SPDX-License-Identifier: Apache-2.0
//! What anybody may ask over TCP.

use larder_core::ErrorKind;
use larder_http::{HttpSettings, PublicFace, Readiness};
use tokio::sync::oneshot;

use crate::{Peer, ask, facts};

struct Running {
    peer: Peer,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    let readiness = Readiness::waiting_for(&["faces"]);
    let settings = HttpSettings { listen: "127.0.0.1:0".parse().expect("legal") };
    let face = PublicFace::bind(settings).await.expect("a free port");
    let peer = Peer::Tcp(face.address());
    let (stop, stopped) = oneshot::channel();
    let run = face.run(facts(&readiness), async {
        // A test that does not care drops the sender and wants it to go on.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Running { peer, readiness, stop, task: tokio::spawn(run) }
}

#[tokio::test]
async fn ready_only_when_all_parts_are() {
    let running = start().await;
    assert_eq!(ask(&running.peer, "GET", "/healthz", "").await.code, 200);
    let reply = ask(&running.peer, "GET", "/readyz", "").await;
    assert_eq!((reply.code, reply.text().as_str()), (503, "waiting for: faces\n"));
    running.readiness.set_ready("faces");
    assert_eq!(ask(&running.peer, "GET", "/readyz", "").await.code, 200);
    running.readiness.set_missing("faces");
    assert_eq!(ask(&running.peer, "GET", "/readyz", "").await.code, 503);
    running.stop.send(()).expect("running");
    running.task.await.expect("it ends cleanly");
}

#[tokio::test]
async fn metrics_are_open_metrics_text_with_fresh_gauges() {
    let running = start().await;
    ask(&running.peer, "GET", "/healthz", "").await;
    let reply = ask(&running.peer, "GET", "/metrics", "").await;
    assert!(reply.headers["content-type"].to_str().expect("text").contains("openmetrics"));
    let text = reply.text();
    for line in [
        "larder_pages_resident_bytes 10",
        "larder_memory_used_bytes 4096",
        "larder_build_info{version=\"1.2.3\"} 1",
        "larder_face_requests_total{face=\"http\",operation=\"healthz\",code=\"ok\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn status_tells_no_file_and_no_secret() {
    let running = start().await;
    let status = ask(&running.peer, "GET", "/api/v1/status", "").await.json();
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["mounts"][0]["name"], "lake");
    assert_eq!(status["workers"][0]["resident_bytes"], 10);
    assert_eq!(status["ready"], false);
    let text = status.to_string();
    assert!(!text.contains("secret-host") && !text.contains("larder.sock"), "{text}");
    for uri in ["/v1/cat?path=/lake/a%20b", "/v1/stat?path=/lake/a%20b", "/", "/v1/load"] {
        let reply = ask(&running.peer, "GET", uri, "").await;
        assert_eq!(reply.code, 404, "{uri}");
        assert_eq!(reply.json()["kind"], "NotFound");
    }
    assert_eq!(ask(&running.peer, "POST", "/metrics", "").await.code, 405);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence() {
    let running = start().await;
    let Peer::Tcp(listen) = running.peer else { unreachable!("started on TCP") };
    let error = PublicFace::bind(HttpSettings { listen }).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("is taken by another process"), "{error}");
}
