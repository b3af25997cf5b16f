// SPDX-License-Identifier: Apache-2.0
//! What happens on the wire when things do not go well.

use std::time::Duration;

use larder_s3::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{Connection, Request},
    worker::Stage,
};

/// Nothing in these tests takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(8);

async fn patiently<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("it does not hang")
}

#[tokio::test]
async fn a_body_that_can_not_go_on_ends_the_connection() {
    let stage = Stage::new().await;
    stage.memory.put("k", vec![1; 1_000_000]);
    stage.memory.cut_bodies_after(300_000);
    let reply = patiently(Request::object("k").send(stage.address)).await;
    assert_eq!((reply.status, reply.header("content-length")), (200, "1000000"));
    assert!(reply.short && reply.body.len() <= 300_000, "{} bytes", reply.body.len());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let settings = Settings { write_stall_ms: 200, connections_max: 1, ..Settings::default() };
    let stage = Stage::with(settings).await;
    stage.memory.put("big", vec![1; 64 << 20]);
    stage.memory.put("k", "x");
    let mut stuck = Connection::open(stage.address).await;
    let request = Request::object("big").sign(stage.address, &Default::default());
    stuck.stream.get_mut().write_all(&request.to_wire("x")).await.unwrap();
    // There is one place only: the answer comes when the stuck client has lost it.
    let reply = patiently(Request::object("k").send(stage.address)).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn idle_connections_are_closed_and_give_their_place_back() {
    let settings = Settings { idle_timeout_ms: 200, connections_max: 1, ..Settings::default() };
    let stage = Stage::with(settings).await;
    stage.memory.put("k", "x");
    let mut idle = Connection::open(stage.address).await;
    assert_eq!(idle.exchange(&Request::get("/")).await.status, 403);
    assert_eq!(patiently(Request::object("k").send(stage.address)).await.status, 200);
    let mut rest = Vec::new();
    assert_eq!(patiently(idle.stream.read_to_end(&mut rest)).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn no_reply_waits_for_an_acknowledgement() {
    let stage = Stage::new().await;
    let sizes = [0, 1, 100, 1_460, 4_096, 65_536, 65_537, 300_000];
    let mut connection = Connection::open(stage.address).await;
    for size in sizes {
        stage.memory.put("k", vec![1; size]);
        let request = Request::object("k").sign(stage.address, &Default::default());
        let mut waits = Vec::new();
        for _ in 0..5 {
            let clock = stage.filesystem.clock();
            let start = clock.elapsed();
            assert_eq!(connection.exchange(&request).await.body.len(), size);
            waits.push(clock.elapsed() - start);
        }
        let best = waits.iter().min().unwrap();
        assert!(*best < Duration::from_millis(35), "{size} bytes: {waits:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::new().await;
    stage.memory.put("a", "first");
    stage.memory.put("b", "second");
    let mut connection = Connection::open(stage.address).await;
    let mut wire = Vec::new();
    for key in ["a", "b"] {
        let request = Request::object(key).sign(stage.address, &Default::default());
        wire.extend(request.to_wire("x"));
    }
    connection.stream.get_mut().write_all(&wire).await.unwrap();
    for expected in ["first", "second"] {
        let reply = patiently(connection.receive("GET")).await.expect("a reply");
        assert_eq!(reply.text(), expected);
    }
}

#[tokio::test]
async fn shutdown_lets_replies_finish() {
    let stage = Stage::new().await;
    stage.memory.put("big", vec![1; 32 << 20]);
    let address = stage.address;
    let mut busy = Connection::open(address).await;
    let request = Request::object("big").sign(address, &Default::default());
    busy.stream.get_mut().write_all(&request.to_wire("x")).await.unwrap();
    // The reply has begun when its first byte is here.
    let mut first = [0; 1];
    assert_eq!(busy.stream.read(&mut first).await.unwrap(), 1);
    let idle = Connection::open(address).await;
    let stopping = tokio::spawn(stage.stop());
    let mut rest = Vec::new();
    patiently(busy.stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.len() > 32 << 20);
    drop((busy, idle));
    patiently(stopping).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
