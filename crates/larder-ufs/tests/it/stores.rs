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
        fault::{Faults, Faulty},
        limit::Limited,
        meter::{Meter, Metered},
        retry::{Retried, RetryPolicy},
    },
    memory::MemoryStore,
    mount::{self, Seams, StoreConfig},
};

pub(crate) fn seams() -> Seams {
    Seams {
        clock: Clock::system(),
        random: Arc::new(Random::seeded(1)),
        metrics: Arc::new(Metrics::new()),
    }
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
    let Seams { clock, random, metrics } = seams();
    conforms(Faulty::new(memory(), Faults::default(), clock.clone()), Capabilities::OBJECTS).await;
    conforms(Limited::new(memory(), 1, clock.clone()), Capabilities::OBJECTS).await;
    let meter = Meter::new(&lake(), metrics, clock.clone());
    conforms(Metered::new(memory(), meter), Capabilities::OBJECTS).await;
    let retried = Retried::new(memory(), RetryPolicy::default(), clock, random);
    conforms(retried, Capabilities::OBJECTS).await;
}

#[tokio::test]
async fn a_local_directory_conforms() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let config = StoreConfig::new(format!("file://{}", directory.path().display()));
    let store = mount::open(&config, &lake(), seams()).expect("a store");
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
        let store = mount::open(&config, &lake(), seams()).expect("a store");
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
    let store = mount::open(&config, &lake(), seams()).expect("a store");
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
