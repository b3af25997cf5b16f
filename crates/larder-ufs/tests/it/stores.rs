// SPDX-License-Identifier: Apache-2.0
//! The conformance suite on every store and every wrapper.
//!
//! The run on a real S3 server needs `LARDER_TEST_S3_ENDPOINT`, `LARDER_TEST_S3_BUCKET` and the
//! AWS variables; without the first it says that it was left out. `LARDER_TEST_S3_KEYS=aliased` is
//! for servers that take keys for paths.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_core::{Attributes, Clock, Error, ErrorKind, Key, Metrics, MountName, Random, Span};
use larder_ufs::{
    Condition, ReadOutcome, UnderStorage,
    conformance::{self, Capabilities, Keys},
    layer::{
        budget::{Budgeted, Budgets, MountLimits},
        fault::{Faults, Faulty},
        meter::{Meter, Metered},
        retry::{Retried, RetryPolicy},
    },
    memory::MemoryStore,
    mount::{self, Seams, StoreConfig},
    priority::{Class, Priority},
};

pub(crate) fn seams() -> Seams {
    Seams {
        clock: Clock::system(),
        random: Arc::new(Random::seeded(1)),
        metrics: Arc::new(Metrics::new()),
        budgets: Budgets::default(),
    }
}

/// The store that readers use.
pub(crate) fn opened(config: &StoreConfig) -> Arc<dyn UnderStorage> {
    mount::open(config, &lake(), seams()).expect("a store").foreground()
}

pub(crate) fn lake() -> MountName {
    MountName::new("lake").expect("a legal name")
}

fn memory() -> MemoryStore {
    MemoryStore::new("m", Clock::system())
}

async fn conforms(store: impl UnderStorage + 'static, capabilities: Capabilities) {
    let run = conformance::run(Arc::new(store), capabilities, "suite");
    run.await.expect("every promise is kept");
}

#[tokio::test]
async fn memory_conforms() {
    conforms(memory(), Capabilities::OBJECTS).await;
}

#[tokio::test]
async fn every_layer_conforms() {
    let Seams { clock, random, metrics, budgets } = seams();
    conforms(Faulty::new(memory(), Faults::default(), clock.clone()), Capabilities::OBJECTS).await;
    let limits = MountLimits {
        concurrent_requests: 1,
        requests_per_second: Some(5000),
        bytes_per_second: Some(100 << 20),
    };
    let lane = budgets.lane("memory", (&lake(), limits), clock.clone(), Arc::clone(&metrics));
    let budgeted = Budgeted::new(memory(), lane, Priority::new(Class::Bulk));
    conforms(budgeted, Capabilities::OBJECTS).await;
    let meter = Meter::new(&lake(), metrics, clock.clone());
    conforms(Metered::new(memory(), meter), Capabilities::OBJECTS).await;
    let retried = Retried::new(memory(), RetryPolicy::default(), clock, random);
    conforms(retried, Capabilities::OBJECTS).await;
}

#[tokio::test]
async fn a_local_directory_conforms() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let config = StoreConfig::new(format!("file://{}", directory.path().display()));
    let store = opened(&config);
    let run = conformance::run(store, Capabilities::FILES, "suite");
    run.await.expect("every promise is kept");
}

#[tokio::test]
async fn a_real_s3_server_conforms() {
    let Ok(endpoint) = std::env::var("LARDER_TEST_S3_ENDPOINT") else {
        eprintln!("left out: LARDER_TEST_S3_ENDPOINT is not set");
        return;
    };
    let bucket = std::env::var("LARDER_TEST_S3_BUCKET").expect("LARDER_TEST_S3_BUCKET is set");
    let mut capabilities = Capabilities::OBJECTS;
    if std::env::var("LARDER_TEST_S3_KEYS").is_ok_and(|keys| keys == "aliased") {
        capabilities.keys = Keys::Aliased;
    }
    for prefix in ["", "/mount prefix+%/p"] {
        let mut config = StoreConfig::new(format!("s3://{bucket}{prefix}"));
        config.s3.endpoint = Some(endpoint.clone());
        let store = opened(&config);
        let name = format!("suite-{:x}", Random::new().next());
        let run = conformance::run(store, capabilities, &name);
        tokio::time::timeout(Duration::from_secs(120), run)
            .await
            .expect("the suite ends")
            .unwrap_or_else(|broken| panic!("below '{prefix}': {broken}"));
    }
}

/// Above 64 MiB an object goes out in parts; a source that fails in the second leaves nothing.
#[tokio::test]
async fn a_real_s3_server_takes_uploads_in_parts() {
    let Ok(endpoint) = std::env::var("LARDER_TEST_S3_ENDPOINT") else {
        eprintln!("left out: LARDER_TEST_S3_ENDPOINT is not set");
        return;
    };
    let bucket = std::env::var("LARDER_TEST_S3_BUCKET").expect("LARDER_TEST_S3_BUCKET is set");
    let mut config = StoreConfig::new(format!("s3://{bucket}/parts-{:x}", Random::new().next()));
    config.s3.endpoint = Some(endpoint);
    let store = opened(&config);
    let key = Key::new("big").expect("a legal key");
    let chunk = |number: usize| Bytes::from(vec![number as u8; 1_000_003]);
    let length = 70 * 1_000_003;
    let failing = (0..70).map(|number| match number {
        69 => Err(Error::unavailable("the source broke")),
        number => Ok(chunk(number)),
    });
    let body = stream::iter(failing.collect::<Vec<_>>()).boxed();
    let attributes = Attributes::default();
    let error = store.write(&key, length, body, &attributes).await.expect_err("a broken source");
    assert_eq!(error.message(), "the source broke");
    assert_eq!(store.stat(&key).await.map_err(|e| e.kind()), Err(ErrorKind::NotFound));
    let body = stream::iter((0..70).map(move |number| Ok(chunk(number))).collect::<Vec<_>>());
    let status = store.write(&key, length, body.boxed(), &attributes).await.expect("written");
    assert_eq!(status.length, length);
    let read = store.read(&key, Span::All, &Condition::Match(status.version)).await;
    let ReadOutcome::Content(mut content) = read.expect("bytes") else { panic!("bytes") };
    let mut at = 0;
    while let Some(chunk) = content.body.next().await {
        for byte in chunk.expect("bytes") {
            assert_eq!(byte, (at / 1_000_003) as u8, "at {at}");
            at += 1;
        }
    }
    assert_eq!(at, length);
    store.delete(&key).await.expect("deleted");
}
