// SPDX-License-Identifier: Apache-2.0
//! The conformance suite on every store and every wrapper.
//!
//! The run on a real S3 server needs `LARDER_TEST_S3_ENDPOINT`, `LARDER_TEST_S3_BUCKET` and the
//! AWS variables; without the first it says that it was left out. `LARDER_TEST_S3_KEYS=aliased` is
//! for servers that take keys for paths.

use std::{sync::Arc, time::Duration};

use larder_core::{Clock, Metrics, MountName, Random};
use larder_ufs::{
    UnderStorage,
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
