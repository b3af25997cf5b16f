// SPDX-License-Identifier: Apache-2.0
//! Overwrites and broken bodies: never a wrong byte, never a mixture.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder_cluster::wire::{message::StatRequest, service::Service};
use larder_core::{ByteRange, Clock, ErrorKind, Freshness, Random, Span};

use crate::kitchen::{Kitchen, Recipe, noise, path, request};

#[tokio::test]
async fn a_broken_body_is_continued_at_the_byte_reached() {
    let kitchen = Kitchen::new(Recipe { clock: Clock::system(), ..Recipe::default() });
    let bytes = noise(2_000_000, 1);
    kitchen.put("file", &bytes);
    *kitchen.store.breaks.lock().unwrap() = vec![0, 700_000, 65_536];
    let (_, got) = kitchen.read("file", Span::All).await.unwrap();
    assert!(got == bytes);
    assert_eq!(kitchen.store.requests(), 4);
    assert_eq!(kitchen.store.bytes(), 2_000_000, "no byte is fetched twice");
}

#[tokio::test]
async fn a_store_that_keeps_breaking_is_an_error_in_the_end() {
    let kitchen = Kitchen::new(Recipe { clock: Clock::system(), ..Recipe::default() });
    kitchen.put("file", &noise(200_000, 1));
    *kitchen.store.breaks.lock().unwrap() = vec![0; 100];
    let error = kitchen.read("file", Span::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    *kitchen.store.breaks.lock().unwrap() = vec![];
    assert!(kitchen.read("file", Span::All).await.is_ok(), "and it recovers");
}

/// The layers of a store have tried again already.
#[tokio::test]
async fn a_request_that_gets_no_answer_is_not_repeated_on_top() {
    let kitchen = Kitchen::new(Recipe { clock: Clock::system(), ..Recipe::default() });
    kitchen.put("file", &noise(200_000, 1));
    kitchen.worker.stat(StatRequest { path: path("file"), attributes: false }).await.unwrap();
    kitchen.store.down.store(true, Ordering::SeqCst);
    let before = kitchen.store.requests();
    let error = kitchen.read("file", Span::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(kitchen.store.requests() - before, 1);
    kitchen.store.down.store(false, Ordering::SeqCst);
    assert!(kitchen.read("file", Span::All).await.is_ok(), "and it recovers");
}

#[tokio::test]
async fn a_pinned_version_is_never_mixed_with_another() {
    let kitchen = Kitchen::new(Recipe::default());
    let (old, new) = (noise(300_000, 1), noise(300_000, 2));
    let pinned = kitchen.put("file", &old);
    let first_page = Span::Range(ByteRange::new(0, 65_536));
    kitchen.read("file", first_page).await.unwrap();
    kitchen.put("file", &new);
    let pinned = |span| larder_cluster::wire::message::ReadRequest {
        pinned: Some(pinned.clone()),
        ..request("file", span)
    };
    let (_, resident) = kitchen.read_with(pinned(first_page)).await.unwrap();
    assert!(resident == old[..65_536], "what is resident of the old version stays readable");
    let error = kitchen.read_with(pinned(Span::All)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
    let (_, got) = kitchen.read("file", Span::All).await.unwrap();
    assert!(got == new, "the stale status was forgotten with the refusal");
}

/// Each write fills the object with one byte value; a mixture would show two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overwrites_during_reads_never_mix() {
    let recipe = Recipe {
        clock: Clock::system(),
        freshness: Freshness::MaxAge(Duration::from_millis(2)),
        ..Recipe::default()
    };
    let kitchen = Arc::new(Kitchen::new(recipe));
    let random = Random::seeded(77);
    let lengths = [0_usize, 1, 65_535, 65_536, 65_537, 700_000, 3_000_000];
    kitchen.put("file", &[0; 1000]);
    let mut readers = Vec::new();
    for seed in 0..6 {
        let kitchen = Arc::clone(&kitchen);
        readers.push(tokio::spawn(async move {
            let random = Random::seeded(seed);
            let mut whole = 0;
            for _ in 0..60 {
                let span = match random.below(3) {
                    0 => Span::All,
                    1 => Span::From(random.below(100_000)),
                    _ => Span::Last(1 + random.below(200_000)),
                };
                match kitchen.read("file", span).await {
                    Ok((head, bytes)) => {
                        let range = head.range.unwrap_or(ByteRange::new(0, 0));
                        assert_eq!(bytes.len() as u64, range.length());
                        assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "a mixture");
                        whole += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Stale, "{error}"),
                }
            }
            whole
        }));
    }
    for round in 1..200_u32 {
        let length = lengths[random.below(lengths.len() as u64) as usize];
        kitchen.put("file", &vec![(round % 251) as u8; length]);
        tokio::task::yield_now().await;
        if round % 10 == 0 {
            Clock::system().sleep(Duration::from_millis(2)).await;
        }
    }
    let mut whole = 0;
    for reader in readers {
        whole += reader.await.unwrap();
    }
    assert!(whole > 100, "most reads are answered ({whole} of 360)");
    kitchen.worker.stat(StatRequest { path: path("file"), attributes: true }).await.unwrap();
}
