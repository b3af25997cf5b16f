// SPDX-License-Identifier: Apache-2.0
//! What the worker says about caches of other sizes.

use std::time::Duration;

use larder_cluster::{
    mounts::Prices,
    wire::{
        advice::{Advice, Verdict},
        message::{CacheChange, CacheRequest, LoadRequest, WholeRequest},
        service::Service,
    },
};
use larder_core::Span;
use larder_worker::Rule;

use crate::kitchen::{Kitchen, Recipe, noise, path};

/// Each file is a page and its own segment: with its overhead 68 KiB in a cache.
const FILE: usize = 64 << 10;

async fn advice(kitchen: &Kitchen) -> Advice {
    kitchen.worker.report().await.unwrap().advice
}

#[tokio::test]
async fn advice_prices_what_other_sizes_would_have_saved() {
    let prices = Some(Prices { per_million_requests: 2e6, per_gib: 0.0 });
    // 120 files of one page: half of them, three quarters, all of them fit into ½, 1 and 2.
    let capacity = 90 * (FILE as u64 + 4096);
    let kitchen = Kitchen::new(Recipe { prices, capacity, ..Recipe::default() });
    for file in 0..120 {
        kitchen.put(&format!("{file}"), &noise(FILE, file));
    }
    assert_eq!(advice(&kitchen).await.verdict, Verdict::TooLittle);
    for _round in 0..12 {
        for file in 0..120 {
            kitchen.read(&format!("{file}"), Span::All).await.unwrap();
        }
    }
    kitchen.clock.advance(Duration::from_secs(90));
    let told = advice(&kitchen).await;
    assert_eq!((told.verdict, told.observed_s), (Verdict::Enough, 90));
    assert_eq!((told.reads, told.sampled_reads, told.sample_rate), (1_440, 1_440, 1.0));
    assert_eq!(told.read_bytes, 1_440 * FILE as u64);
    let missed = |at: usize| told.sizes[at].miss_ratio_by_requests;
    assert!(missed(0) > missed(1) && missed(1) > missed(2), "{told:?}");
    assert_eq!((missed(2), missed(3)), (120.0 / 1_440.0, 120.0 / 1_440.0));
    let [half, present, twice, _] = [0, 1, 2, 3].map(|at| &told.sizes[at].saved);
    assert_eq!((present.requests, present.bytes, present.cost), (0, 0, Some(0.0)));
    assert!(half.requests < 0 && half.cost < Some(0.0), "{half:?}");
    assert_eq!(twice.cost, Some(2.0 * twice.requests as f64));
    assert_eq!(twice.bytes, twice.requests * FILE as i64);
    let expected = missed(1).mul_add(1_440.0, -120.0).round() as i64;
    assert_eq!(twice.requests, expected);
    assert_eq!(told.sizes[2].mounts[0].saved, *twice, "there is one mount");
}

#[tokio::test]
async fn what_a_rule_keeps_out_of_the_cache_is_not_advised_about() {
    let kitchen = Kitchen::new(Recipe::default());
    for key in ["in", "out"] {
        kitchen.put(key, &noise(FILE, 1));
    }
    let rule = Rule { cache: false, ..Rule::new("/lake/out".parse().unwrap()) };
    kitchen.worker.set_rules(vec![rule]).unwrap();
    for key in ["in", "out", "in"] {
        kitchen.read(key, Span::All).await.unwrap();
    }
    assert_eq!(advice(&kitchen).await.reads, 2);
    kitchen.worker.set_rules(vec![]).unwrap();
    kitchen.read("out", Span::All).await.unwrap();
    assert_eq!(advice(&kitchen).await.reads, 3);
}

#[tokio::test]
async fn loads_are_no_reads_and_another_capacity_begins_anew() {
    let kitchen = Kitchen::new(Recipe::default());
    for file in 0..4 {
        kitchen.put(&format!("{file}"), &noise(FILE, file));
        kitchen.worker.load(LoadRequest { path: path(&format!("{file}")) }).await.unwrap();
    }
    assert_eq!(advice(&kitchen).await.reads, 0);
    for _round in 0..300 {
        for file in 0..4 {
            kitchen.read(&format!("{file}"), Span::All).await.unwrap();
        }
    }
    let told = advice(&kitchen).await;
    assert_eq!((told.verdict, told.reads), (Verdict::Fits, 1_200), "1 GiB is plenty");
    let directory = kitchen.directory.path().join("more").display().to_string();
    let change = CacheChange::Add { size_bytes: 1 << 30 };
    kitchen.worker.cache(CacheRequest { directory, change }).await.unwrap();
    let told = advice(&kitchen).await;
    assert_eq!((told.reads, told.sizes[1].capacity_bytes), (0, 2 << 30));
}

/// The kernel reads such a file by itself: an open is all that is seen of it.
#[tokio::test]
async fn a_file_that_others_read_counts_once_for_each_open() {
    let kitchen = Kitchen::new(Recipe::default());
    let length = (16 << 20) + FILE;
    let status = kitchen.put("large", &noise(length, 1));
    let before = advice(&kitchen).await;
    let request = WholeRequest { path: path("large"), status };
    for _open in 0..3 {
        kitchen.worker.count_whole(request.clone()).await.unwrap();
    }
    let told = advice(&kitchen).await;
    assert_eq!(told.reads - before.reads, 3 * 2, "a read of each of two segments");
    assert_eq!(told.read_bytes - before.read_bytes, 3 * length as u64);
}
