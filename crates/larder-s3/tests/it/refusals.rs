// SPDX-License-Identifier: Apache-2.0
//! What the face says when it can't.

use std::{sync::Arc, time::Duration};

use larder_core::ErrorKind;
use larder_s3::{Keys, S3Face, Settings};

use crate::{
    client::{Connection, Request},
    worker::{self, Memory, Stage},
};

#[tokio::test]
async fn kinds_become_codes() {
    let stage = Stage::new().await;
    stage.memory.put("k", "x");
    for (kind, status, code) in [
        (ErrorKind::NotFound, 404, "NoSuchKey"),
        (ErrorKind::Denied, 403, "AccessDenied"),
        (ErrorKind::Invalid, 400, "InvalidArgument"),
        (ErrorKind::Unsupported, 501, "NotImplemented"),
        (ErrorKind::Stale, 503, "ServiceUnavailable"),
        (ErrorKind::Unavailable, 503, "ServiceUnavailable"),
        (ErrorKind::Corrupt, 500, "InternalError"),
        (ErrorKind::Internal, 500, "InternalError"),
    ] {
        stage.memory.fail(kind, None);
        let reply = Request::object("k").send(stage.address).await;
        assert_eq!(reply.refusal(), (status, code.to_owned()));
        assert_eq!(reply.element("Resource").as_deref(), Some("/lake/k"));
        let id = reply.header("x-amz-request-id").to_owned();
        assert_eq!(reply.element("RequestId"), Some(id));
        let head = Request::head("/lake/k").send(stage.address).await;
        assert_eq!((head.status, head.body.len()), (status, 0));
    }
    stage.memory.fail(ErrorKind::Exhausted, Some(Duration::from_secs(9)));
    let reply = Request::object("k").send(stage.address).await;
    assert_eq!(reply.refusal(), (503, "SlowDown".into()));
    assert_eq!(reply.header("retry-after"), "9");
    assert_eq!(stage.counted("GetObject", "SlowDown"), 1);
    assert_eq!(stage.counted("GetObject", "ServiceUnavailable"), 2);
}

#[tokio::test]
async fn what_is_not_served_is_not_implemented() {
    let stage = Stage::new().await;
    stage.memory.put("k", "x");
    for (method, path, query) in [
        ("PUT", "/lake/k", ""),
        ("DELETE", "/lake/k", ""),
        ("POST", "/lake", "delete"),
        ("POST", "/lake/k", "uploads"),
        ("PUT", "/new", ""),
        ("GET", "/lake/k", "acl"),
        ("GET", "/lake/k", "tagging"),
        ("GET", "/lake/k", "attributes"),
        ("GET", "/lake", "versions"),
        ("GET", "/lake", "policy"),
        ("GET", "/lake", "uploads"),
        ("PUT", "/lake", "versioning"),
    ] {
        let mut request = Request::new(method, path);
        if !query.is_empty() {
            request = request.query(query, "");
        }
        let reply = request.send(stage.address).await;
        assert_eq!(reply.refusal(), (501, "NotImplemented".into()), "{method} {path}?{query}");
    }
    let encrypted = Request::object("k")
        .with("x-amz-server-side-encryption-customer-algorithm", "AES256")
        .send(stage.address)
        .await;
    assert_eq!(encrypted.status, 501);
    assert_eq!(stage.counted("Other", "NotImplemented"), 12);
}

#[tokio::test]
async fn a_write_gets_its_answer_although_its_body_is_not_read() {
    let stage = Stage::new().await;
    let mut put = Request::new("PUT", "/lake/k").sign(stage.address, &Default::default());
    put.body = vec![7; 8 << 20];
    let reply = put.send_unsigned(stage.address).await;
    assert_eq!(reply.refusal(), (501, "NotImplemented".into()));
    assert_eq!(reply.header("connection"), "close", "so that nobody uses it again");
    let mut form = Request::new("POST", "/lake");
    form = form.with("content-type", "multipart/form-data; boundary=x");
    form.body = vec![b'-'; 1 << 20];
    assert_eq!(form.send_unsigned(stage.address).await.refusal(), (501, "NotImplemented".into()));
}

#[tokio::test]
async fn names_that_can_not_be() {
    let stage = Stage::new().await;
    let long = "k".repeat(2_000);
    let reply = Request::object(&long).send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "KeyTooLongError".into()));
    assert!(reply.element("Message").is_some());
    let odd = "ü".repeat(1_000);
    let reply = Request::object(&odd).send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "KeyTooLongError".into()));
    assert_eq!(Request::head(&format!("/lake/{long}")).send(stage.address).await.status, 400);
    stage.memory.put(&"k".repeat(1_024), "x");
    assert_eq!(Request::object(&"k".repeat(1_024)).send(stage.address).await.status, 200);

    let reply = Request::get("/Not%20A%20Bucket").send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidBucketName".into()));
    let reply = Request::get("/Not%20A%20Bucket/k").send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidBucketName".into()));
    let reply = Request::get("/Not-A-Bucket/k").send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidBucketName".into()));
    let reply = Request::get("/lake/%ff%fe").send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidURI".into()));
    let reply = Request::get("/lake/a%00b").send(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidArgument".into()));
    assert_eq!(Request::get("//").send(stage.address).await.status, 400);
    let missing = Request::object("no<such>key").send(stage.address).await;
    assert_eq!(missing.refusal(), (404, "NoSuchKey".into()));
    assert_eq!(missing.element("Key").as_deref(), Some("no&lt;such&gt;key"));
}

#[tokio::test]
async fn large_heads_are_answered() {
    let stage = Stage::new().await;
    stage.memory.put("k", "x");
    let request = Request::object("k").with("x-amz-meta-long", &"v".repeat(8_000));
    assert_eq!(request.send(stage.address).await.status, 200);
    let request = Request::object("k").with("x-too-long", &"v".repeat(200_000));
    assert_eq!(request.send_unsigned(stage.address).await.status, 431);
    let mut connection = Connection::open(stage.address).await;
    let reply = connection.exchange(&Request::get("no-slash")).await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn a_face_that_can_not_be_says_so() {
    let stage = Stage::new().await;
    let filesystem = worker::filesystem(Arc::new(Memory::default()));
    let taken = Settings { address: stage.address, anonymous: true, ..Settings::default() };
    let error = S3Face::bind(taken, Keys::new(), Arc::clone(&filesystem)).await.unwrap_err();
    let port = stage.address.port().to_string();
    assert!(error.to_string().contains(&port) && error.to_string().contains("taken"), "{error}");

    let address = "127.0.0.1:0".parse().unwrap();
    let closed = Settings { address, ..Settings::default() };
    let error = S3Face::bind(closed, Keys::new(), filesystem).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
