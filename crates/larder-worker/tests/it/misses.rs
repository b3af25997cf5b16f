// SPDX-License-Identifier: Apache-2.0
//! Many readers of what is not there: one fetch, no waste, no loss.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use larder_cluster::wire::{body::Chunk, message::StatRequest, service::Service};
use larder_core::{ByteRange, Clock, Random, Span};

use crate::kitchen::{Kitchen, Recipe, drain, noise, path, request};

fn kitchen() -> Arc<Kitchen> {
    Arc::new(Kitchen::new(Recipe { clock: Clock::system(), ..Recipe::default() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_readers_of_one_cold_object_fetch_each_byte_once() {
    let kitchen = kitchen();
    let bytes = Arc::new(noise(5_000_000, 1));
    kitchen.put("cold", &bytes);
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_millis(1);
    let readers = (0..64).map(|_| {
        let (kitchen, bytes) = (Arc::clone(&kitchen), Arc::clone(&bytes));
        tokio::spawn(async move {
            let (_, got) = kitchen.read("cold", Span::All).await.unwrap();
            assert!(got == *bytes);
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    let asked = kitchen.store.asked.lock().unwrap().join(", ");
    assert_eq!(kitchen.store.bytes(), 5_000_000, "{asked}");
    assert_eq!(kitchen.store.requests(), 1, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_readers_at_random_offsets_fetch_each_page_once() {
    const LENGTH: u64 = 16 << 20;
    let kitchen = kitchen();
    let bytes = Arc::new(noise(LENGTH as usize, 2));
    kitchen.put("cold", &bytes);
    kitchen.worker.stat(StatRequest { path: path("cold"), attributes: false }).await.unwrap();
    // Readers have their last byte before its page is whole.
    *kitchen.store.chunk_max.lock().unwrap() = 30_000;
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_millis(1);
    let random = Random::seeded(9);
    let mut readers = Vec::new();
    for _ in 0..1000 {
        let start = random.below(LENGTH);
        let range = ByteRange::new(start, (start + 1 + random.below(300_000)).min(LENGTH));
        let (kitchen, bytes) = (Arc::clone(&kitchen), Arc::clone(&bytes));
        readers.push(tokio::spawn(async move {
            let (_, got) = kitchen.read("cold", Span::Range(range)).await.unwrap();
            assert!(got == bytes[range.start as usize..range.end as usize]);
            range
        }));
    }
    let mut touched = [false; 256];
    for reader in readers {
        let range = reader.await.unwrap();
        larder_core::page::pages_of(range).for_each(|page| touched[page as usize] = true);
    }
    let unique = touched.iter().filter(|touched| **touched).count() as u64 * 65_536;
    assert_eq!(kitchen.store.bytes(), unique);
}

/// Three pages are here already: one request for all is cheaper than four for the gaps.
#[tokio::test]
async fn a_long_read_is_one_request_over_pages_that_are_here() {
    let kitchen = kitchen();
    let bytes = noise(4 << 20, 9);
    kitchen.put("cold", &bytes);
    kitchen.worker.stat(StatRequest { path: path("cold"), attributes: false }).await.unwrap();
    for page in [3_u64, 9, 40] {
        let range = ByteRange::new(page * 65_536, (page + 1) * 65_536);
        kitchen.read("cold", Span::Range(range)).await.unwrap();
    }
    let resident = async || {
        let request = StatRequest { path: path("cold"), attributes: false };
        kitchen.worker.explain(request).await.unwrap().resident_pages
    };
    for _ in 0..1000 {
        if resident().await == 3 {
            break;
        }
        Clock::system().sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(resident().await, 3);
    let (requests, moved) = (kitchen.store.requests(), kitchen.store.bytes());
    let short = ByteRange::new(2 * 65_536, 5 * 65_536);
    let (_, got) = kitchen.read("cold", Span::Range(short)).await.unwrap();
    assert!(got == bytes[2 * 65_536..5 * 65_536]);
    assert_eq!(kitchen.store.requests() - requests, 2, "a short read gets its pages");
    assert_eq!(kitchen.store.bytes() - moved, 2 * 65_536, "and no more");
    let (requests, moved) = (kitchen.store.requests(), kitchen.store.bytes());
    let rest = ByteRange::new(6 * 65_536, 4 << 20);
    let (_, got) = kitchen.read("cold", Span::Range(rest)).await.unwrap();
    assert!(got == bytes[6 * 65_536..]);
    assert_eq!(kitchen.store.requests() - requests, 1);
    assert_eq!(kitchen.store.bytes() - moved, rest.length());
}

#[tokio::test]
async fn a_page_is_kept_although_its_reader_left_in_its_midst() {
    let kitchen = kitchen();
    let bytes = noise(65_536, 10);
    kitchen.put("cold", &bytes);
    *kitchen.store.chunk_max.lock().unwrap() = 10_000;
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_millis(2);
    let head = Span::Range(ByteRange::new(0, 100));
    assert!(kitchen.read("cold", head).await.unwrap().1 == bytes[..100]);
    let (_, got) = kitchen.read("cold", Span::All).await.unwrap();
    assert!(got == bytes);
    assert_eq!(kitchen.store.requests(), 1);
    assert_eq!(kitchen.store.bytes(), 65_536);
}

/// The rest of the page never comes, and still both readers have what came of it.
#[tokio::test]
async fn what_has_arrived_of_a_page_is_given_at_once() {
    let kitchen = kitchen();
    let bytes = noise(200_000, 8);
    kitchen.put("cold", &bytes);
    *kitchen.store.stalls_after.lock().unwrap() = Some(70_000);
    let clock = Clock::system();
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let mut body = kitchen.worker.read(request("cold", Span::All)).await.unwrap().body;
        let mut got = Vec::new();
        while got.len() < 70_000 {
            let chunk = tokio::select! {
                chunk = body.next() => chunk.unwrap().unwrap(),
                () = clock.sleep(Duration::from_secs(20)) => panic!("only {} bytes", got.len()),
            };
            match chunk {
                Chunk::Bytes(streamed) => got.extend_from_slice(&streamed.bytes),
                // The first page is whole and may be on disk by now.
                Chunk::Resident { part, .. } => {
                    got.extend_from_slice(&bytes[part.start as usize..part.end as usize]);
                }
            }
        }
        assert!(got == bytes[..70_000]);
        bodies.push(body);
    }
    assert_eq!(kitchen.store.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_neither_cancels_nor_wastes() {
    let kitchen = kitchen();
    let bytes = noise(40 << 20, 3);
    kitchen.put("cold", &bytes);
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_micros(100);
    let first = kitchen.worker.read(request("cold", Span::All)).await.unwrap();
    let second = kitchen.worker.read(request("cold", Span::All)).await.unwrap();
    let mut body = first.body;
    body.next().await.unwrap().unwrap();
    drop(body);
    assert!(drain(second.body).await.unwrap() == bytes, "the other gets all of it");
    assert_eq!(kitchen.store.bytes(), 40 << 20);

    kitchen.put("alone", &bytes);
    let mut body = kitchen.worker.read(request("alone", Span::All)).await.unwrap().body;
    body.next().await.unwrap().unwrap();
    drop(body);
    let clock = Clock::system();
    clock.sleep(Duration::from_millis(300)).await;
    let moved = kitchen.store.bytes() - (40 << 20);
    assert!(moved <= 12 << 20, "an abandoned fetch ends, but moved {moved} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_has_no_room_for_is_still_streamed_once() {
    let recipe = Recipe { clock: Clock::system(), capacity: 1 << 20, ..Recipe::default() };
    let kitchen = Kitchen::new(recipe);
    let bytes = noise(30 << 20, 4);
    kitchen.put("larger-than-the-cache", &bytes);
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_millis(1);
    let (_, got) = kitchen.read("larger-than-the-cache", Span::All).await.unwrap();
    assert!(got == bytes);
    // Exactly once, unless a busy machine holds up the reader until what it wants next was evicted.
    // One stream of this store is slow, so there may be a request for each part.
    let (requests, fetched) = (kitchen.store.requests(), kitchen.store.bytes());
    assert!(requests <= 10 && fetched < 40 << 20, "{requests} requests, {fetched} bytes");
}

/// The disk takes pages faster than this reader does, so it finds them now here, now there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_slower_than_the_disk_stays_with_its_one_request() {
    let kitchen = kitchen();
    let bytes = noise(12 << 20, 6);
    kitchen.put("cold", &bytes);
    *kitchen.store.chunk_wait.lock().unwrap() = Duration::from_millis(1);
    let mut body = kitchen.worker.read(request("cold", Span::All)).await.unwrap().body;
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().length();
        Clock::system().sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(length, 12 << 20);
    assert_eq!(kitchen.store.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequential_reader_may_fetch_ahead() {
    let kitchen = kitchen();
    let bytes = noise(4 << 20, 5);
    kitchen.put("cold", &bytes);
    kitchen.worker.stat(StatRequest { path: path("cold"), attributes: false }).await.unwrap();
    let start = Span::Range(ByteRange::new(0, 65_536));
    let ahead =
        larder_cluster::wire::message::ReadRequest { ahead: 1 << 20, ..request("cold", start) };
    let (_, got) = kitchen.read_with(ahead).await.unwrap();
    assert!(got == bytes[..65_536]);
    let next = Span::Range(ByteRange::new(65_536, 65_536 + (1 << 20)));
    let (_, got) = kitchen.read("cold", next).await.unwrap();
    assert!(got == bytes[65_536..65_536 + (1 << 20)]);
    assert_eq!(kitchen.store.requests(), 2, "the stat and one read");
}
