// SPDX-License-Identifier: Apache-2.0
//! Readers before jobs: who waits for the store, and who is next when somebody reads.

use std::{sync::Arc, time::Duration};

use larder_cluster::wire::{
    message::{LoadReply, LoadRequest, StatRequest},
    service::Service,
};
use larder_core::{Result, Span, metric::WaitingLabels};
use tokio::task::JoinHandle;

use crate::kitchen::{Kitchen, Recipe, noise, path};

const FILES: usize = 12;

/// A kitchen whose store takes one request a second, and loads of all its files under way: one has
/// passed, the others wait.
async fn loading(known: bool) -> (Arc<Kitchen>, Vec<JoinHandle<Result<LoadReply>>>) {
    let kitchen = Arc::new(Kitchen::new(Recipe { rate: Some(1), ..Recipe::default() }));
    for file in 0..FILES {
        kitchen.put(&name(file), &noise(100_000, file as u64));
        if known {
            let request = StatRequest { path: path(&name(file)), attributes: false };
            let worker = Arc::clone(&kitchen.worker);
            let stat = tokio::spawn(async move { worker.stat(request).await });
            advance_until(&kitchen, || stat.is_finished()).await;
            stat.await.unwrap().unwrap();
        }
    }
    let mut loads = Vec::new();
    for file in 0..FILES {
        let (worker, request) =
            (Arc::clone(&kitchen.worker), LoadRequest { path: path(&name(file)) });
        loads.push(tokio::spawn(async move { worker.load(request).await }));
        tokio::task::yield_now().await;
    }
    advance_until(&kitchen, || loads[0].is_finished()).await;
    until(|| waiting(&kitchen, "bulk") >= FILES as i64 - 2).await;
    (kitchen, loads)
}

fn name(file: usize) -> String {
    format!("file-{file:02}")
}

fn waiting(kitchen: &Kitchen, class: &'static str) -> i64 {
    let labels = WaitingLabels { mount: "lake".to_owned(), class };
    kitchen.metrics.store_waiting.get_or_create(&labels).get()
}

/// Lets tasks run until something has come about; no time passes on the kitchen's clock.
async fn until(condition: impl Fn() -> bool) {
    let clock = larder_core::Clock::system();
    for _ in 0..3000 {
        if condition() {
            return;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that");
}

async fn advance_until(kitchen: &Kitchen, condition: impl Fn() -> bool) {
    let clock = larder_core::Clock::system();
    for _ in 0..3000 {
        if condition() {
            return;
        }
        kitchen.clock.advance(Duration::from_millis(10));
        clock.sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not come to that");
}

/// The reader's file is the last of the loads; it is read after the next request or the one
/// after that, and most loads still wait.
async fn the_last_is_read_next(known: bool) {
    let (kitchen, loads) = loading(known).await;
    let done = || loads.iter().filter(|load| load.is_finished()).count();
    let before = (done(), kitchen.store.requests());
    let reader = {
        let kitchen = Arc::clone(&kitchen);
        tokio::spawn(async move { kitchen.read(&name(FILES - 1), Span::All).await })
    };
    until(|| waiting(&kitchen, "foreground") == 1).await;
    advance_until(&kitchen, || reader.is_finished()).await;
    assert!(reader.await.unwrap().unwrap().1 == noise(100_000, FILES as u64 - 1));
    assert!(done() <= before.0 + 3, "{} of {FILES} loads are done", done());
    assert!(kitchen.store.requests() <= before.1 + 2, "it joined the request of the load");
    advance_until(&kitchen, || done() == FILES).await;
    for load in loads {
        assert_eq!(load.await.unwrap().unwrap().length, 100_000);
    }
    assert_eq!(kitchen.store.bytes(), 100_000 * FILES as u64, "each byte once");
}

#[tokio::test]
async fn a_reader_that_joins_the_opening_of_a_job_is_next() {
    the_last_is_read_next(false).await;
}

#[tokio::test]
async fn a_reader_that_joins_the_fetch_of_a_job_is_next() {
    the_last_is_read_next(true).await;
}
