// SPDX-License-Identifier: Apache-2.0
//! Rules by path, as a client of the worker meets them.

use std::{sync::Arc, time::Duration};

use larder_cluster::wire::{
    message::{Explanation, LoadRequest, RuleReport, StatRequest},
    service::Service,
};
use larder_core::{ByteSize, Clock, ErrorKind, Freshness, Priority, Span};
use larder_worker::{Rule, Worker};

use crate::kitchen::{Kitchen, Recipe, noise, open_worker, path};

const LENGTH: usize = 200_000;

fn rule(path: &str) -> Rule {
    Rule::new(path.parse().unwrap())
}

fn kitchen(rules: Vec<Rule>) -> Arc<Kitchen> {
    let freshness = Freshness::Immutable;
    Arc::new(Kitchen::new(Recipe { rules, freshness, ..Recipe::default() }))
}

/// Puts a file, reads it, and answers how many bytes of it came from the store.
async fn read(kitchen: &Kitchen, key: &str) -> u64 {
    let bytes = noise(LENGTH, key.len() as u64);
    let before = kitchen.store.bytes();
    let (_, got) = kitchen.read(key, Span::All).await.unwrap();
    assert!(got == bytes, "{key}");
    kitchen.store.bytes() - before
}

/// Makes files and reads each, until all of them are on disk.
async fn fill(kitchen: &Kitchen, keys: &[&str]) {
    for key in keys {
        kitchen.put(key, &noise(LENGTH, key.len() as u64));
        load(kitchen, key).await;
    }
}

async fn load(kitchen: &Kitchen, key: &str) {
    kitchen.worker.load(LoadRequest { path: path(key) }).await.unwrap();
}

async fn explain(worker: &Worker, key: &str) -> Explanation {
    worker.explain(StatRequest { path: path(key), attributes: false }).await.unwrap()
}

async fn report(worker: &Worker, path: &str) -> RuleReport {
    let rules = worker.report().await.unwrap().rules;
    rules.into_iter().find(|rule| rule.path == path).unwrap()
}

/// Asks until it holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let clock = Clock::system();
    while !holds().await {
        assert!(clock.elapsed() < Duration::from_secs(60), "in vain: {what}");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_cached_passes_through() {
    let never = Rule { cache: false, ..rule("/lake/tmp") };
    let kitchen = kitchen(vec![never]);
    fill(&kitchen, &["kept", "tmp/a", "tmpfile"]).await;
    assert_eq!((read(&kitchen, "kept").await, read(&kitchen, "tmpfile").await), (0, 0));
    let length = LENGTH as u64;
    assert_eq!((read(&kitchen, "tmp/a").await, read(&kitchen, "tmp/a").await), (length, length));
    let told = explain(&kitchen.worker, "tmp/a").await;
    assert_eq!(told.resident_pages, 0);
    assert_eq!(told.rule.map(|rule| (rule.path, rule.cache)), Some(("/lake/tmp".into(), false)));
    assert_eq!(explain(&kitchen.worker, "tmpfile").await.rule, None);
    // Loading it would bring nothing, so nothing is fetched.
    let before = kitchen.store.bytes();
    let loaded = kitchen.worker.load(LoadRequest { path: path("tmp/a") }).await.unwrap();
    assert_eq!((loaded.length, loaded.fetched_bytes, loaded.not_kept_bytes), (length, 0, length));
    assert_eq!(kitchen.store.bytes(), before);
    // Those who read at the same time still share one fetch.
    *kitchen.store.chunk_max.lock().unwrap() = 10_000;
    let readers = (0..20).map(|_| {
        let kitchen = Arc::clone(&kitchen);
        tokio::spawn(async move { kitchen.read("tmp/a", Span::All).await.unwrap().1 })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert!(reader.await.unwrap() == noise(LENGTH, 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_change_while_it_runs_and_what_lies_there_follows() {
    let kitchen = kitchen(vec![]);
    fill(&kitchen, &["a/1", "a/22", "a/b/333", "c"]).await;
    let worker = &kitchen.worker;
    let pin = Some(ByteSize(1 << 20));
    worker.set_rules(vec![Rule { pin, ..rule("/lake/a") }, rule("/lake/a/b")]).unwrap();
    eventually("the files are sorted", || async {
        let (a, b) = (report(worker, "/lake/a").await, report(worker, "/lake/a/b").await);
        (a.resident_files, b.resident_files) == (2, 1)
    })
    .await;
    assert!(report(worker, "/lake/a").await.resident_bytes > 2 * LENGTH as u64);
    assert_eq!(explain(worker, "a/b/333").await.rule.unwrap().path, "/lake/a/b");
    // A rule that is wrong changes nothing.
    let wrong = [
        vec![Rule { quota: Some(ByteSize(1)), pin, ..rule("/lake/a") }],
        vec![rule("/pond")],
        vec![rule("/lake"), rule("/lake/")],
    ];
    for rules in wrong {
        assert_eq!(worker.set_rules(rules).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(explain(worker, "a/1").await.rule.unwrap().pin_bytes, Some(1 << 20));
    }
    worker.set_rules(vec![Rule { cache: false, ..rule("/lake/a") }]).unwrap();
    eventually("what is never to be cached goes", || async {
        explain(worker, "a/1").await.resident_pages
            + explain(worker, "a/b/333").await.resident_pages
            == 0
    })
    .await;
    assert_eq!(read(&kitchen, "c").await, 0, "what has no rule stays");
    worker.set_rules(vec![]).unwrap();
    load(&kitchen, "a/1").await;
    assert_eq!(read(&kitchen, "a/1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_changed_while_it_was_down_count_too() {
    let kitchen = kitchen(vec![Rule { priority: Priority::High, ..rule("/lake/a") }]);
    fill(&kitchen, &["a/1", "b/22", "c/333"]).await;
    assert_eq!(report(&kitchen.worker, "/lake/a").await.resident_files, 1);
    kitchen.worker.close().unwrap();
    let rules = vec![rule("/lake/b"), Rule { cache: false, ..rule("/lake/c") }];
    let recipe = Recipe { rules, freshness: Freshness::Immutable, ..Recipe::default() };
    let Ok(Kitchen { worker, store, directory, .. }) = Arc::try_unwrap(kitchen) else {
        panic!("nobody else has it");
    };
    drop(worker);
    let worker = open_worker(&recipe, store, directory.path());
    eventually("the files are sorted", || async {
        report(&worker, "/lake/b").await.resident_files == 1
            && explain(&worker, "c/333").await.resident_pages == 0
    })
    .await;
    assert!(explain(&worker, "a/1").await.resident_pages > 0);
    worker.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_past_its_time_is_fetched_again() {
    let kitchen = kitchen(vec![Rule { ttl: Some(Duration::from_secs(60)), ..rule("/lake/a") }]);
    fill(&kitchen, &["a/1", "b"]).await;
    kitchen.clock.advance(Duration::from_secs(59));
    assert_eq!(read(&kitchen, "a/1").await, 0);
    kitchen.clock.advance(Duration::from_secs(1));
    assert_eq!((read(&kitchen, "a/1").await, read(&kitchen, "b").await), (LENGTH as u64, 0));
    load(&kitchen, "a/1").await;
    assert_eq!(read(&kitchen, "a/1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_files_holds_and_others_stay() {
    let kitchen = kitchen(vec![Rule { quota_files: Some(2), ..rule("/lake/a") }]);
    fill(&kitchen, &["b"]).await;
    for nth in 0..10 {
        fill(&kitchen, &[&format!("a/{nth}")]).await;
        assert!(report(&kitchen.worker, "/lake/a").await.resident_files <= 2);
        assert_eq!(read(&kitchen, &format!("a/{nth}")).await, 0, "the newest is there");
    }
    assert_eq!(read(&kitchen, "b").await, 0);
}

/// Sets rules as soon as the page store has a number for their classes.
async fn set_rules_at_last(worker: &Worker, rules: Vec<Rule>) {
    eventually("there is a number for the class", || {
        let set = worker.set_rules(rules.clone());
        async move { set.is_ok() }
    })
    .await;
}

/// A number for a class is free again when nothing is of it any more, and there are 255: were a
/// path whose rule went away forgotten, they would not last.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_during_the_sorting_of_another_loses_none_of_it() {
    let kitchen = kitchen(vec![]);
    for nth in 0..300 {
        let key = format!("{nth}/file");
        set_rules_at_last(&kitchen.worker, vec![rule(&format!("/lake/{nth}"))]).await;
        kitchen.put(&key, b"of this class");
        load(&kitchen, &key).await;
        // The second change comes while the first is being sorted out.
        set_rules_at_last(&kitchen.worker, vec![rule("/lake/x")]).await;
        set_rules_at_last(&kitchen.worker, vec![rule("/lake/y")]).await;
    }
}

/// Rules change while bytes come: pages that were handed on under the former ones follow.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_wait_to_be_written_follow_a_change_of_rules() {
    let kitchen = kitchen(vec![]);
    for nth in 0..10 {
        let key = format!("a/{nth}");
        kitchen.put(&key, &noise(4 << 20, nth));
        let loading = {
            let (kitchen, key) = (Arc::clone(&kitchen), key.clone());
            tokio::spawn(async move { load(&kitchen, &key).await })
        };
        eventually("it comes", || async { kitchen.store.bytes() > 0 }).await;
        let never = Rule { cache: false, ..rule("/lake/a") };
        kitchen.worker.set_rules(vec![never]).unwrap();
        loading.await.unwrap();
        eventually("nothing of it stays", || async {
            explain(&kitchen.worker, &key).await.resident_pages == 0
        })
        .await;
        kitchen.worker.set_rules(vec![]).unwrap();
    }
}
