// SPDX-License-Identifier: Apache-2.0
//! What the owner of the state directory may ask over the Unix socket.

use std::{fs, os::unix::fs::PermissionsExt};

use larder_core::ErrorKind;
use larder_http::{ControlFace, Readiness};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{Peer, ask, facts};

struct Running {
    directory: TempDir,
    peer: Peer,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("larder.sock");
    let face = ControlFace::bind(&path).await.expect("free");
    let (stop, stopped) = oneshot::channel();
    let run = face.run(facts(&Readiness::default()), async {
        // A test that does not care drops the sender and wants it to go on.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Running { directory, peer: Peer::Unix(path), stop, task: tokio::spawn(run) }
}

#[tokio::test]
async fn only_the_owner_can_reach_it_and_it_goes_with_its_process() {
    let running = start().await;
    let path = running.directory.path().join("larder.sock");
    let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(path.as_path()), 0o600);
    assert_eq!(mode(running.directory.path()), 0o700);
    let error = ControlFace::bind(&path).await.expect_err("alive");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let pid = format!("already running (pid {})", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    running.stop.send(()).expect("running");
    running.task.await.expect("it ends cleanly");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_process_leaves_nothing_in_the_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("larder.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "the standard library leaves the file");
    ControlFace::bind(&path).await.expect("taken over");
    fs::write(&path, "not a socket").expect("written");
    assert_eq!(ControlFace::bind(&path).await.expect_err("in the way").kind(), ErrorKind::Invalid);
    let long = directory.path().join("x".repeat(120));
    assert_eq!(ControlFace::bind(&long).await.expect_err("long").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn stat_list_explain_and_status_are_json() {
    let Running { peer, directory: _directory, .. } = start().await;
    let stat = ask(&peer, "GET", "/v1/stat?path=%2Flake%2Fa%20b", "").await.json();
    assert_eq!(stat["path"], "/lake/a b");
    assert_eq!(stat["status"]["length"], 10);
    assert_eq!(stat["outcome"], "hit");
    let list = ask(&peer, "GET", "/v1/list?path=/lake/a&delimiter=/", "").await.json();
    assert_eq!(list["entries"][0]["key"], "a b");
    let explained = ask(&peer, "GET", "/v1/explain?path=/lake/a%20b", "").await.json();
    assert_eq!(explained["uri"], "s3://lake/a b");
    let status = ask(&peer, "GET", "/v1/status", "").await.json();
    assert_eq!(status["workers"][0]["mounts"][0]["last_error"], "secret-host refused");
}

#[tokio::test]
async fn cat_streams_with_its_length() {
    let Running { peer, directory: _directory, .. } = start().await;
    let reply = ask(&peer, "GET", "/v1/cat?path=/lake/a%20b", "").await;
    assert_eq!(reply.headers["content-length"], "10");
    assert_eq!(reply.text(), "0123456789");
    let part = ask(&peer, "GET", "/v1/cat?path=/lake/a%20b&offset=2&length=3", "").await;
    assert_eq!(part.text(), "234");
    assert_eq!(ask(&peer, "GET", "/v1/cat?path=/lake/a%20b&offset=8", "").await.text(), "89");
    let behind = ask(&peer, "GET", "/v1/cat?path=/lake/a%20b&offset=99", "").await;
    assert_eq!((behind.code, behind.text().as_str()), (200, ""));
    let broken = ask(&peer, "GET", "/v1/cat?path=/lake/broken", "").await;
    assert!(broken.body.is_err(), "a body that breaks off is never taken for a whole one");
}

#[tokio::test]
async fn load_is_a_stream_of_lines_and_free_says_what_it_gave_back() {
    let Running { peer, directory: _directory, .. } = start().await;
    let reply = ask(&peer, "POST", "/v1/load", r#"{"path":"/lake/"}"#).await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let text = reply.text();
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["progress"]["done"], true);
    assert_eq!(last["progress"]["files_loaded"], 1);
    let freed = ask(&peer, "POST", "/v1/free", r#"{"path":"/lake/a b"}"#).await.json();
    assert_eq!(freed["bytes"], 10);
    let body = r#"{"path":"/lake/a","recursive":true}"#;
    assert_eq!(ask(&peer, "POST", "/v1/free", body).await.json()["bytes"], 20);
}

#[tokio::test]
async fn errors_have_their_code_kind_and_sentence() {
    let Running { peer, directory: _directory, .. } = start().await;
    for (uri, code, kind) in [
        ("/v1/stat?path=/lake/none", 404, "NotFound"),
        ("/v1/stat?path=/sea/x", 404, "NotFound"),
        ("/v1/stat?path=/UPPER/x", 400, "Invalid"),
        ("/v1/stat?path=/lake/denied", 403, "Denied"),
        ("/v1/stat", 400, "Invalid"),
        ("/v1/stat?path=/lake/x&color=red", 400, "Invalid"),
        ("/v1/cat?path=/lake/a%20b&offset=-1", 400, "Invalid"),
        ("/v1/nothing", 404, "NotFound"),
    ] {
        let reply = ask(&peer, "GET", uri, "").await;
        assert_eq!(reply.code, code, "{uri}");
        let problem = reply.json();
        assert_eq!(problem["kind"], kind, "{uri}");
        assert!(problem["message"].as_str().is_some_and(|said| !said.is_empty()), "{uri}");
    }
    let throttled = ask(&peer, "GET", "/v1/stat?path=/lake/throttled", "").await;
    assert_eq!(
        (throttled.code, &throttled.headers["retry-after"]),
        (429, &"7".parse().expect("ok"))
    );
    for body in ["", "{", r#"{"path":1}"#, r#"{"path":"/lake/x","force":true}"#] {
        let reply = ask(&peer, "POST", "/v1/free", body).await;
        assert_eq!((reply.code, reply.json()["kind"].as_str()), (400, Some("Invalid")), "{body}");
    }
    let key = format!("/v1/stat?path=/lake/{}", "k".repeat(2000));
    assert_eq!(ask(&peer, "GET", &key, "").await.code, 400);
}
