// SPDX-License-Identifier: Apache-2.0
//! HeadObject and GetObject: bytes, ranges, parts, conditions, headers.

use std::sync::atomic::Ordering;

use larder_core::Attributes;

use crate::{
    client::{Connection, Request},
    worker::{Object, Stage},
};

const AT: &str = "Wed, 01 Jan 2020 00:00:01 GMT";
const BEFORE: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn whole_objects_of_any_size() {
    let stage = Stage::new().await;
    for length in [0, 1, 4096, 65_536, 65_537, 3_000_000] {
        let bytes = numbered(length);
        stage.memory.put("some/key", bytes.clone());
        let reply = Request::object("some/key").send(stage.address).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), length.to_string());
        assert_eq!(reply.header("etag"), format!("\"etag-some/key-{length}\""));
        assert_eq!(reply.header("last-modified"), AT);
        assert_eq!(reply.header("accept-ranges"), "bytes");
        assert_eq!(reply.header("content-type"), "binary/octet-stream");
        assert_eq!(reply.header("x-larder-cache"), "miss");
        assert_eq!(reply.header("age"), "7");
        assert_eq!(reply.header("x-amz-request-id").len(), 16);
        assert!(reply.body == bytes, "{length} bytes arrive as they are");

        let head = Request::head("/lake/some/key").send(stage.address).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), length.to_string());
        assert_eq!(head.header("x-larder-cache"), "hit");
    }
    assert_eq!(stage.counted("GetObject", "ok"), 6);
    assert_eq!(stage.counted("HeadObject", "ok"), 6);
}

#[tokio::test]
async fn keys_are_raw() {
    let stage = Stage::new().await;
    let keys = ["a//b", "a/", "/a", "a+b %25 ü?#", "..", "a/../b", "x", "x/y", "&=;:@$,'()!*~^|"];
    for key in keys {
        stage.memory.put(key, format!("content of {key}"));
    }
    for key in keys {
        let reply = Request::object(key).send(stage.address).await;
        assert_eq!(reply.text(), format!("content of {key}"));
        let presigned = Request::object(key).presign(stage.address, &Default::default(), "60");
        let reply = presigned.send_unsigned(stage.address).await;
        assert_eq!(reply.text(), format!("content of {key}"));
    }
}

#[tokio::test]
async fn ranges() {
    let stage = Stage::new().await;
    let bytes = numbered(1000);
    stage.memory.put("k", bytes.clone());
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-2000", 990, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=-5", 995, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=0-99999999999999999999999", 0, 1000),
    ] {
        let reply = Request::object("k").with("range", range).send(stage.address).await;
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.header("content-range"), format!("bytes {from}-{}/1000", to - 1));
        assert!(reply.body == bytes[from..to], "{range}");
        let head = Request::head("/lake/k").with("range", range).send(stage.address).await;
        assert_eq!(head.status, 206, "{range}");
        assert_eq!(head.header("content-length"), (to - from).to_string());
    }
    for ignored in ["bytes=5-2", "bytes=0-1,3-4", "bytes=-", "bytes=x-y", "lines=0-1", "5"] {
        let reply = Request::object("k").with("range", ignored).send(stage.address).await;
        assert_eq!((reply.status, reply.body.len()), (200, 1000), "{ignored}");
    }
    for beyond in ["bytes=1000-", "bytes=5000-6000", "bytes=-0"] {
        let reply = Request::object("k").with("range", beyond).send(stage.address).await;
        assert_eq!(reply.refusal(), (416, "InvalidRange".into()), "{beyond}");
        assert_eq!(reply.header("content-range"), "bytes */1000");
        assert_eq!(reply.element("ActualObjectSize").as_deref(), Some("1000"));
        let head = Request::head("/lake/k").with("range", beyond).send(stage.address).await;
        assert_eq!((head.status, head.header("content-range")), (416, "bytes */1000"));
    }
    stage.memory.put("empty", "");
    let reply = Request::object("empty").with("range", "bytes=0-").send(stage.address).await;
    assert_eq!(reply.status, 416);
}

#[tokio::test]
async fn if_range_decides_between_part_and_whole() {
    let stage = Stage::new().await;
    stage.memory.put("k", "0123456789");
    let ask = |condition: &str| {
        let request = Request::object("k").with("range", "bytes=0-1").with("if-range", condition);
        request.send(stage.address)
    };
    assert_eq!(ask("\"etag-k-10\"").await.text(), "01");
    let whole = ask("\"another\"").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
}

#[tokio::test]
async fn conditions_cost_no_request_of_their_own() {
    let stage = Stage::new().await;
    stage.memory.put("k", numbered(300_000));
    let (same, other) = ("\"etag-k-300000\"", "\"other\"");
    for (name, value, status) in [
        ("if-match", same, 200),
        ("if-match", "*", 200),
        ("if-match", other, 412),
        ("if-none-match", same, 304),
        ("if-none-match", "*", 304),
        ("if-none-match", other, 200),
        ("if-modified-since", AT, 304),
        ("if-modified-since", BEFORE, 200),
        ("if-modified-since", "nonsense", 200),
        ("if-unmodified-since", AT, 200),
        ("if-unmodified-since", BEFORE, 412),
    ] {
        for method in ["GET", "HEAD"] {
            let before = stage.memory.requests.load(Ordering::SeqCst);
            let request = Request::new(method, "/lake/k").with(name, value);
            let reply = request.send(stage.address).await;
            assert_eq!(reply.status, status, "{method} {name}: {value}");
            assert_eq!(reply.header("etag"), same, "{method} {name}: {value}");
            let body = match (method, status) {
                ("GET", 200) => 300_000,
                ("GET", 412) => reply.body.len(),
                _ => 0,
            };
            assert_eq!(reply.body.len(), body);
            assert_eq!(stage.memory.requests.load(Ordering::SeqCst) - before, 1);
        }
    }
    let reply = Request::object("k").with("if-match", other).send(stage.address).await;
    assert_eq!(reply.refusal(), (412, "PreconditionFailed".into()));
    assert_eq!(reply.element("Condition").as_deref(), Some("If-Match"));
}

#[tokio::test]
async fn a_reply_without_body_leaves_the_connection_usable() {
    let stage = Stage::new().await;
    stage.memory.put("k", numbered(500_000));
    let mut connection = Connection::open(stage.address).await;
    for (condition, status) in [("*", 304), ("\"x\"", 200), ("*", 304)] {
        let request = Request::object("k").with("if-none-match", condition);
        let request = request.sign(stage.address, &Default::default());
        assert_eq!(connection.exchange(&request).await.status, status);
    }
}

#[tokio::test]
async fn the_stores_own_headers_arrive_verbatim() {
    let stage = Stage::new().await;
    let some = |text: &str| Some(text.to_owned());
    let attributes = Attributes {
        content_type: some("text/plain; charset=ISO-8859-1"),
        content_encoding: some("gzip"),
        content_language: some("de"),
        content_disposition: some("attachment; filename=\"ü.txt\""),
        cache_control: some("no-store"),
        expires: some("soon"),
        storage_class: some("STANDARD_IA"),
        version_id: some("v1.2"),
        website_redirect: some("/elsewhere"),
        user: vec![
            ("color".into(), "blue  green".into()),
            ("name".into(), "=?UTF-8?Q?=C3=BC?=".into()),
            ("broken".into(), "line\nbreak".into()),
        ],
    };
    let (bytes, etag, parts) = ("x".into(), "\"abc-2\"".into(), Vec::new());
    stage.memory.insert("k", Object { bytes, etag, attributes, parts });
    for request in [Request::object("k"), Request::head("/lake/k")] {
        let reply = request.send(stage.address).await;
        for (name, value) in [
            ("etag", "\"abc-2\""),
            ("content-type", "text/plain; charset=ISO-8859-1"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("content-disposition", "attachment; filename=\"ü.txt\""),
            ("cache-control", "no-store"),
            ("expires", "soon"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-version-id", "v1.2"),
            ("x-amz-website-redirect-location", "/elsewhere"),
            ("x-amz-meta-color", "blue  green"),
            ("x-amz-meta-name", "=?UTF-8?Q?=C3=BC?="),
            ("x-amz-missing-meta", "1"),
        ] {
            assert_eq!(reply.header(name), value, "{name}");
        }
    }
    let version = |id| Request::object("k").query("versionId", id).send(stage.address);
    assert_eq!(version("v1.2").await.status, 200);
    assert_eq!(version("v1.1").await.refusal(), (501, "NotImplemented".into()));
}

#[tokio::test]
async fn a_signed_request_may_override_headers() {
    let stage = Stage::new().await;
    stage.memory.put("k", "x");
    let request = || {
        Request::object("k")
            .query("response-content-type", "text/x; a=b")
            .query("response-expires", "never")
            .query("response-content-disposition", "inline")
    };
    let presigned = request().presign(stage.address, &Default::default(), "60");
    for reply in [request().send(stage.address).await, presigned.send_unsigned(stage.address).await]
    {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "text/x; a=b");
        assert_eq!(reply.header("expires"), "never");
        assert_eq!(reply.header("content-disposition"), "inline");
    }
    let wrong = Request::object("k").query("response-content-type", "a\nb");
    assert_eq!(wrong.send(stage.address).await.refusal(), (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn parts() {
    let stage = Stage::new().await;
    let bytes = numbered(10);
    let (etag, attributes) = ("abc-2".to_owned(), Attributes::default());
    let parts = vec![6, 4];
    let object = Object { bytes: bytes.clone().into(), etag, attributes, parts };
    stage.memory.insert("k", object);
    stage.memory.put("plain", "0123456789");
    let part = |key: &str, number: &str| {
        Request::object(key).query("partNumber", number).send(stage.address)
    };
    let reply = part("k", "2").await;
    assert_eq!((reply.status, reply.header("content-range")), (206, "bytes 6-9/10"));
    assert_eq!(reply.header("x-amz-mp-parts-count"), "2");
    assert!(reply.body == bytes[6..]);
    let head = Request::head("/lake/k").query("partNumber", "1").send(stage.address).await;
    assert_eq!((head.status, head.header("content-length")), (206, "6"));
    assert_eq!(head.header("x-amz-mp-parts-count"), "2");

    assert_eq!(part("k", "3").await.refusal(), (416, "InvalidPartNumber".into()));
    for wrong in ["0", "10001", "-1", "x", ""] {
        assert_eq!(part("k", wrong).await.refusal(), (400, "InvalidArgument".into()), "{wrong}");
    }
    let plain = part("plain", "1").await;
    assert_eq!((plain.status, plain.header("content-range")), (206, "bytes 0-9/10"));
    assert_eq!(plain.header("x-amz-mp-parts-count"), "");
    assert_eq!(part("plain", "2").await.status, 416);
    let both = Request::object("k").query("partNumber", "1").with("range", "bytes=0-1");
    assert_eq!(both.send(stage.address).await.refusal(), (400, "InvalidRequest".into()));
}
