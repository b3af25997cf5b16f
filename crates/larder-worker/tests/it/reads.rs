// SPDX-License-Identifier: Apache-2.0
//! What a read costs and gives.

use std::sync::Arc;

use larder_cluster::{
    mounts::Prices,
    wire::{
        message::{FreeRequest, LoadRequest, Outcome, RepeatedReads, StatRequest},
        service::Service,
    },
};
use larder_core::{ByteRange, ErrorKind, MountName, PageIndex, Span};

use crate::kitchen::{Kitchen, Recipe, noise, open_worker, path, request};

#[tokio::test]
async fn a_cold_read_is_one_request_and_a_warm_one_none() {
    let kitchen = Kitchen::new(Recipe::default());
    for (key, length) in [("empty", 0), ("small", 5), ("page", 65536), ("large", 3_000_001)] {
        let bytes = noise(length, 7);
        let status = kitchen.put(key, &bytes);
        let before = kitchen.store.requests();
        let (head, got) = kitchen.read(key, Span::All).await.unwrap();
        assert_eq!(head.outcome, Outcome::Miss);
        assert_eq!(head.status, status, "attributes come with the same reply");
        assert!(got == bytes, "{key}");
        assert_eq!(kitchen.store.requests() - before, 1, "{key}");
        kitchen.worker.load(LoadRequest { path: path(key) }).await.unwrap();
        let (head, got) = kitchen.read(key, Span::All).await.unwrap();
        assert_eq!(head.outcome, Outcome::Hit, "{key}");
        assert!(got == bytes, "{key}");
        assert_eq!(kitchen.store.requests() - before, 1, "{key}: the second read asks nobody");
    }
}

#[tokio::test]
async fn spans_give_what_they_name_cold_and_warm() {
    let kitchen = Kitchen::new(Recipe::default());
    let bytes = noise(400_000, 3);
    let range = |start, end| Span::Range(ByteRange::new(start, end));
    let spans = [
        (range(0, 1), 0..1),
        (range(65_535, 65_537), 65_535..65_537),
        (range(390_000, 500_000), 390_000..400_000),
        (Span::From(70_000), 70_000..400_000),
        (Span::Last(10), 399_990..400_000),
        (Span::Last(131_073), 268_927..400_000),
        (Span::Last(1 << 40), 0..400_000),
    ];
    for (at, (span, expected)) in spans.iter().enumerate() {
        let key = format!("file-{at}");
        kitchen.put(&key, &bytes);
        for round in 0..2 {
            let before = kitchen.store.requests();
            let (head, got) = kitchen.read(&key, *span).await.unwrap();
            let resolved = head.range.unwrap();
            assert_eq!(resolved.start as usize..resolved.end as usize, *expected, "{span:?}");
            assert!(got == bytes[expected.clone()], "{span:?} round {round}");
            assert!(kitchen.store.requests() - before <= 1, "{span:?} round {round}");
        }
    }
    let (head, got) = kitchen.read("file-0", Span::From(400_000)).await.unwrap();
    assert_eq!((head.range, got.len()), (None, 0));
    assert_eq!(head.status.length, 400_000);
}

#[tokio::test]
async fn random_reads_fetch_whole_pages_and_no_more() {
    let kitchen = Kitchen::new(Recipe::default());
    let bytes = noise(10 << 20, 5);
    kitchen.put("big", &bytes);
    kitchen.worker.stat(StatRequest { path: path("big"), attributes: false }).await.unwrap();
    for page in [7_u64, 80, 3, 159] {
        let range = ByteRange::new(page * 65_536, (page + 1) * 65_536);
        let (_, got) = kitchen.read("big", Span::Range(range)).await.unwrap();
        assert!(got == bytes[range.start as usize..range.end as usize]);
    }
    assert_eq!(kitchen.store.bytes(), 4 * 65_536);
}

#[tokio::test]
async fn a_restart_keeps_what_was_read() {
    let recipe = Recipe::default();
    let clock = recipe.clock.clone();
    let kitchen = Kitchen::new(recipe);
    let bytes = noise(1_000_000, 11);
    kitchen.put("kept", &bytes);
    kitchen.worker.load(LoadRequest { path: path("kept") }).await.unwrap();
    kitchen.worker.close().unwrap();
    let Kitchen { worker, store, directory, metrics, budget, .. } = kitchen;
    while Arc::strong_count(&worker) > 1 {
        // The task of the fetch lets go of the worker when it is polled once more.
        tokio::task::yield_now().await;
    }
    drop(worker);
    let before = store.requests();
    let recipe = Recipe { clock: clock.clone(), ..Recipe::default() };
    let worker = open_worker(&recipe, store.clone(), directory.path());
    let kitchen = Kitchen { worker, store, clock, directory, metrics, budget };
    let (head, got) = kitchen.read("kept", Span::All).await.unwrap();
    assert_eq!(head.outcome, Outcome::Hit);
    assert!(got == bytes);
    assert_eq!(kitchen.store.requests(), before);
}

#[tokio::test]
async fn a_page_that_fails_its_check_is_dropped_and_fetched_again() {
    let kitchen = Kitchen::new(Recipe::default());
    let bytes = noise(300_000, 13);
    kitchen.put("rotten", &bytes);
    kitchen.worker.load(LoadRequest { path: path("rotten") }).await.unwrap();
    flip_a_byte_of_each_page(&kitchen.directory.path().join("cache"));
    let error = kitchen.read("rotten", Span::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "the check catches it");
    let suspects = (0..5).map(PageIndex).collect();
    let again =
        larder_cluster::wire::message::ReadRequest { suspects, ..request("rotten", Span::All) };
    let (_, got) = kitchen.read_with(again).await.unwrap();
    assert!(got == bytes);
}

fn flip_a_byte_of_each_page(directory: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let mut stack = vec![directory.join("pages")];
    while let Some(next) = stack.pop() {
        if next.is_dir() {
            stack.extend(std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let file = std::fs::File::options().read(true).write(true).open(next).unwrap();
        for at in (0..file.metadata().unwrap().len()).step_by(65_536) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
    }
}

/// What a load brings is to be kept, so it goes at the disk's pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_does_not_outrun_the_disk() {
    // Half of it is what a load fills; each of its streams may add a chunk and a page to that.
    let kitchen = Kitchen::new(Recipe { fill_queue: 9 << 20, ..Recipe::default() });
    *kitchen.store.chunk_max.lock().unwrap() = 64 << 10;
    kitchen.put("large", &noise(96 << 20, 1));
    let load = || kitchen.worker.load(LoadRequest { path: path("large") });
    let loaded = load().await.unwrap();
    assert_eq!((loaded.fetched_bytes, loaded.not_kept_bytes), (96 << 20, 0));
    assert_eq!(load().await.unwrap().fetched_bytes, 0, "all of it is here");
}

/// The page store often has a small file before the job looks for the bytes that its own request
/// brought.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_says_what_came_from_the_store() {
    let kitchen = Kitchen::new(Recipe::default());
    for nth in 0..200 {
        let (key, length) = (format!("small/{nth}"), 1000 + nth);
        kitchen.put(&key, &noise(usize::try_from(length).unwrap(), nth));
        let load = || kitchen.worker.load(LoadRequest { path: path(&key) });
        let first = load().await.unwrap();
        assert_eq!((first.fetched_bytes, first.not_kept_bytes), (length, 0), "{key}");
        assert_eq!(load().await.unwrap().fetched_bytes, 0, "{key} is here");
    }
}

#[tokio::test]
async fn free_gives_everything_back_and_explain_says_so() {
    let kitchen = Kitchen::new(Recipe::default());
    for key in ["a/1", "a/2", "b"] {
        kitchen.put(key, &noise(200_000, 1));
        kitchen.worker.load(LoadRequest { path: path(key) }).await.unwrap();
    }
    let explain = |key| {
        let request = StatRequest { path: path(key), attributes: false };
        let worker = kitchen.worker.clone();
        async move { worker.explain(request).await.unwrap() }
    };
    assert_eq!(explain("a/1").await.resident_pages, 4);
    let freed =
        kitchen.worker.free(FreeRequest { path: path("a/"), recursive: true }).await.unwrap();
    assert_eq!(freed.files, 2);
    assert!(freed.bytes >= 400_000);
    assert_eq!(explain("a/1").await.resident_pages, 0);
    assert_eq!(explain("b").await.resident_pages, 4);
}

#[tokio::test]
async fn the_report_says_what_the_cache_saved() {
    let prices = Some(Prices { per_million_requests: 1e6, per_gib: f64::from(1 << 30) });
    let kitchen = Kitchen::new(Recipe { prices, ..Recipe::default() });
    kitchen.put("whole", &noise(400_000, 4));
    kitchen.put("point", &noise(400_000, 5));
    let mount = async || kitchen.worker.report().await.unwrap().mounts.remove(0);
    let load = async || kitchen.worker.load(LoadRequest { path: path("whole") }).await.unwrap();
    assert_eq!(mount().await.hit_ratio_by_requests(), None, "nothing was read yet");
    load().await;
    load().await;
    let loaded = mount().await;
    assert_eq!((loaded.reads, loaded.cache_read_bytes), (0, 0), "nobody read");
    assert_eq!(loaded.loaded_bytes, 400_000, "the second load fetched nothing");
    kitchen.read("whole", Span::Range(ByteRange::new(0, 100_000))).await.unwrap();
    let warm = mount().await;
    assert_eq!((warm.hit_ratio_by_requests(), warm.hit_ratio_by_bytes()), (Some(1.0), Some(1.0)));
    assert_eq!((warm.cache_read_bytes, warm.avoided_requests), (100_000, 1));
    assert_eq!(warm.cost_avoided, Some(100_001.0), "each request and each byte costs one");
    let request = StatRequest { path: path("whole"), attributes: false };
    kitchen.worker.stat(request).await.unwrap();
    assert_eq!(mount().await.avoided_requests, 2, "a status too");
    kitchen.read("point", Span::Range(ByteRange::new(0, 1000))).await.unwrap();
    let point = mount().await;
    assert_eq!((point.reads, point.reads_hit), (2, 1));
    assert_eq!(point.hit_ratio_by_requests(), Some(0.5));
    assert_eq!((point.streamed_read_bytes, point.loaded_bytes), (1000, 400_000));
    let again = RepeatedReads { mount: path("point").mount, reads: 3, bytes: 500 };
    kitchen.worker.note(again.clone());
    kitchen.worker.note(RepeatedReads { mount: MountName::new("gone").unwrap(), ..again });
    let repeated = mount().await;
    assert_eq!((repeated.reads, repeated.reads_hit), (5, 4), "those that nobody was asked for");
    assert_eq!(repeated.cache_read_bytes, point.cache_read_bytes + 500);
}

/// The last page of such a file holds a few bytes, the footer lies in the one before.
#[tokio::test]
async fn a_footer_is_one_request_wherever_pages_end() {
    let kitchen = Kitchen::new(Recipe::default());
    let bytes = noise((3 << 20) + 10, 5);
    let length = bytes.len() as u64;
    let last = |count: u64| Span::Range(ByteRange::new(length - count, length));
    kitchen.put("known.parquet", &bytes);
    kitchen.put("suffix", &bytes);
    let stat = StatRequest { path: path("known.parquet"), attributes: false };
    kitchen.worker.stat(stat).await.unwrap();
    for (key, first) in [("known.parquet", last(8)), ("suffix", Span::Last(8))] {
        let before = kitchen.store.requests();
        let (_, got) = kitchen.read(key, first).await.unwrap();
        assert!(got == bytes[bytes.len() - 8..]);
        let (_, got) = kitchen.read(key, last(60_000)).await.unwrap();
        assert!(got == bytes[bytes.len() - 60_000..]);
        assert_eq!(kitchen.store.requests() - before, 1, "{key}");
    }
    let moved = kitchen.store.bytes();
    kitchen.read("known.parquet", Span::Range(ByteRange::new(0, 8))).await.unwrap();
    assert_eq!(kitchen.store.bytes() - moved, 65_536, "elsewhere a page is a page");
}
