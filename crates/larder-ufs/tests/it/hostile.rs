// SPDX-License-Identifier: Apache-2.0
//! The S3 adapter against replies that are wrong, cut, late or meant for somebody else.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures::StreamExt;
use larder_core::{ByteRange, Clock, Error, ErrorKind, Key, Result, Span, UnixMillis, Version};
use larder_ufs::{
    Condition, ListRequest, ReadOutcome, UnderStorage,
    environment::Environment,
    mount::{self, Seams, StoreConfig},
};

use crate::{
    server::{Reply, Server, Then},
    stores::{lake, seams},
};

const TAGGED: &str = "ETag: \"v1\"\r\n";

fn key(name: &str) -> Key {
    Key::new(name).expect("a legal key")
}

fn config(server: &Server) -> StoreConfig {
    let mut config = StoreConfig::new("s3://lake");
    config.s3.endpoint = Some(server.address().to_owned());
    config.s3.anonymous = true;
    config.s3.read_timeout_ms = Some(80);
    config
}

fn open(server: &Server) -> Arc<dyn UnderStorage> {
    let environment = Environment::default();
    mount::open_in(&environment, &config(server), &lake(), seams()).expect("a store").foreground()
}

async fn collect(outcome: Result<ReadOutcome>) -> Result<Vec<u8>> {
    let ReadOutcome::Content(mut content) = outcome? else {
        return Err(Error::internal("not a content"));
    };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = content.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.to_vec())
}

/// Reads `span` from a server with one reply and answers the bytes or the kind of the error.
async fn read(reply: Reply, span: Span) -> Result<Vec<u8>, ErrorKind> {
    let server = Server::start(vec![reply]).await;
    let read = async {
        let store = open(&server);
        collect(store.read(&key("k"), span, &Condition::None).await).await
    };
    let bounded = tokio::time::timeout(Duration::from_secs(9), read).await;
    bounded.expect("no reply makes us hang").map_err(|error| error.kind())
}

fn range(start: u64, end: u64) -> Span {
    Span::Range(ByteRange::new(start, end))
}

#[tokio::test]
async fn cut_and_overlong_bodies_are_errors() {
    let head = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n01234";
    for then in [Then::Close, Then::Stall] {
        let read = read(Reply::raw(head, then), Span::All).await;
        assert_eq!(read, Err(ErrorKind::Unavailable), "{then:?}");
    }
    let partial = "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\n\
        Content-Range: bytes 2-5/10\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, expected) in [
        ("4\r\n2345\r\n0\r\n\r\n", Ok(b"2345".to_vec())),
        ("3\r\n234\r\n0\r\n\r\n", Err(ErrorKind::Unavailable)),
        ("5\r\n23456\r\n0\r\n\r\n", Err(ErrorKind::Unavailable)),
        ("4\r\n2345\r\nxx", Err(ErrorKind::Unavailable)),
    ] {
        let reply = Reply::raw(&format!("{partial}{body}"), Then::Close);
        assert_eq!(read(reply, range(2, 6)).await, expected, "{body}");
    }
}

#[tokio::test]
async fn a_trickle_is_given_up_like_silence() {
    let head = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 100000\r\n\r\n";
    let read = read(Reply::raw(head, Then::Trickle), Span::All).await;
    assert_eq!(read, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_length_that_contradicts_the_range_is_refused() {
    for told in [3, 5] {
        let text = format!(
            "HTTP/1.1 206 Partial Content\r\n{TAGGED}Content-Range: bytes 2-5/10\r\n\
             Content-Length: {told}\r\n\r\n23456"
        );
        let server = Server::start(vec![Reply::raw(&text, Then::Close)]).await;
        let outcome = open(&server).read(&key("k"), range(2, 6), &Condition::None).await;
        assert!(outcome.is_err(), "refused by its head, before a byte of it: {told}");
    }
}

#[tokio::test]
async fn a_store_that_sends_all_for_a_part_far_behind_is_not_read_through() {
    let head = format!("HTTP/1.1 200 OK\r\n{TAGGED}Content-Length: 20000000\r\n\r\n");
    let far = range(9 << 20, (9 << 20) + 4);
    assert_eq!(read(Reply::raw(&head, Then::Stall), far).await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    for told in ["bytes 3-6/10", "bytes 2-4/10", "bytes */10", "bytes 2-5/*", "", "2-5/10"] {
        let headers = format!("{TAGGED}Content-Range: {told}\r\n");
        let reply = Reply::new("206 Partial Content", &headers, "2345");
        assert_eq!(read(reply, range(2, 6)).await, Err(ErrorKind::Unavailable), "{told}");
    }
}

#[tokio::test]
async fn a_store_that_ignores_ranges_is_cut_to_them() {
    let reply = || Reply::new("200 OK", TAGGED, "0123456789");
    assert_eq!(read(reply(), range(2, 6)).await, Ok(b"2345".to_vec()));
    assert_eq!(read(reply(), Span::Last(3)).await, Ok(b"789".to_vec()));
    assert_eq!(read(reply(), Span::From(9)).await, Ok(b"9".to_vec()));
    let server = Server::start(vec![reply()]).await;
    let outcome = open(&server).read(&key("k"), Span::From(10), &Condition::None).await;
    assert!(matches!(outcome, Ok(ReadOutcome::OutOfRange(status)) if status.length == 10));
}

#[tokio::test]
async fn conditions_hold_where_the_store_ignores_them() {
    let server = Server::start(vec![Reply::new("200 OK", TAGGED, "0123456789")]).await;
    let store = open(&server);
    let match_old = Condition::Match(Version::new("v0"));
    let error = store.read(&key("k"), Span::All, &match_old).await.err().expect("stale");
    assert_eq!(error.kind(), ErrorKind::Stale);
    let same = Condition::NoneMatch(Version::new("v1"));
    let outcome = store.read(&key("k"), Span::All, &same).await;
    assert!(matches!(outcome, Ok(ReadOutcome::Unchanged)));
    let weak = Condition::Match(Version::new("W/\"v0\""));
    assert!(store.read(&key("k"), Span::All, &weak).await.is_err());
    let heads = server.heads();
    assert!(heads[0].contains("if-match: \"v0\""), "{}", heads[0]);
    assert!(heads[1].contains("if-none-match: \"v1\""), "{}", heads[1]);
    assert!(!heads[2].contains("if-match"), "a weak tag never matches: {}", heads[2]);
}

#[tokio::test]
async fn heads_that_make_no_sense_are_refused() {
    let huge = format!("HTTP/1.1 200 OK\r\nETag: \"{}\"\r\n\r\n", "x".repeat(1 << 20));
    for (reply, kind) in [
        (Reply::raw("SSH-2.0-OpenSSH\r\n\r\n", Then::Close), ErrorKind::Unavailable),
        (Reply::raw("", Then::Close), ErrorKind::Unavailable),
        (Reply::raw("", Then::Stall), ErrorKind::Unavailable),
        (Reply::raw(&huge, Then::Close), ErrorKind::Unavailable),
        (Reply::new("200 OK", "", "untagged"), ErrorKind::Unsupported),
        (Reply::new("204 No Content", TAGGED, ""), ErrorKind::Unavailable),
        (Reply::new("304 Not Modified", TAGGED, ""), ErrorKind::Invalid),
        (Reply::new("404 Not Found", "", "<html>lost"), ErrorKind::NotFound),
    ] {
        let told = format!("{reply:.80?}");
        let found = read(reply, Span::All).await;
        assert_eq!(found, Err(kind), "{told:.80}");
    }
}

#[tokio::test]
async fn redirects_are_explained_and_not_followed() {
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let elsewhere = Server::start(vec![Reply::new("200 OK", TAGGED, "stolen")]).await;
        let headers =
            format!("Location: {}/k\r\nx-amz-bucket-region: eu-west-1\r\n", elsewhere.address());
        let server = Server::start(vec![Reply::new(status, &headers, "")]).await;
        let outcome = open(&server).read(&key("k"), Span::All, &Condition::None).await;
        let error = outcome.err().expect("not followed");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("eu-west-1"), "{error}");
        assert_eq!((server.heads().len(), elsewhere.heads().len()), (1, 0));
    }
}

#[tokio::test]
async fn garbage_listings_are_errors() {
    let looping = "<ListBucketResult><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    for body in ["", "<html>", "{\"json\": 1}", "<Error/>", "<ListBucketResult>", looping] {
        let server = Server::start(vec![Reply::new("200 OK", "", body)]).await;
        let request = ListRequest {
            start: larder_ufs::ListStart::Token("t".to_owned()),
            max: 10,
            ..ListRequest::default()
        };
        let error = open(&server).list(&request).await.expect_err("not a listing");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{body}");
    }
}

#[tokio::test]
async fn raw_keys_go_out_byte_for_byte() {
    let server = Server::start(vec![Reply::new("404 Not Found", "", "")]).await;
    let store = open(&server);
    let cases = [
        ("a//b", "HEAD /lake/a//b HTTP/1.1"),
        ("/a", "HEAD /lake//a HTTP/1.1"),
        ("a/", "HEAD /lake/a/ HTTP/1.1"),
        ("k/../e", "HEAD /lake/k/../e HTTP/1.1"),
        ("..", "HEAD /lake/.. HTTP/1.1"),
        ("a+b %25 ü?#", "HEAD /lake/a%2Bb%20%2525%20%C3%BC%3F%23 HTTP/1.1"),
    ];
    for (name, _) in cases {
        let error = store.stat(&key(name)).await.expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let lines: Vec<_> =
        server.heads().iter().map(|head| head.lines().next().unwrap_or("").to_owned()).collect();
    let expected: Vec<_> = cases.iter().map(|(_, line)| (*line).to_owned()).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn every_try_is_a_request_and_is_counted() {
    let slow = "<Error><Code>SlowDown</Code></Error>";
    let server = Server::start(vec![
        Reply::new("503 Slow Down", "", slow),
        Reply::raw("", Then::Close),
        Reply::new("200 OK", TAGGED, "0123456789"),
    ])
    .await;
    let seams = seams();
    let metrics = Arc::clone(&seams.metrics);
    let store = mount::open_in(&Environment::default(), &config(&server), &lake(), seams);
    let outcome =
        store.expect("a store").foreground().read(&key("k"), Span::All, &Condition::None).await;
    assert_eq!(collect(outcome).await.expect("the third try"), b"0123456789");
    assert_eq!(server.heads().len(), 3);
    let count = |outcome| {
        let mount = "lake".to_owned();
        let labels = larder_core::metric::StoreOutcomeLabels { mount, operation: "read", outcome };
        metrics.store_requests.get_or_create(&labels).get()
    };
    assert_eq!((count("ok"), count("exhausted"), count("unavailable")), (1, 1, 1));
    let labels = larder_core::metric::StoreLabels { mount: "lake".to_owned(), operation: "read" };
    assert_eq!(metrics.store_read_bytes.get_or_create(&labels).get(), 10);
}

#[tokio::test]
async fn an_unsatisfiable_range_tells_the_status() {
    let server = Server::start(vec![
        Reply::new("416 Range Not Satisfiable", "Content-Range: bytes */5\r\n", "<Error/>"),
        Reply::raw("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\r\n", Then::Next),
    ])
    .await;
    let outcome = open(&server).read(&key("k"), Span::From(7), &Condition::None).await;
    assert!(matches!(outcome, Ok(ReadOutcome::OutOfRange(status)) if status.length == 5));
}

#[tokio::test]
async fn parts_are_told_where_the_store_tells_them() {
    let head = |status: &str, more: &str| {
        let text =
            format!("HTTP/1.1 {status}\r\nETag: \"v1-2\"\r\nContent-Length: 5\r\n{more}\r\n");
        Reply::raw(&text, Then::Next)
    };
    let told = "Content-Range: bytes 5-9/10\r\nx-amz-mp-parts-count: 2\r\n";
    let server = Server::start(vec![
        head("206 Partial Content", told),
        head("200 OK", ""),
        head("416 Range Not Satisfiable", ""),
    ])
    .await;
    let store = open(&server);
    let (status, part) = store.part(&key("k"), 2).await.expect("a part").expect("told");
    assert_eq!((status.length, part.range, part.count), (10, ByteRange::new(5, 10), Some(2)));
    assert!(store.part(&key("k"), 2).await.expect("ignored").is_none());
    let error = store.part(&key("k"), 3).await.expect_err("no such part");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(server.heads()[0].starts_with("HEAD /lake/k?partNumber=2 "));
}

#[tokio::test]
async fn without_credentials_there_is_one_clear_sentence_at_once() {
    // A metadata service that takes the request and never answers.
    let metadata = Server::start(vec![Reply::raw("", Then::Stall)]).await;
    let server = Server::start(vec![Reply::new("200 OK", TAGGED, "x")]).await;
    let mut config = config(&server);
    config.s3.anonymous = false;
    let environment =
        Environment::fixed([("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.address())]);
    let store =
        mount::open_in(&environment, &config, &lake(), seams()).expect("a store").foreground();
    let stat = tokio::time::timeout(Duration::from_secs(8), store.stat(&key("k"))).await;
    let error = stat.expect("no hang").expect_err("no credentials");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("AWS_ACCESS_KEY_ID"), "{error}");
    assert_eq!((server.heads().len(), metadata.heads().len()), (0, 1));
    // The failure is remembered for a moment: the next request does not wait again.
    store.stat(&key("k")).await.expect_err("still none");
    assert_eq!(metadata.heads().len(), 1);
}

#[tokio::test]
async fn instance_metadata_gives_credentials() {
    let credential = r#"{"Code":"Success","AccessKeyId":"ASIAROLE","SecretAccessKey":"hidden",
        "Token":"session","Expiration":"2999-01-01T00:00:00Z"}"#;
    let metadata = Server::start(vec![
        Reply::new("200 OK", "", "token"),
        Reply::new("200 OK", "", "role"),
        Reply::new("200 OK", "", credential),
    ])
    .await;
    let server = Server::start(vec![Reply::new("404 Not Found", "", "")]).await;
    let mut config = config(&server);
    config.s3.anonymous = false;
    config.s3.region = Some("eu-west-1".to_owned());
    let environment =
        Environment::fixed([("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.address())]);
    let store =
        mount::open_in(&environment, &config, &lake(), seams()).expect("a store").foreground();
    for _ in 0..2 {
        store.stat(&key("k")).await.expect_err("nothing is there");
    }
    assert_eq!(metadata.heads().len(), 3, "loaded once: token, role, credential");
    let head = &server.heads()[1];
    assert!(head.contains("Credential=ASIAROLE/"), "{head}");
    assert!(head.contains("/eu-west-1/s3/aws4_request"), "{head}");
    assert!(head.contains("x-amz-security-token: session"), "{head}");
    assert!(!format!("{store:?}").contains("hidden"));
}

#[tokio::test]
async fn a_credentials_file_named_for_the_mount_wins() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let file = directory.path().join("credentials");
    let text = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = a\n\
        [other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = b\n";
    std::fs::write(&file, text).expect("a file");
    let environment =
        Environment::fixed([("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "c")]);
    for (profile, named, expected) in
        [(None, true, "AKIADEFAULT"), (Some("other"), true, "AKIAOTHER"), (None, false, "AKIAENV")]
    {
        let server = Server::start(vec![Reply::new("404 Not Found", "", "")]).await;
        let mut config = config(&server);
        config.s3.anonymous = false;
        config.s3.credentials_file = named.then(|| file.clone());
        config.s3.profile = profile.map(str::to_owned);
        let store =
            mount::open_in(&environment, &config, &lake(), seams()).expect("a store").foreground();
        store.stat(&key("k")).await.expect_err("nothing is there");
        let head = server.heads().remove(0);
        assert!(head.contains(&format!("Credential={expected}/")), "{head}");
    }
}

fn write_keys(file: &std::path::Path, id: &str) {
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n");
    std::fs::write(file, text).expect("a file");
}

/// A store whose keys come from `file`, and what counts its requests.
fn open_with_keys(server: &Server, file: &std::path::Path) -> (Arc<dyn UnderStorage>, Seams) {
    let mut config = config(server);
    config.s3.anonymous = false;
    // No time-out is tested with it, and a busy machine must not bring one about.
    config.s3.read_timeout_ms = Some(5_000);
    config.s3.credentials_file = Some(file.to_owned());
    let seams = seams();
    let store = mount::open_in(&Environment::default(), &config, &lake(), seams.clone());
    (store.expect("a store").foreground(), seams)
}

#[tokio::test]
async fn credentials_that_were_renewed_are_used_in_flight() {
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    let found = || Reply::new("200 OK", TAGGED, "0123456789");
    let bare = |status: &str| {
        Reply::raw(&format!("HTTP/1.1 {status}\r\n{TAGGED}Content-Length: 0\r\n\r\n"), Then::Next)
    };
    let server = Server::start(vec![
        found(),
        Reply::new("400 Bad Request", "", expired),
        found(),
        bare("403 Forbidden"),
        bare("200 OK"),
    ])
    .await;
    let directory = tempfile::tempdir().expect("a scratch directory");
    let file = directory.path().join("credentials");
    write_keys(&file, "AKIAFIRST");
    let (store, seams) = open_with_keys(&server, &file);
    let read = async || collect(store.read(&key("k"), Span::All, &Condition::None).await).await;
    assert_eq!(read().await.expect("bytes"), b"0123456789");
    write_keys(&file, "AKIASECOND");
    assert_eq!(read().await.expect("bytes, with other keys"), b"0123456789");
    let heads = server.heads();
    assert!(heads[1].contains("Credential=AKIAFIRST/"), "{}", heads[1]);
    assert!(heads[2].contains("Credential=AKIASECOND/"), "{}", heads[2]);
    assert_eq!(seams.metrics.store_totals("lake").requests, 3, "each request is counted");
    // What the store refuses again, with the same keys, is refused.
    let error = store.stat(&key("k")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.heads().len(), 4, "the same keys are not sent twice");
}

/// A metadata service that gives keys which last for so long, and then falls silent.
async fn silent_after_keys(lasting: Duration) -> Server {
    let end = Clock::system().now().to_system_time() + lasting;
    let end = time::OffsetDateTime::from(end)
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a year of four digits");
    let credential = format!(
        r#"{{"Code":"Success","AccessKeyId":"ASIAROLE","SecretAccessKey":"hidden",
        "Token":"session","Expiration":"{end}"}}"#
    );
    Server::start(vec![
        Reply::new("200 OK", "", "token"),
        Reply::new("200 OK", "", "role"),
        Reply::new("200 OK", "", &credential),
        Reply::raw("", Then::Stall),
    ])
    .await
}

/// A store whose keys come from there, with a clock that stands still: no time-out ends a wait.
fn open_with_role(server: &Server, metadata: &Server) -> (Arc<dyn UnderStorage>, Clock) {
    let mut config = config(server);
    config.s3.anonymous = false;
    let environment =
        Environment::fixed([("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.address())]);
    let clock = Clock::manual(UnixMillis(1_000_000));
    let seams = Seams { clock: clock.clone(), ..seams() };
    let store = mount::open_in(&environment, &config, &lake(), seams).expect("a store");
    (store.foreground(), clock)
}

async fn until(condition: impl Fn() -> bool) {
    let clock = Clock::system();
    for _ in 0..3000 {
        if condition() {
            return;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that");
}

const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn keys_that_end_soon_are_renewed_while_requests_go_on() {
    let metadata = silent_after_keys(Duration::from_secs(200)).await;
    let server = Server::start(vec![Reply::new("404 Not Found", "", "")]).await;
    let (store, clock) = open_with_role(&server, &metadata);
    let stat = async || {
        let key = key("k");
        tokio::time::timeout(BOUND, store.stat(&key)).await.expect("no wait for the renewal")
    };
    stat().await.expect_err("nothing is there");
    // The chain is asked once in a few seconds.
    clock.advance(Duration::from_secs(6));
    for _ in 0..3 {
        assert_eq!(stat().await.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    }
    until(|| metadata.heads().len() == 4).await;
    assert_eq!(server.heads().len(), 4, "one by one, with the keys there are");
}

#[tokio::test]
async fn a_refused_key_holds_up_nobody_whose_key_is_taken() {
    let metadata = silent_after_keys(Duration::from_secs(100_000)).await;
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    let bare = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\r\n";
    let server = Server::start(vec![
        Reply::raw(bare, Then::Next),
        Reply::new("400 Bad Request", "", expired),
        Reply::raw(bare, Then::Next),
    ])
    .await;
    let (store, _clock) = open_with_role(&server, &metadata);
    store.stat(&key("k")).await.expect("a status");
    let refused = tokio::spawn({
        let store = Arc::clone(&store);
        async move { collect(store.read(&key("k"), Span::All, &Condition::None).await).await }
    });
    until(|| metadata.heads().len() == 4).await;
    let key = key("k");
    let stat = tokio::time::timeout(BOUND, store.stat(&key)).await;
    stat.expect("no wait for the other's keys").expect("a status");
    assert!(!refused.is_finished(), "its source has not answered");
    refused.abort();
}
