// SPDX-License-Identifier: Apache-2.0
//! Who may read: signatures in the header and in the query, and none at all.

use larder_s3::Settings;
use time::Duration;

use crate::{
    client::{Request, Response, Signer},
    worker::Stage,
};

async fn stocked(settings: Settings) -> Stage {
    let stage = Stage::with(settings).await;
    stage.memory.put("k", "content");
    stage
}

async fn signed_by(stage: &Stage, signer: &Signer) -> Response {
    Request::object("k").sign(stage.address, signer).send_unsigned(stage.address).await
}

#[tokio::test]
async fn signatures_in_the_header() {
    let stage = stocked(Settings::default()).await;
    let good = Signer::default();
    assert_eq!(signed_by(&stage, &good).await.text(), "content");
    let wrong = Signer { secret: "another", ..good.clone() };
    let reply = signed_by(&stage, &wrong).await;
    assert_eq!(reply.refusal(), (403, "SignatureDoesNotMatch".into()));
    assert!(reply.element("Message").is_some_and(|message| message.contains("secret key")));
    assert!(!reply.text().contains("not/a+real"), "no secret in an answer");
    let unknown = Signer { access: "NOBODY", ..good.clone() };
    assert_eq!(signed_by(&stage, &unknown).await.refusal(), (403, "InvalidAccessKeyId".into()));
    for minutes in [-16, 16] {
        let skewed = Signer { at: good.at + Duration::minutes(minutes), ..good.clone() };
        let reply = signed_by(&stage, &skewed).await;
        assert_eq!(reply.refusal(), (403, "RequestTimeTooSkewed".into()));
    }
    let request = Request::object("k").sign(stage.address, &good);
    let tampered = Request { path: "/lake/other".into(), ..request.clone() };
    assert_eq!(tampered.send_unsigned(stage.address).await.status, 403);
    let tampered = request.query("response-content-type", "text/html");
    assert_eq!(tampered.send_unsigned(stage.address).await.status, 403);
    assert_eq!(stage.counted("GetObject", "SignatureDoesNotMatch"), 3);
}

#[tokio::test]
async fn presigned_urls_expire() {
    let stage = stocked(Settings::default()).await;
    let good = Signer::default();
    let presigned = |signer: &Signer, expires: &str| {
        Request::object("k").presign(stage.address, signer, expires).send_unsigned(stage.address)
    };
    assert_eq!(presigned(&good, "60").await.text(), "content");
    assert_eq!(presigned(&good, "604800").await.status, 200);
    let past = Signer { at: good.at - Duration::minutes(2), ..good.clone() };
    assert_eq!(presigned(&past, "60").await.refusal(), (403, "AccessDenied".into()));
    assert_eq!(presigned(&past, "600").await.status, 200);
    for wrong in ["604801", "0", "-1", "soon"] {
        let code = "AuthorizationQueryParametersError".to_owned();
        assert_eq!(presigned(&good, wrong).await.refusal(), (400, code), "{wrong}");
    }
    let wrong = Signer { secret: "another", ..good };
    assert_eq!(presigned(&wrong, "60").await.refusal(), (403, "SignatureDoesNotMatch".into()));
}

#[tokio::test]
async fn malformed_signatures_get_a_sentence() {
    let stage = stocked(Settings::default()).await;
    for value in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y",
        "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, SignedHeaders=, \
         Signature=",
        "Bearer token",
        "AWS LARDERTEST:frJIUN8DYpKDtOLCwo//yllqDzg=",
        "=",
    ] {
        let request = Request::object("k").with("authorization", value);
        let reply = request.send_unsigned(stage.address).await;
        assert!((400..=403).contains(&reply.status), "{value}: {reply:?}");
        assert!(reply.element("Message").is_some_and(|text| text.len() > 8), "{value}");
    }
    let second_version = Request::object("k")
        .query("AWSAccessKeyId", "LARDERTEST")
        .query("Signature", "x")
        .query("Expires", "9999999999");
    let reply = second_version.send_unsigned(stage.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn anonymous_access_is_off_until_allowed() {
    let closed = stocked(Settings::default()).await;
    let paths = ["/", "/lake", "/lake/k", "/lake/missing", "/sea"];
    for path in paths {
        let reply = Request::get(path).send_unsigned(closed.address).await;
        assert_eq!(reply.refusal(), (403, "AccessDenied".into()), "{path}");
    }
    let put = Request::new("PUT", "/lake/k").send_unsigned(closed.address).await;
    assert_eq!(put.refusal(), (403, "AccessDenied".into()));

    let open = stocked(Settings { anonymous: true, ..Settings::default() }).await;
    let reply = Request::get("/lake/k").send_unsigned(open.address).await;
    assert_eq!(reply.text(), "content");
    assert_eq!(Request::get("/").send_unsigned(open.address).await.status, 200);
    assert_eq!(Request::object("k").send(open.address).await.status, 200);
    let wrong = Signer { secret: "another", ..Signer::default() };
    assert_eq!(signed_by(&open, &wrong).await.status, 403, "a wrong signature is no anonymity");
    let overriding = Request::get("/lake/k").query("response-content-type", "text/html");
    let reply = overriding.send_unsigned(open.address).await;
    assert_eq!(reply.refusal(), (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn virtual_hosts_name_buckets() {
    let base_domains = vec!["s3.test".to_owned()];
    let stage = stocked(Settings { base_domains, ..Settings::default() }).await;
    stage.memory.put("/lead", "leading slash");
    let get = |host: &str, path: &str| Request::get(path).with("host", host).send(stage.address);
    assert_eq!(get("lake.s3.test", "/k").await.text(), "content");
    assert_eq!(get("lake.s3.test:9710", "//lead").await.text(), "leading slash");
    assert_eq!(get("s3.test", "/lake/k").await.text(), "content");
    assert_eq!(get("localhost", "/lake/k").await.text(), "content");
    assert_eq!(get("lake.s3.test", "/").await.elements("Key"), ["/lead", "k"]);
    assert_eq!(get("sea.s3.test", "/k").await.refusal(), (404, "NoSuchBucket".into()));
}
