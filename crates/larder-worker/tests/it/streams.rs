// SPDX-License-Identifier: Apache-2.0
//! Several streams where one is the store's limit, and one everywhere else.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt;
use larder_cluster::wire::{
    message::{LoadRequest, StatRequest},
    service::Service,
};
use larder_core::{ByteRange, Clock, Span, UnixMillis};

use crate::{
    counting::Line,
    kitchen::{Kitchen, Recipe, noise, path, request},
};

const MIB: u64 = 1 << 20;
/// Time between two chunks of 64 KiB: 32 MiB/s.
const CHUNK: Duration = Duration::from_millis(2);

fn kitchen(each: Duration, all: Duration) -> (Kitchen, Arc<Line>) {
    kitchen_with(Recipe::default(), Duration::ZERO, (each, all))
}

fn kitchen_with(
    recipe: Recipe,
    first: Duration,
    rates: (Duration, Duration),
) -> (Kitchen, Arc<Line>) {
    let clock = Clock::manual(UnixMillis(1_800_000_000_000));
    let kitchen = Kitchen::new(Recipe { clock: clock.clone(), memory: 1 << 30, ..recipe });
    let line = Line::new(clock, first, rates);
    *kitchen.store.line.lock().unwrap() = Some(Arc::clone(&line));
    (kitchen, line)
}

/// What a cold read of all of an object takes and costs.
#[derive(Debug)]
struct Cost {
    time: Duration,
    requests: u64,
}

async fn read_cold(kitchen: &Kitchen, key: &str, mib: u64) -> Cost {
    let bytes = noise((mib * MIB) as usize, mib);
    kitchen.put(key, &bytes);
    let begin = kitchen.clock.elapsed();
    let (requests, moved) = (kitchen.store.requests(), kitchen.store.bytes());
    let (_, got) = kitchen.read(key, Span::All).await.unwrap();
    assert!(got == bytes);
    let asked = kitchen.store.asked.lock().unwrap().join("\n");
    assert_eq!(kitchen.store.bytes() - moved, mib * MIB, "each byte once: {asked}");
    Cost { time: kitchen.clock.elapsed() - begin, requests: kitchen.store.requests() - requests }
}

/// What one stream takes.
fn alone(mib: u64) -> Duration {
    CHUNK * u32::try_from(mib * 16).unwrap()
}

#[tokio::test]
async fn several_streams_are_several_times_as_fast_as_a_slow_one() {
    let (kitchen, line) = kitchen(CHUNK, Duration::ZERO);
    let alone_first = read_cold(&kitchen, "first", 64).await;
    assert_eq!(alone_first.requests, 1, "nothing was known");
    read_cold(&kitchen, "second", 64).await;
    let cost = read_cold(&kitchen, "third", 64).await;
    assert!(cost.time * 4 <= alone(64), "{cost:?}");
    assert!(line.most.load(Ordering::SeqCst) <= 16, "{line:?}");
    // Also who is known already, and whoever reads ranges.
    let bytes = noise(24 << 20, 3);
    kitchen.put("known", &bytes);
    kitchen.worker.stat(StatRequest { path: path("known"), attributes: false }).await.unwrap();
    for start in (0..24).step_by(12).map(|start| start * MIB) {
        let begin = kitchen.clock.elapsed();
        let span = Span::Range(ByteRange::new(start, start + 12 * MIB));
        let (_, got) = kitchen.read("known", span).await.unwrap();
        assert!(got == bytes[start as usize..(start + 12 * MIB) as usize]);
        let time = kitchen.clock.elapsed() - begin;
        assert!(time * 2 <= alone(12), "{time:?}");
    }
}

#[tokio::test]
async fn what_is_short_stays_one_request() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    read_cold(&kitchen, "first", 64).await;
    read_cold(&kitchen, "second", 64).await;
    for mib in [1, 4, 8] {
        assert_eq!(read_cold(&kitchen, &format!("{mib}"), mib).await.requests, 1, "{mib} MiB");
    }
}

#[tokio::test]
async fn a_store_that_is_far_away_and_quick_is_not_split() {
    let far = Duration::from_millis(300);
    let (kitchen, _line) = kitchen_with(Recipe::default(), far, Default::default());
    for (key, mib) in [("a", 2), ("b", 4), ("c", 16), ("d", 16)] {
        assert_eq!(read_cold(&kitchen, key, mib).await.requests, 1, "{key}");
    }
}

/// Where parts wait longer for their first bytes than these take, they bring nothing.
#[tokio::test]
async fn where_first_bytes_are_late_parts_are_given_up() {
    let recipe = Recipe::default();
    let rates = (CHUNK, Duration::ZERO);
    let (kitchen, _line) = kitchen_with(recipe, Duration::from_millis(600), rates);
    for key in ["first", "second", "third"] {
        read_cold(&kitchen, key, 48).await;
    }
    let cost = read_cold(&kitchen, "fourth", 48).await;
    assert!(cost.time < alone(48) * 3 / 2, "{cost:?}");
}

/// A reader that has no place for a part beside its own request gets one request.
#[tokio::test]
async fn where_there_are_few_places_nothing_is_split() {
    for (places, requests) in [(1, 1..=1), (2, 1..=1), (3, 1..=1), (4, 2..=9)] {
        let recipe = Recipe { rate: Some(1_000_000), places, ..Recipe::default() };
        let (kitchen, _line) = kitchen_with(recipe, Duration::ZERO, (CHUNK, Duration::ZERO));
        read_cold(&kitchen, "first", 8).await;
        let cost = read_cold(&kitchen, "second", 16).await;
        assert!(requests.contains(&cost.requests), "{places} places: {cost:?}");
        kitchen.put("known", &noise(16 << 20, 3));
        kitchen.worker.stat(StatRequest { path: path("known"), attributes: false }).await.unwrap();
        let before = kitchen.store.requests();
        kitchen.read("known", Span::From(MIB)).await.unwrap();
        let cost = kitchen.store.requests() - before;
        assert!(requests.contains(&cost), "{places} places: {cost}");
    }
}

/// A reader that is slower than the store costs the split of the opening, and no part.
#[tokio::test]
async fn a_slow_reader_is_not_split() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    for key in ["first", "second"] {
        read_cold(&kitchen, key, 48).await;
    }
    let bytes = noise(48 << 20, 3);
    kitchen.put("slow", &bytes);
    let (requests, before) = (kitchen.store.requests(), kitchen.store.bytes());
    let mut body = kitchen.worker.read(request("slow", Span::All)).await.unwrap().body;
    let mut taken = 0;
    loop {
        // Whatever is asked for comes before the next is taken.
        let mut come = 0;
        while come < kitchen.store.bytes() {
            come = kitchen.store.bytes();
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
        let Some(chunk) = body.next().await else { break };
        taken += chunk.unwrap().length();
    }
    assert_eq!((taken, kitchen.store.bytes() - before), (48 * MIB, 48 * MIB));
    let asked = kitchen.store.asked.lock().unwrap().split_off(requests as usize);
    assert_eq!(asked.len(), 2, "the opening, and all that follows: {asked:?}");
}

/// Parts that pause for want of memory go on when there is some, though their reader stands still.
#[tokio::test]
async fn parts_that_wait_for_memory_go_on_when_there_is_some() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    for key in ["first", "second"] {
        read_cold(&kitchen, key, 48).await;
    }
    let length = 48 * MIB;
    kitchen.put("cold", &noise(length as usize, 3));
    let (requests, before) = (kitchen.store.requests(), kitchen.store.bytes());
    let mut body = kitchen.worker.read(request("cold", Span::All)).await.unwrap().body;
    while kitchen.store.requests() - requests < 4 {
        body.next().await.unwrap().unwrap();
    }
    let taken = kitchen.budget.try_acquire((1 << 30) / 4 + 1).expect("it is there");
    let mut come = before;
    while come < kitchen.store.bytes() {
        come = kitchen.store.bytes();
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }
    assert!(come - before < 40 * MIB, "they did not pause");
    drop(taken);
    for _ in 0..1000 {
        kitchen.clock.advance(Duration::from_millis(100));
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if kitchen.store.bytes() > come + 2 * MIB {
            return;
        }
    }
    panic!("they wait still");
}

/// As many readers as streams are worth having: each has its own, and none splits.
#[tokio::test]
async fn where_readers_are_many_nobody_is_split() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    for key in ["first", "second"] {
        read_cold(&kitchen, key, 64).await;
    }
    let bytes = noise(24 << 20, 3);
    let mut bodies = Vec::new();
    for at in 0..16 {
        let key = format!("{at}");
        kitchen.put(&key, &bytes);
        let mut body = kitchen.worker.read(request(&key, Span::All)).await.unwrap().body;
        body.next().await.unwrap().unwrap();
        bodies.push(body);
    }
    kitchen.put("one more", &bytes);
    let before = kitchen.store.requests();
    kitchen.read("one more", Span::All).await.unwrap();
    assert_eq!(kitchen.store.requests() - before, 1);
}

#[tokio::test]
async fn where_the_total_is_the_limit_there_is_one_trial() {
    let (kitchen, _line) = kitchen(Duration::ZERO, CHUNK);
    assert_eq!(read_cold(&kitchen, "first", 64).await.requests, 1);
    let trial = read_cold(&kitchen, "second", 64).await;
    assert!(trial.requests > 1, "nothing was tried: {trial:?}");
    for key in ["third", "fourth"] {
        assert_eq!(read_cold(&kitchen, key, 64).await.requests, 1);
    }
    kitchen.put("known", &noise(24 << 20, 3));
    kitchen.worker.stat(StatRequest { path: path("known"), attributes: false }).await.unwrap();
    let requests = kitchen.store.requests();
    kitchen.read("known", Span::From(MIB)).await.unwrap();
    assert_eq!(kitchen.store.requests(), requests + 1);
}

#[tokio::test]
async fn a_load_is_brought_in_parts_too_and_counts_them() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    read_cold(&kitchen, "first", 64).await;
    let bytes = noise(40 << 20, 7);
    kitchen.put("loaded", &bytes);
    let before = kitchen.store.requests();
    let loaded = kitchen.worker.load(LoadRequest { path: path("loaded") }).await.unwrap();
    assert_eq!((loaded.fetched_bytes, loaded.not_kept_bytes), (40 * MIB, 0), "{loaded:?}");
    assert!(kitchen.store.requests() - before > 2, "an opening and parts");
    let requests = kitchen.store.requests();
    let (_, got) = kitchen.read("loaded", Span::All).await.unwrap();
    assert!(got == bytes);
    assert_eq!(kitchen.store.requests(), requests, "all of it is here");
}

/// An opening that leaves the rest to parts brings its own range, and nothing else counts.
#[tokio::test]
async fn a_load_counts_no_byte_that_was_here() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    read_cold(&kitchen, "first", 16).await;
    kitchen.put("loaded", &noise(40 << 20, 7));
    kitchen.worker.stat(StatRequest { path: path("loaded"), attributes: false }).await.unwrap();
    kitchen.read("loaded", Span::From(16 * MIB)).await.unwrap();
    let (requests, bytes) = (kitchen.store.requests(), kitchen.store.bytes());
    // What is known is no longer fresh, so the load asks for bytes with its opening.
    kitchen.clock.advance(Duration::from_secs(300));
    let loaded = kitchen.worker.load(LoadRequest { path: path("loaded") }).await.unwrap();
    assert_eq!((loaded.fetched_bytes, loaded.not_kept_bytes), (16 * MIB, 0), "{loaded:?}");
    assert_eq!(kitchen.store.bytes() - bytes, 16 * MIB);
    assert!(kitchen.store.requests() - requests > 1, "the opening was not split");
}

/// Somebody reads from the beginning, slowly; who wants the end does not wait for all between.
#[tokio::test]
async fn a_reader_far_ahead_of_a_fetch_does_not_wait_for_all_between() {
    let (kitchen, _line) = kitchen(CHUNK, Duration::ZERO);
    let bytes = noise(64 << 20, 9);
    kitchen.put("cold", &bytes);
    let mut slow = kitchen.worker.read(request("cold", Span::All)).await.unwrap().body;
    slow.next().await.unwrap().unwrap();
    let begin = kitchen.clock.elapsed();
    let range = ByteRange::new(48 * MIB, 48 * MIB + 100_000);
    let (_, got) = kitchen.read("cold", Span::Range(range)).await.unwrap();
    assert!(got == bytes[range.start as usize..range.end as usize]);
    assert!(kitchen.clock.elapsed() - begin < alone(24), "it waited for 48 MiB");
    let near = ByteRange::new(4 * MIB, 4 * MIB + 100_000);
    let requests = kitchen.store.requests();
    kitchen.read("cold", Span::Range(near)).await.unwrap();
    assert_eq!(kitchen.store.requests(), requests, "that is on its way");
    let mut rest = 0;
    while let Some(chunk) = slow.next().await {
        rest += chunk.unwrap().length();
    }
    assert!(rest < 64 * MIB && rest > 63 * MIB);
    assert_eq!(kitchen.store.bytes(), 64 * MIB, "each byte once");
}
