// SPDX-License-Identifier: Apache-2.0
//! Buckets and listings.

use std::sync::atomic::Ordering;

use crate::{
    client::{Request, Response},
    worker::Stage,
};

async fn stocked() -> Stage {
    let stage = Stage::new().await;
    for key in ["a", "b/1", "b/2", "c/1/x", "d", "ü +&"] {
        stage.memory.put(key, key.to_owned());
    }
    stage
}

async fn list(stage: &Stage, query: &[(&str, &str)]) -> Response {
    let request = query
        .iter()
        .fold(Request::get("/lake"), |request, (name, value)| request.query(name, value));
    request.send(stage.address).await
}

#[tokio::test]
async fn buckets_are_mounts() {
    let stage = Stage::new().await;
    let reply = Request::get("/").send(stage.address).await;
    assert_eq!(reply.header("content-type"), "application/xml");
    assert_eq!(reply.elements("Name"), ["lake", "pond"]);
    let first = Request::get("/").query("max-buckets", "1").send(stage.address).await;
    assert_eq!(first.elements("Name"), ["lake"]);
    let token = first.element("ContinuationToken").expect("there is more");
    let second = Request::get("/").query("continuation-token", &token).send(stage.address).await;
    assert_eq!(second.elements("Name"), ["pond"]);
    let named = Request::get("/").query("prefix", "po").send(stage.address).await;
    assert_eq!(named.elements("Name"), ["pond"]);

    let head = Request::head("/lake").send(stage.address).await;
    assert_eq!((head.status, head.header("x-amz-bucket-region")), (200, "us-east-1"));
    let location = Request::get("/lake").query("location", "").send(stage.address).await;
    assert_eq!(location.status, 200);
    assert!(location.text().contains("<LocationConstraint xmlns"));
    assert_eq!(Request::head("/sea").send(stage.address).await.status, 404);
    for reply in [
        Request::get("/sea").send(stage.address).await,
        Request::get("/sea").query("list-type", "2").send(stage.address).await,
        Request::get("/sea").query("location", "").send(stage.address).await,
        Request::get("/sea/x").send(stage.address).await,
    ] {
        assert_eq!(reply.refusal(), (404, "NoSuchBucket".into()));
        assert_eq!(reply.element("BucketName").as_deref(), Some("sea"));
    }
}

#[tokio::test]
async fn the_second_version_counts_and_continues() {
    let stage = stocked().await;
    let reply = list(&stage, &[("list-type", "2")]).await;
    assert_eq!(reply.elements("Key"), ["a", "b/1", "b/2", "c/1/x", "d", "ü +&amp;"]);
    assert_eq!(reply.element("KeyCount").as_deref(), Some("6"));
    assert_eq!(reply.element("MaxKeys").as_deref(), Some("1000"));
    assert_eq!(reply.element("IsTruncated").as_deref(), Some("false"));
    assert_eq!(reply.element("ETag").as_deref(), Some("&quot;etag-a-1&quot;"));
    assert_eq!(reply.element("LastModified").as_deref(), Some("2020-01-01T00:00:01.900Z"));
    assert_eq!(reply.element("Size").as_deref(), Some("1"));
    assert_eq!(reply.element("Owner"), None);
    assert_eq!(reply.header("age"), "3");

    let mut token = String::new();
    let mut seen = Vec::new();
    for round in 0.. {
        assert!(round < 10, "the listing ends");
        let mut query = vec![("list-type", "2"), ("delimiter", "/"), ("max-keys", "2")];
        if !token.is_empty() {
            query.push(("continuation-token", &token));
        }
        let page = list(&stage, &query).await;
        seen.extend(page.elements("Key"));
        seen.extend(page.elements("CommonPrefixes").iter().map(|_| "prefix".to_owned()));
        match page.element("NextContinuationToken") {
            Some(next) => token = next,
            None => break,
        }
    }
    assert_eq!(seen, ["a", "prefix", "d", "prefix", "ü +&amp;"]);

    let owned = list(&stage, &[("list-type", "2"), ("fetch-owner", "true")]).await;
    assert_eq!(owned.elements("DisplayName").len(), 6);
    let after = list(&stage, &[("list-type", "2"), ("start-after", "b/1")]).await;
    assert_eq!(after.elements("Key")[0], "b/2");
    assert_eq!(after.element("StartAfter").as_deref(), Some("b/1"));
    let below = list(&stage, &[("list-type", "2"), ("prefix", "b/")]).await;
    assert_eq!(below.elements("Key"), ["b/1", "b/2"]);
}

#[tokio::test]
async fn the_first_version_marks_where_it_ended() {
    let stage = stocked().await;
    let all = list(&stage, &[]).await;
    assert_eq!(all.elements("Key").len(), 6);
    assert_eq!(all.element("KeyCount"), None);
    assert_eq!(all.elements("DisplayName").len(), 6);

    let page = list(&stage, &[("max-keys", "2")]).await;
    assert_eq!(page.element("IsTruncated").as_deref(), Some("true"));
    assert_eq!(page.element("NextMarker"), None, "only told with a delimiter");

    let page = list(&stage, &[("max-keys", "2"), ("delimiter", "/")]).await;
    assert_eq!(page.element("NextMarker").as_deref(), Some("b/"));
    let page = list(&stage, &[("delimiter", "/"), ("marker", "b/")]).await;
    assert_eq!(page.elements("Key"), ["d", "ü +&amp;"]);
    assert_eq!(page.element("Marker").as_deref(), Some("b/"));
    assert!(page.text().contains("<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"));
    assert!(!page.text().contains("<Prefix>b/</Prefix>"), "the marker's prefix is behind us");
}

#[tokio::test]
async fn limits_and_encodings() {
    let stage = stocked().await;
    stage.memory.put("z\u{1}\r", "x");
    let before = stage.memory.requests.load(Ordering::SeqCst);
    let none = list(&stage, &[("list-type", "2"), ("max-keys", "0")]).await;
    assert_eq!(none.element("KeyCount").as_deref(), Some("0"));
    assert_eq!(none.element("IsTruncated").as_deref(), Some("false"));
    assert_eq!(stage.memory.requests.load(Ordering::SeqCst), before);
    let many = list(&stage, &[("list-type", "2"), ("max-keys", "5000")]).await;
    assert_eq!(many.element("MaxKeys").as_deref(), Some("1000"));
    assert!(many.text().contains("<Key>z&#x1;&#xd;</Key>"), "as S3 writes them");

    let url = [("list-type", "2"), ("encoding-type", "url"), ("prefix", "ü "), ("delimiter", "&")];
    let encoded = list(&stage, &url).await;
    assert_eq!(encoded.element("EncodingType").as_deref(), Some("url"));
    assert_eq!(encoded.elements("Prefix"), ["%C3%BC%20", "%C3%BC%20%2B%26"]);
    assert_eq!(encoded.element("Delimiter").as_deref(), Some("%26"));

    for (name, value) in [
        ("max-keys", "-1"),
        ("max-keys", "many"),
        ("encoding-type", "base64"),
        ("continuation-token", "made-up"),
        ("continuation-token", ""),
    ] {
        let reply = list(&stage, &[("list-type", "2"), (name, value)]).await;
        assert_eq!(reply.refusal(), (400, "InvalidArgument".into()), "{name}={value}");
        assert_eq!(reply.element("ArgumentName").as_deref(), Some(name));
    }
}
