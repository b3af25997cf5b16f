// SPDX-License-Identifier: Apache-2.0
//! Plain reads go another way than everything else: what is sent and what happens must not tell.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use larder_core::{Attributes, ErrorKind};
use larder_s3::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{Connection, Request, Response},
    worker::{Object, Stage},
};

/// Nothing in these tests takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn patiently<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("it does not hang")
}

async fn until_waiting(stage: &Stage, count: u64) {
    let clock = stage.filesystem.clock();
    patiently(async {
        while stage.memory.waiting.load(Ordering::SeqCst) != count {
            clock.sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A stage with an object that says all that can be said of one.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    let text = |text: &str| Some(text.to_owned());
    let attributes = Attributes {
        content_type: text("text/plain; charset=utf-8"),
        content_encoding: text("gzip"),
        cache_control: text("no-cache"),
        expires: text("whenever"),
        storage_class: text("STANDARD_IA"),
        version_id: text("v1"),
        user: [("colour", "blue"), ("Shape", "größe"), ("bad", "a\r\nb: c"), ("b ad", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Attributes::default()
    };
    let (bytes, etag) = (vec![7; 200_000].into(), "abc".to_owned());
    stage.memory.insert("rich", Object { bytes, etag, attributes, parts: Vec::new() });
    stage.memory.put("k", "content");
    stage.memory.put("empty", "");
    stage
}

/// All that two replies to the same question must have in common.
fn essence(mut reply: Response) -> (u16, HashMap<String, String>, Vec<u8>) {
    let id = reply.headers.remove("x-amz-request-id").expect("each reply has an id");
    assert!(reply.headers.remove("date").is_some(), "each reply has a date");
    let text = String::from_utf8(reply.body.clone());
    let body = text.map_or(reply.body, |text| text.replace(&id, "ID").into_bytes());
    (reply.status, reply.headers, body)
}

#[tokio::test]
async fn both_ways_say_the_same() {
    let stage = stage().await;
    let ranges =
        ["", "bytes=0-0", "bytes=5-", "bytes=-3", "bytes=200000-", "bytes=5-2", "lines=1-2"];
    for key in ["rich", "k", "empty", "missing"] {
        for range in ranges {
            let mut request = Request::object(key);
            if !range.is_empty() {
                request = request.with("range", range);
            }
            let plain = request.clone().send(stage.address).await;
            let conditional = request.with("if-none-match", "\"other\"").send(stage.address).await;
            assert_eq!(essence(plain), essence(conditional), "{key} {range}");
        }
    }
    let rich = Request::object("rich").send(stage.address).await;
    assert_eq!(rich.header("x-amz-meta-shape"), "größe");
    assert_eq!((rich.header("x-amz-missing-meta"), rich.header("b")), ("2", ""));
    for kind in [ErrorKind::Denied, ErrorKind::Exhausted, ErrorKind::Internal] {
        stage.memory.fail(kind, None);
        let plain = Request::object("k").send(stage.address).await;
        let request = Request::object("k").with("if-none-match", "\"other\"");
        assert_eq!(essence(plain), essence(request.send(stage.address).await), "{kind:?}");
    }
}

/// A request of each kind, and the status it is answered with.
fn mixture(stage: &Stage) -> Vec<(Request, u16)> {
    let signed = |request: Request| request.sign(stage.address, &Default::default());
    vec![
        (signed(Request::object("k")), 200),
        (signed(Request::head("/lake/k")), 200),
        (signed(Request::object("rich").with("range", "bytes=1-100000")), 206),
        (signed(Request::get("/lake").query("list-type", "2")), 200),
        (signed(Request::object("missing")), 404),
        (signed(Request::object("k").with("if-none-match", "\"etag-k-7\"")), 304),
        (signed(Request::object("rich").query("x-id", "GetObject")), 200),
        (signed(Request::object("k")).with("content-length", "0"), 200),
        (signed(Request::head("/lake/k")).with("content-length", "0"), 200),
        (Request::object("k"), 403),
        (Request::object("k").presign(stage.address, &Default::default(), "60"), 200),
        (signed(Request::new("DELETE", "/lake/k")), 501),
        (signed(Request::object("empty")), 200),
    ]
}

#[tokio::test]
async fn one_connection_for_all_kinds() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.address).await;
    for round in 0..3 {
        for (request, status) in mixture(&stage) {
            let reply = patiently(connection.exchange(&request)).await;
            assert_eq!(reply.status, status, "{} {}, round {round}", request.method, request.path);
            assert_eq!((reply.short, reply.header("connection")), (false, ""));
        }
    }
    assert_eq!((stage.counted("GetObject", "ok"), stage.counted("HeadObject", "ok")), (21, 6));
}

#[tokio::test]
async fn all_kinds_sent_at_once() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.address).await;
    let mixture = mixture(&stage);
    let wire: Vec<u8> = mixture.iter().flat_map(|(request, _)| request.to_wire("x")).collect();
    connection.stream.get_mut().write_all(&wire).await.unwrap();
    for (request, status) in mixture {
        let reply = patiently(connection.receive(request.method)).await.expect("a reply");
        assert_eq!(reply.status, status, "{} {}", request.method, request.path);
        assert_eq!(reply.header("connection"), "", "{} {}", request.method, request.path);
    }
}

/// Sends all at once, then reads replies until the connection ends; theirs are the statuses.
async fn statuses(stage: &Stage, requests: &[(Request, u16)]) -> Vec<u16> {
    let mut connection = Connection::open(stage.address).await;
    let wire: Vec<u8> = requests.iter().flat_map(|(request, _)| request.to_wire("x")).collect();
    connection.stream.get_mut().write_all(&wire).await.unwrap();
    let mut statuses = Vec::new();
    for (request, _) in requests {
        let Some(reply) = patiently(connection.receive(request.method)).await else { break };
        statuses.push(reply.status);
    }
    assert!(patiently(connection.receive("GET")).await.is_none(), "it ended");
    statuses
}

#[tokio::test]
async fn a_body_is_never_taken_for_requests() {
    let stage = stage().await;
    let get = Request::object("k").sign(stage.address, &Default::default());
    let body = get.to_wire("x").repeat(200);
    let put = Request { body, ..Request::new("PUT", "/lake/x") };
    for before in mixture(&stage) {
        let expected = before.1;
        let requests = [before, (put.clone(), 403), (get.clone(), 200)];
        assert_eq!(statuses(&stage, &requests).await, [expected, 403]);
    }
}

#[tokio::test]
async fn the_end_asked_for_behind_others_comes_at_once() {
    let stage = stage().await;
    let close = Request::object("k").with("connection", "close");
    let close = (close.sign(stage.address, &Default::default()), 200);
    for before in mixture(&stage) {
        let expected = before.1;
        let requests = [before.clone(), close.clone(), before];
        assert_eq!(statuses(&stage, &requests).await, [expected, 200]);
    }
}

#[tokio::test]
async fn a_slow_client_whose_body_is_not_read_gets_all() {
    let stage = stage().await;
    let length = 24 << 20;
    stage.memory.put("big", vec![1; length]);
    let mut connection = Connection::open(stage.address).await;
    let request = Request::object("big").with("transfer-encoding", "chunked");
    let mut wire = request.sign(stage.address, &Default::default()).to_wire("x");
    wire.extend(b"5\r\nhello\r\n");
    connection.stream.get_mut().write_all(&wire).await.unwrap();
    stage.filesystem.clock().sleep(Duration::from_millis(300)).await;
    let reply = patiently(connection.receive("GET")).await.expect("a reply");
    assert_eq!(
        (reply.status, reply.body.len(), reply.header("connection")),
        (200, length, "close")
    );
}

#[tokio::test]
async fn a_head_may_come_in_pieces() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.address).await;
    let request = Request::object("k").sign(stage.address, &Default::default()).to_wire("x");
    for piece in request.chunks(request.len() / 5) {
        connection.stream.get_mut().write_all(piece).await.unwrap();
        stage.filesystem.clock().sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(patiently(connection.receive("GET")).await.expect("a reply").text(), "content");
}

#[tokio::test]
async fn half_a_head_is_waited_for_with_a_bound() {
    let settings = Settings { idle_timeout_ms: 200, ..Settings::default() };
    let stage = Stage::with(settings).await;
    let mut connection = Connection::open(stage.address).await;
    connection.stream.get_mut().write_all(b"GET /lake/k HT").await.unwrap();
    let mut rest = Vec::new();
    let ended = patiently(connection.stream.read_to_end(&mut rest)).await;
    assert_eq!(ended.unwrap_or(0), 0);
}

#[tokio::test]
async fn who_asks_for_the_end_gets_it() {
    let stage = stage().await;
    let mut connection = Connection::open(stage.address).await;
    let request = Request::object("k").with("connection", "close");
    let request = request.sign(stage.address, &Default::default());
    assert_eq!(connection.exchange(&request).await.text(), "content");
    assert!(patiently(connection.receive("GET")).await.is_none());
}

#[tokio::test]
async fn nothing_is_read_for_a_client_that_is_gone() {
    let stage = stage().await;
    let held = stage.memory.gate.write().await;
    let mut connection = Connection::open(stage.address).await;
    let request = Request::object("k").sign(stage.address, &Default::default());
    connection.stream.get_mut().write_all(&request.to_wire("x")).await.unwrap();
    until_waiting(&stage, 1).await;
    drop(connection);
    until_waiting(&stage, 0).await;
    drop(held);
    assert_eq!(stage.memory.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_comes_while_a_read_waits_is_answered_behind_it() {
    let stage = stage().await;
    let held = stage.memory.gate.write().await;
    let mut connection = Connection::open(stage.address).await;
    let mixture = mixture(&stage);
    for (request, _) in &mixture {
        connection.stream.get_mut().write_all(&request.to_wire("x")).await.unwrap();
        until_waiting(&stage, 1).await;
    }
    drop(held);
    for (request, status) in mixture {
        let reply = patiently(connection.receive(request.method)).await.expect("a reply");
        assert_eq!(reply.status, status, "{} {}", request.method, request.path);
    }
}

#[tokio::test]
async fn a_reply_under_way_at_the_end_says_so() {
    let stage = stage().await;
    let (address, memory) = (stage.address, std::sync::Arc::clone(&stage.memory));
    let held = memory.gate.write().await;
    let mut connection = Connection::open(address).await;
    let request = Request::object("k").sign(address, &Default::default());
    connection.stream.get_mut().write_all(&request.to_wire("x")).await.unwrap();
    until_waiting(&stage, 1).await;
    let stopping = tokio::spawn(stage.stop());
    patiently(async { while tokio::net::TcpStream::connect(address).await.is_ok() {} }).await;
    drop(held);
    let reply = patiently(connection.receive("GET")).await.expect("a reply");
    assert_eq!((reply.text().as_str(), reply.header("connection")), ("content", "close"));
    patiently(stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    // A closing connection that is read empty first takes two seconds, each time.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(end_with_idle_connections().await);
    }
    assert!(best < Duration::from_millis(1900), "{best:?}");
}

/// How long the end takes while clients keep connections for later.
async fn end_with_idle_connections() -> Duration {
    let stage = stage().await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(stage.address).await;
        for (request, status) in mixture(&stage) {
            assert_eq!(connection.exchange(&request).await.status, status);
        }
        idle.push(connection);
    }
    let clock = stage.filesystem.clock().clone();
    let begun = clock.elapsed();
    patiently(stage.stop()).await.unwrap();
    let took = clock.elapsed() - begun;
    for mut connection in idle {
        assert!(patiently(connection.receive("GET")).await.is_none());
    }
    took
}
