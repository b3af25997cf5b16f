// SPDX-License-Identifier: Apache-2.0
//! Each fault as a client meets it.

use std::time::{Duration, Instant};

use crate::exchange::{End, Scene};

const LENGTH: usize = 1_000_000;

fn scene(rules: &str) -> Scene {
    let scene = Scene::new(vec![7; LENGTH]);
    scene.rules(rules);
    scene
}

#[test]
fn a_status_never_reaches_the_origin() {
    let scene = scene(
        r#"[{"match": {"method": "GET", "times": 1},
             "action": {"status": {"code": 503, "body": "SlowDown", "retry_after": 2}}}]"#,
    );
    let got = scene.get("/k");
    assert!(got.head.starts_with("HTTP/1.1 503"), "{}", got.head);
    assert!(got.head.to_ascii_lowercase().contains("retry-after: 2\r\n"));
    assert_eq!(got.body, b"SlowDown");
    assert!(scene.seen.requests().is_empty());
    assert_eq!(scene.get("/k").body.len(), LENGTH);
    let (_, stats) = scene.control("GET /stats", "");
    assert_eq!((&stats["statuses"]["503"], &stats["faults"]), (&1.into(), &1.into()));
}

#[test]
fn a_cut_is_a_reset_after_exactly_so_many_bytes() {
    let scene = scene(r#"[{"action": {"cut_after": {"bytes": 300001}}}]"#);
    let got = scene.get("/k");
    assert_eq!((got.body.len(), got.end), (300_001, End::Reset));
    assert_eq!(scene.log()[0]["bytes"], 300_001);
}

#[test]
fn a_truncation_is_an_orderly_close_that_breaks_the_promised_length() {
    let scene = scene(r#"[{"action": {"truncate": {"bytes": 65536}}}]"#);
    let got = scene.get("/k");
    assert_eq!((got.body.len(), got.end), (65_536, End::Closed));
    assert!(got.head.to_ascii_lowercase().contains("content-length: 1000000"));
}

#[test]
fn a_dropped_request_gets_nothing_and_the_origin_never_saw_it() {
    let scene = scene(r#"[{"match": {"nth": 2, "times": 1}, "action": "drop"}]"#);
    assert_eq!(scene.get("/k").end, End::Whole);
    let got = scene.get("/k");
    assert_eq!((got.head.as_str(), got.body.len()), ("", 0));
    assert_eq!(scene.get("/k").end, End::Whole);
    assert_eq!(scene.seen.requests().len(), 2);
    assert_eq!(scene.control("GET /stats", "").1["statuses"]["0"], 1);
}

#[test]
fn a_wrong_range_is_one_byte_off() {
    let scene = scene(r#"[{"action": "wrong_range"}]"#);
    let got = scene.send(b"GET /k HTTP/1.1\r\nHost: s\r\nRange: bytes=0-999999\r\n\r\n");
    let head = got.head.to_ascii_lowercase();
    assert!(head.contains("content-range: bytes 1-1000000/1000000"), "{head}");
    assert_eq!(got.body.len(), LENGTH);
}

#[test]
fn a_wrong_length_ends_the_reply_before_its_time() {
    let scene = scene(r#"[{"action": {"wrong_length": {"less": 5}}}]"#);
    let got = scene.get("/k");
    assert_eq!((got.body.len(), got.end), (LENGTH - 5, End::Whole));
    assert!(got.head.to_ascii_lowercase().contains("content-length: 999995"), "{}", got.head);
    assert_eq!(scene.log()[0]["bytes"], 999_995);
}

#[test]
fn the_whole_for_a_range_and_another_version() {
    let scene = scene(
        r#"[{"match": {"times": 1}, "action": "whole_for_range"}, {"action": "other_version"}]"#,
    );
    let request = b"GET /k HTTP/1.1\r\nHost: s\r\nRange: bytes=0-999999\r\n\r\n";
    let got = scene.send(request);
    assert!(!got.head.to_ascii_lowercase().contains("content-range"), "{}", got.head);
    assert_eq!(got.body, vec![7; LENGTH]);
    let got = scene.send(request);
    assert!(got.head.to_ascii_lowercase().contains("etag: \"another-version\""), "{}", got.head);
    assert_eq!(got.body, vec![!7; LENGTH]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures the proxy from outside")]
fn stalls_slowness_and_delays_cost_their_time_and_no_byte() {
    for (rules, at_least) in [
        (r#"[{"action": {"stall_after": {"bytes": 1000, "ms": 150}}}]"#, 150),
        (r#"[{"action": {"slow": {"bytes_per_s": 5000000}}}]"#, 180),
        (r#"[{"action": {"delay": {"ms": 120}}}]"#, 120),
    ] {
        let scene = scene(rules);
        let start = Instant::now();
        let got = scene.get("/k");
        let took = start.elapsed();
        assert_eq!((got.body, got.end), (vec![7; LENGTH], End::Whole), "{rules}");
        assert!(took >= Duration::from_millis(at_least), "{rules}: {took:?}");
        assert!(took < Duration::from_secs(5), "{rules}: {took:?}");
    }
}

#[test]
fn rules_are_listed_counted_and_removed() {
    let scene = scene(r#"[{"match": {"path_contains": "/k"}, "action": "drop"}]"#);
    scene.get("/k");
    scene.get("/other");
    let (_, rules) = scene.control("GET /faults", "");
    assert_eq!((&rules[0]["fitted"], &rules[0]["fired"]), (&1.into(), &1.into()));
    scene.control("DELETE /faults", "");
    assert_eq!(scene.get("/k").end, End::Whole);
    let (status, reply) = scene.control("POST /faults", r#"[{"action": "explode"}]"#);
    assert!(status.contains("400"), "{status} {reply}");
}
