// SPDX-License-Identifier: Apache-2.0
//! How old an answer may be, and what finding out costs.

use std::{sync::atomic::Ordering, time::Duration};

use larder_cluster::wire::{
    message::{ListRequest, ListStart, LoadRequest, Outcome, StatRequest},
    service::Service,
};
use larder_core::{ErrorKind, Freshness, MountName, Span};

use crate::kitchen::{Kitchen, Recipe, noise, path};

fn recipe(freshness: Freshness) -> Recipe {
    Recipe { freshness, ..Recipe::default() }
}

#[tokio::test]
async fn an_expired_status_is_confirmed_by_one_request_without_bytes() {
    let kitchen = Kitchen::new(recipe(Freshness::MaxAge(Duration::from_secs(60))));
    let bytes = noise(500_000, 1);
    kitchen.put("file", &bytes);
    kitchen.worker.load(LoadRequest { path: path("file") }).await.unwrap();
    kitchen.clock.advance(Duration::from_secs(60));
    assert_eq!(kitchen.read("file", Span::All).await.unwrap().0.outcome, Outcome::Hit);
    kitchen.clock.advance(Duration::from_secs(1));
    let (requests, moved) = (kitchen.store.requests(), kitchen.store.bytes());
    let (head, got) = kitchen.read("file", Span::All).await.unwrap();
    assert_eq!(head.outcome, Outcome::Revalidated);
    assert!(got == bytes);
    assert_eq!(kitchen.store.requests() - requests, 1);
    assert_eq!(kitchen.store.bytes(), moved);
    assert_eq!(kitchen.read("file", Span::All).await.unwrap().0.outcome, Outcome::Hit);
}

#[tokio::test]
async fn an_overwrite_is_seen_when_the_status_expires_and_costs_one_request() {
    let kitchen = Kitchen::new(recipe(Freshness::MaxAge(Duration::from_secs(60))));
    let (old, new) = (noise(500_000, 1), noise(300_000, 2));
    kitchen.put("file", &old);
    kitchen.worker.load(LoadRequest { path: path("file") }).await.unwrap();
    kitchen.put("file", &new);
    assert!(kitchen.read("file", Span::All).await.unwrap().1 == old, "within its age");
    kitchen.clock.advance(Duration::from_secs(61));
    let requests = kitchen.store.requests();
    assert!(kitchen.read("file", Span::All).await.unwrap().1 == new);
    assert_eq!(kitchen.store.requests() - requests, 1);
}

#[tokio::test]
async fn always_asks_and_immutable_never_does() {
    let kitchen = Kitchen::new(recipe(Freshness::Always));
    kitchen.put("file", b"one");
    assert_eq!(kitchen.read("file", Span::All).await.unwrap().1, b"one");
    kitchen.put("file", b"two");
    assert_eq!(kitchen.read("file", Span::All).await.unwrap().1, b"two");
    let kitchen = Kitchen::new(recipe(Freshness::Immutable));
    kitchen.put("file", b"one");
    kitchen.worker.load(LoadRequest { path: path("file") }).await.unwrap();
    kitchen.clock.advance(Duration::from_secs(1_000_000));
    let requests = kitchen.store.requests();
    assert_eq!(kitchen.read("file", Span::All).await.unwrap().1, b"one");
    assert_eq!(kitchen.store.requests(), requests);
}

#[tokio::test]
async fn absence_is_remembered_as_long_as_a_status() {
    let kitchen = Kitchen::new(recipe(Freshness::MaxAge(Duration::from_secs(60))));
    for _ in 0..3 {
        let error = kitchen.read("nothing", Span::All).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(kitchen.store.requests(), 1);
    kitchen.put("nothing", b"something");
    kitchen.clock.advance(Duration::from_secs(61));
    assert_eq!(kitchen.read("nothing", Span::All).await.unwrap().1, b"something");
}

/// A store that is slow to refuse, or silent, is bridged while a program still waits.
#[tokio::test]
async fn a_silent_store_is_bridged_within_seconds() {
    let freshness = Freshness::MaxAge(Duration::from_secs(60));
    let stale_if_error = Some(Duration::from_secs(600));
    let kitchen = Kitchen::new(Recipe { freshness, stale_if_error, ..Recipe::default() });
    kitchen.put("file", b"bytes");
    kitchen.worker.load(LoadRequest { path: path("file") }).await.unwrap();
    kitchen.store.silent.store(true, Ordering::SeqCst);
    kitchen.clock.advance(Duration::from_secs(300));
    let asked = kitchen.clock.elapsed();
    let read = kitchen.read("file", Span::All);
    tokio::pin!(read);
    let (head, bytes) = loop {
        tokio::select! {
            biased;
            result = &mut read => break result.unwrap(),
            () = tokio::task::yield_now() => kitchen.clock.advance(Duration::from_millis(100)),
        }
    };
    assert_eq!((head.outcome, &bytes[..]), (Outcome::StaleIfError, &b"bytes"[..]));
    assert!(kitchen.clock.elapsed() - asked < Duration::from_secs(20));
}

#[tokio::test]
async fn an_outage_is_bridged_only_where_the_mount_says_so() {
    let freshness = Freshness::MaxAge(Duration::from_secs(60));
    for (stale_if_error, bridged) in [(None, false), (Some(Duration::from_secs(600)), true)] {
        let kitchen = Kitchen::new(Recipe { freshness, stale_if_error, ..Recipe::default() });
        kitchen.put("file", b"bytes");
        kitchen.worker.load(LoadRequest { path: path("file") }).await.unwrap();
        kitchen.store.down.store(true, Ordering::SeqCst);
        assert!(kitchen.read("file", Span::All).await.is_ok(), "resident and fresh");
        kitchen.clock.advance(Duration::from_secs(300));
        let result = kitchen.read("file", Span::All).await;
        match (bridged, result) {
            (true, Ok((head, bytes))) => {
                assert_eq!((head.outcome, &bytes[..]), (Outcome::StaleIfError, &b"bytes"[..]));
                assert_eq!(head.age, Duration::from_secs(300));
            }
            (false, Err(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            (_, other) => panic!("bridged {bridged}, got {:?}", other.map(|(head, _)| head)),
        }
        kitchen.clock.advance(Duration::from_secs(600));
        assert!(kitchen.read("file", Span::All).await.is_err(), "the grace has an end");
    }
}

#[tokio::test]
async fn a_listing_answers_for_its_files_while_it_is_fresh() {
    let kitchen = Kitchen::new(recipe(Freshness::MaxAge(Duration::from_secs(60))));
    for at in 0..20 {
        kitchen.put(&format!("d/{at:02}"), b"x");
    }
    let request = ListRequest {
        mount: MountName::new("lake").unwrap(),
        prefix: "d/".into(),
        delimiter: Some("/".into()),
        start: ListStart::Beginning,
        max: 1000,
    };
    for _ in 0..3 {
        let reply = kitchen.worker.list(request.clone()).await.unwrap();
        assert_eq!(reply.page.entries.len(), 20);
    }
    for at in 0..20 {
        let path = path(&format!("d/{at:02}"));
        kitchen.worker.stat(StatRequest { path, attributes: false }).await.unwrap();
    }
    assert_eq!(kitchen.store.requests(), 1);
    let with_attributes = StatRequest { path: path("d/00"), attributes: true };
    let reply = kitchen.worker.stat(with_attributes).await.unwrap();
    assert!(reply.status.attributes.is_some());
    assert_eq!(kitchen.store.requests(), 2);
    kitchen.clock.advance(Duration::from_secs(61));
    kitchen.worker.list(request).await.unwrap();
    assert_eq!(kitchen.store.lists.load(Ordering::SeqCst), 2);
}
