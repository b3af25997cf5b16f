// SPDX-License-Identifier: Apache-2.0
//! `larder up`: every role in one process, from the first check to the last flush.
//!
//! The order is: checks that cost nothing, the state's lock, the worker, the faces, ready; the
//! stores are asked beside it and never waited for. The end is the same backwards, and bounded:
//! after [`STOP_WAIT_MAX`], or at a second signal, the process ends as if it had been killed,
//! which loses nothing but speed.

mod announce;
mod caches;
mod faces;
mod mounts;
mod probe;
mod rules;
mod signals;
mod worker;

use std::{sync::Arc, time::Duration};

use larder_client::{Filesystem, Parts};
use larder_cluster::{member::Member, registry::local::LocalRegistry};
use larder_core::{Clock, MemoryBudget, Metrics, Random, Result};
use larder_http::Readiness;
use larder_ufs::{layer::budget::Budgets, mount::Seams};
use larder_worker::Worker;

pub(crate) use mounts::{check, open_stores};
pub(crate) use probe::{Finding, probe};

use crate::{
    commands::Format,
    effective::Effective,
    exit::{Exit, Failure},
    logging,
    machine::{default_budget, memory_limit, raise_descriptor_limit},
    state::State,
};
use caches::Cache;
use faces::Faces;
use probe::Questions;
use rules::Reloading;
use signals::{Hangups, Signals};

/// How long a clean stop may take.
const STOP_WAIT_MAX: Duration = Duration::from_secs(15);
/// What must serve before the process is ready.
const PARTS: [&str; 2] = ["page store", "faces"];

/// Serves until a signal.
pub(crate) fn run(effective: Effective, format: Format) -> Result<(), Failure> {
    let config = &effective.config;
    logging::start(&config.log.level.0, config.log.format);
    check(config)?;
    if config.mount.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "nothing is mounted; try `larder up --mount lake=s3://my-bucket` or \
             `larder up --mount data=file:///srv/data`, or write [[mount]] into a configuration \
             file",
        ));
    }
    let descriptors = raise_descriptor_limit();
    let state = State::open(&effective.state).map_err(|error| Failure::of_place(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("larder")
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("can't start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let hangups = Hangups::listen()?;
        let descriptors = descriptors.soft;
        let serving = Serving { effective: &effective, state, descriptors, format, hangups };
        serve(serving, &mut signals).await
    });
    // What still runs after its bound is not waited for.
    runtime.shutdown_background();
    outcome
}

/// What `serve` works from.
struct Serving<'a> {
    effective: &'a Effective,
    state: State,
    descriptors: u64,
    format: Format,
    hangups: Hangups,
}

async fn serve(serving: Serving<'_>, signals: &mut Signals) -> Result<(), Failure> {
    let Serving { effective, state, descriptors, format, mut hangups } = serving;
    let config = &effective.config;
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
    let random = Arc::new(Random::new());
    let budgets = Budgets::default();
    let seams = Seams { clock: clock.clone(), random, metrics: Arc::clone(&metrics), budgets };
    let stores = open_stores(config, &seams)?;
    let mut questions = Questions::ask(&stores);
    let caches = caches::decide(&config.cache, &state)?;
    let limit = config.general.memory_budget.unwrap_or_else(|| default_budget(&memory_limit()));
    let budget = MemoryBudget::new(limit.0);
    let id = state.worker_id()?;
    let weight = weight_of(&caches);
    let mounts = stores.iter().map(|store| store.record.clone()).collect();
    let registry = LocalRegistry::new(Member { id, weight, address: String::new() }, mounts);
    let worker = worker::open(worker::Parts {
        id,
        metadata: state.path("meta"),
        caches: &caches,
        scrub_rate: config.scrub.rate,
        rules: rules::of_config(config),
        descriptors,
        stores,
        budget: budget.clone(),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    })
    .await?;
    let readiness = Readiness::waiting_for(&PARTS);
    readiness.set_ready(PARTS[0]);
    let service = Arc::clone(&worker);
    let filesystem = Filesystem::new(Parts {
        registry: Arc::new(registry),
        worker: service,
        budget,
        clock,
        metrics,
    });
    let reloading = Reloading::new(effective.file.clone(), config, &worker);
    let started = match questions.heard(&worker) {
        Ok(()) => Faces::start(config, &state, &filesystem, &readiness).await,
        Err(failure) => Err(failure),
    };
    let outcome = match started {
        Ok(mut faces) => {
            readiness.set_ready(PARTS[1]);
            let outcome = match announce::started(&faces, &filesystem, &caches, format) {
                Ok(()) => tokio::select! {
                    outcome = until_end(&mut faces, &mut questions, &worker, signals) => outcome,
                    () = reloading.run(&mut hangups) => Ok(()),
                },
                Err(failure) => Err(failure),
            };
            readiness.set_missing(PARTS[1]);
            tracing::info!("stopping");
            stop(faces, worker, signals).await?;
            outcome
        }
        Err(failure) => {
            worker::close(worker).await;
            Err(failure)
        }
    };
    drop(state);
    outcome
}

/// Waits for a signal; or for a face that ends by itself or a store that refuses, both failures.
async fn until_end(
    faces: &mut Faces,
    questions: &mut Questions,
    worker: &Worker,
    signals: &mut Signals,
) -> Result<(), Failure> {
    tokio::select! {
        outcome = faces.until_end(signals) => outcome,
        failure = questions.refusal(worker) => Err(failure),
    }
}

/// Stops the faces, then the worker, within the bound.
async fn stop(faces: Faces, worker: Arc<Worker>, signals: &mut Signals) -> Result<(), Failure> {
    let stopped = async {
        faces.stop().await;
        worker::close(worker).await;
    };
    tokio::select! {
        stopped = tokio::time::timeout(STOP_WAIT_MAX, stopped) => stopped.map_err(|_| {
            let bound = STOP_WAIT_MAX.as_secs();
            Failure::new(Exit::Failed, format!("stopping took more than {bound} s and was cut"))
        }),
        () = signals.next() => {
            Err(Failure::new(Exit::Failed, "stopped at once by a second signal"))
        }
    }
}

/// A worker's share of the work: its capacity in GiB.
fn weight_of(caches: &[Cache]) -> u32 {
    let bytes = caches.iter().fold(0_u64, |sum, cache| sum.saturating_add(cache.size.0));
    u32::try_from(bytes >> 30).unwrap_or(u32::MAX).max(1)
}
