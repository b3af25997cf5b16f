// SPDX-License-Identifier: Apache-2.0
//! What passes unharmed, what is counted, and what the pace does.

use std::time::{Duration, Instant};

use crate::exchange::{End, Scene};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[test]
fn method_path_host_and_headers_pass_byte_for_byte() {
    let scene = Scene::new(b"hello".to_vec());
    let path = "//b//../a+b%2B%20%7e/./x?list-type=2&prefix=%C3%BC/&&X=%2f";
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: bucket.example:9000\r\nAuthorization: AWS4 sig=abc\r\n\
         Range: bytes=0-4\r\nIf-Match: \"e\"\r\nx-odd:  two  spaces\r\n\r\n"
    );
    let got = scene.send(request.as_bytes());
    assert_eq!((got.body.as_slice(), got.end), (&b"hello"[..], End::Whole));
    assert!(got.head.starts_with("HTTP/1.1 206"), "{}", got.head);
    let head = got.head.to_ascii_lowercase();
    assert!(head.contains("etag: \"e\"\r\n") && head.contains("x-amz-meta-mixed: v 1\r\n"));
    let seen = scene.seen.requests();
    let (raw, _) = &seen[0];
    assert_eq!(raw.lines().next().unwrap(), format!("GET {path} HTTP/1.1"));
    let lower = raw.to_ascii_lowercase();
    for header in [
        "host: bucket.example:9000\r\n",
        "authorization: aws4 sig=abc\r\n",
        "if-match: \"e\"\r\n",
        "x-odd: two  spaces\r\n",
    ] {
        assert!(lower.contains(header), "{header} in {lower}");
    }
    assert_eq!(lower.matches("host:").count(), 1);
}

#[test]
fn requests_and_bytes_are_counted_and_logged() {
    let scene = Scene::new(pattern(100_000));
    for _ in 0..3 {
        assert_eq!(scene.get("/b/k").body, pattern(100_000));
    }
    scene.send(b"PUT /b/new HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\n\r\nabcde");
    let head = scene.send(b"HEAD /b/k HTTP/1.1\r\nHost: s\r\n\r\n");
    assert!(head.head.to_ascii_lowercase().contains("content-length: 100000"), "{}", head.head);
    let (_, stats) = scene.control("GET /stats", "");
    assert_eq!(stats["requests"], 5);
    assert_eq!(stats["methods"]["GET"]["requests"], 3);
    assert_eq!(stats["methods"]["GET"]["reply_bytes"], 300_000);
    assert_eq!(stats["methods"]["PUT"]["request_bytes"], 5);
    assert_eq!(stats["methods"]["HEAD"]["reply_bytes"], 0);
    assert_eq!(stats["statuses"]["200"], 5);
    assert_eq!(stats["connections"], 5);
    let log = scene.log();
    assert_eq!(log[0]["method"], "GET");
    assert_eq!(log[0]["path"], "/b/k");
    assert_eq!(log[0]["bytes"], 100_000);
    assert_eq!(log[0]["status"], 200);
    scene.control("POST /reset", "");
    assert_eq!(scene.control("GET /stats", "").1["requests"], 0);
}

#[test]
fn a_dead_origin_is_a_502() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let scene = Scene::with_origin(address);
    let got = scene.get("/");
    assert!(got.head.starts_with("HTTP/1.1 502"), "{}", got.head);
}

/// Timers wake late, never early: the lower bound is strict, the upper one loose.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures the proxy from outside")]
fn the_delay_is_what_was_asked_for() {
    let scene = Scene::new(b"x".to_vec());
    scene.control("POST /delay", r#"{"delay_ms": 20}"#);
    let mut took = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        scene.get("/");
        took.push(start.elapsed());
    }
    took.sort();
    assert!(took[0] >= Duration::from_millis(20), "{took:?}");
    assert!(took[4] < Duration::from_millis(40), "{took:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures the proxy from outside")]
fn the_rate_caps_all_connections_together() {
    let scene = Scene::new(pattern(2_000_000));
    scene.control("POST /delay", r#"{"bytes_per_s": 20000000}"#);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(scene.get("/").body.len(), 2_000_000));
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.18..1.0).contains(&seconds), "4 MB at 20 MB/s took {seconds} s");
}
