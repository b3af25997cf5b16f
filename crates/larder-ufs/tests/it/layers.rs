// SPDX-License-Identifier: Apache-2.0
//! What each layer adds, and where it stops.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use larder_core::{
    Attributes, Clock, ErrorKind, Key, Metrics, Random, Span, UnixMillis, Version,
    metric::StoreOutcomeLabels,
};
use larder_ufs::{
    Condition, ReadOutcome, UnderStorage,
    layer::{
        fault::{Faults, Faulty, Operation, Rule, Toxic},
        meter::{Meter, Metered},
        retry::{Retried, RetryPolicy},
    },
    memory::MemoryStore,
    priority::{Class, Priority},
};

use crate::stores::lake;

fn key() -> Key {
    Key::new("k").expect("a legal key")
}

fn faulty(clock: &Clock) -> (Faulty<MemoryStore>, Faults) {
    let store = MemoryStore::new("m", clock.clone());
    store.put(&key(), vec![7; 200_000]);
    let faults = Faults::default();
    (Faulty::new(store, faults.clone(), clock.clone()), faults)
}

/// A policy without waits worth mentioning.
fn quick() -> RetryPolicy {
    RetryPolicy { wait_first: Duration::from_micros(1), ..RetryPolicy::default() }
}

fn retried(policy: RetryPolicy) -> (Retried<Faulty<MemoryStore>>, Faults) {
    let clock = Clock::system();
    let (store, faults) = faulty(&clock);
    (Retried::new(store, policy, clock, Arc::new(Random::seeded(3))), faults)
}

#[tokio::test]
async fn what_passes_is_tried_again_until_the_tries_are_used() {
    let (store, faults) = retried(quick());
    for kind in [ErrorKind::Unavailable, ErrorKind::Exhausted] {
        faults.add(Rule::on(Operation::Stat, Toxic::Fail(kind)).times(2));
        let before = faults.calls(Operation::Stat);
        store.stat(&key()).await.expect("the third try");
        assert_eq!(faults.calls(Operation::Stat) - before, 3);
    }
    for (kind, tries) in [(ErrorKind::Unavailable, 5), (ErrorKind::Exhausted, 8)] {
        faults.clear();
        faults.add(Rule::on(Operation::Stat, Toxic::Fail(kind)));
        let before = faults.calls(Operation::Stat);
        store.stat(&key()).await.expect_err("never works");
        assert_eq!(faults.calls(Operation::Stat) - before, tries);
    }
}

#[tokio::test]
async fn what_stays_wrong_and_what_may_not_be_repeated_is_tried_once() {
    let (store, faults) = retried(quick());
    for kind in [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Stale, ErrorKind::Invalid] {
        faults.add(Rule::on(Operation::Read, Toxic::Fail(kind)).times(1));
        let read = store.read(&key(), Span::All, &Condition::None).await;
        assert_eq!(read.err().map(|error| error.kind()), Some(kind));
    }
    assert_eq!(faults.calls(Operation::Read), 4);
    faults.add(Rule::on(Operation::Write, Toxic::Fail(ErrorKind::Unavailable)).times(1));
    let body = futures::stream::empty().boxed();
    store.write(&key(), 0, body, &Attributes::default()).await.expect_err("a body is gone");
    assert_eq!(faults.calls(Operation::Write), 1);
    faults.add(Rule::on(Operation::Read, Toxic::CutBody(10)));
    let read = store.read(&key(), Span::All, &Condition::None).await.expect("the head is fine");
    let ReadOutcome::Content(mut content) = read else { panic!("bytes") };
    assert_eq!(content.body.next().await.expect("a chunk").expect("10 bytes").len(), 10);
    assert!(content.body.next().await.expect("an end").is_err());
    assert_eq!(faults.calls(Operation::Read), 5);
}

/// What a request waited for its admission is not taken from the time it has for its tries.
#[tokio::test]
async fn a_store_that_asks_to_slow_down_has_its_time_from_there_on() {
    let clock = Clock::manual(UnixMillis(0));
    let (store, faults) = faulty(&clock);
    let store = Retried::new(store, quick(), clock.clone(), Arc::new(Random::seeded(3)));
    faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_secs(25))).times(1));
    faults.add(
        Rule::on(
            Operation::Stat,
            Toxic::FailWithRetryAfter(ErrorKind::Exhausted, Duration::from_secs(1)),
        )
        .times(1),
    );
    let asked = tokio::spawn(async move { store.stat(&key()).await.map(drop) });
    while !asked.is_finished() {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_millis(500));
    }
    asked.await.expect("no panic").expect("the second try");
    assert_eq!(faults.calls(Operation::Stat), 2);
}

/// A job waits for a store that asks to slow down; a reader that joins it does not wait as long.
#[tokio::test]
async fn a_reader_that_joins_a_job_ends_its_patience() {
    let clock = Clock::manual(UnixMillis(0));
    let (store, faults) = faulty(&clock);
    let priority = Priority::new(Class::Bulk);
    let random = Arc::new(Random::seeded(3));
    let store = Retried::with(store, priority.clone(), clock.clone(), random);
    let toxic = Toxic::FailWithRetryAfter(ErrorKind::Exhausted, Duration::from_secs(60));
    faults.add(Rule::on(Operation::Stat, toxic));
    let asked = tokio::spawn(async move { store.stat(&key()).await.map(drop) });
    for _ in 0..300 {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    }
    let before = faults.calls(Operation::Stat);
    assert!(before >= 3 && !asked.is_finished(), "{before} tries");
    priority.join(Class::Foreground);
    asked.await.expect("no panic").expect_err("handed up without another wait");
    assert!(faults.calls(Operation::Stat) <= before + 1);
}

#[tokio::test]
async fn a_wait_beyond_the_total_is_not_waited() {
    let (store, faults) = retried(quick());
    let toxic = Toxic::FailWithRetryAfter(ErrorKind::Exhausted, Duration::from_secs(60));
    faults.add(Rule::on(Operation::List, toxic));
    store.list(&Default::default()).await.expect_err("handed up at once");
    assert_eq!(faults.calls(Operation::List), 1);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_counted() {
    let clock = Clock::system();
    let (store, faults) = faulty(&clock);
    let metrics = Arc::new(Metrics::new());
    let store = Metered::new(store, Meter::new(&lake(), Arc::clone(&metrics), clock));
    faults.add(Rule::on(Operation::Read, Toxic::Hang));
    let key = key();
    let mut read = store.read(&key, Span::All, &Condition::None);
    assert!(futures::poll!(&mut read).is_pending());
    assert_eq!(metrics.store_totals("lake").requests, 0, "it is under way");
    drop(read);
    store.stat(&key).await.expect("a status");
    assert_eq!(metrics.store_totals("lake").requests, 2);
    let labels =
        StoreOutcomeLabels { mount: "lake".into(), operation: "read", outcome: "cancelled" };
    assert_eq!(metrics.store_requests.get(&labels).map(|count| count.get()), Some(1));
}

#[tokio::test]
async fn toxics_do_what_their_names_say() {
    let clock = Clock::system();
    let (store, faults) = faulty(&clock);
    faults.add(Rule::on(Operation::Stat, Toxic::WrongVersion(Version::new("w"))).skip(1).times(1));
    let told = |status: larder_core::Status| status.version.as_str().to_owned();
    let truth = told(store.stat(&key()).await.expect("a status"));
    assert_eq!(told(store.stat(&key()).await.expect("a status")), "w");
    assert_eq!(told(store.stat(&key()).await.expect("a status")), truth);
    faults.add(Rule::on(Operation::Delete, Toxic::LoseAnswer(ErrorKind::Unavailable)).times(1));
    faults.add(Rule::on(Operation::Read, Toxic::FlipBit(70_000)).times(1));
    let read = store.read(&key(), Span::All, &Condition::None).await.expect("bytes");
    let ReadOutcome::Content(content) = read else { panic!("bytes") };
    let chunks: Vec<_> = content.body.map(|chunk| chunk.expect("no error")).collect().await;
    let bytes = chunks.concat();
    assert_eq!(bytes.iter().position(|byte| *byte != 7), Some(70_000));
    faults.add(Rule::on(Operation::Read, Toxic::StallBody(5)));
    let read = store.read(&key(), Span::All, &Condition::None).await.expect("bytes");
    let ReadOutcome::Content(mut content) = read else { panic!("bytes") };
    assert_eq!(content.body.next().await.expect("a chunk").expect("5 bytes").len(), 5);
    let next = tokio::time::timeout(Duration::from_millis(20), content.body.next()).await;
    assert!(next.is_err(), "silence");
    store.delete(&key()).await.expect_err("the answer is lost");
    faults.clear();
    assert_eq!(store.stat(&key()).await.map_err(|e| e.kind()), Err(ErrorKind::NotFound));
}
