// SPDX-License-Identifier: Apache-2.0
//! From `[[mount]]` to an open under storage. Nothing is sent to a store here.

use std::collections::BTreeSet;

use larder_cluster::mounts::{MountRecord, Prices};
use larder_core::{Clock, Error, Metrics, Random, Result};
use larder_ufs::{
    environment::Environment,
    layer::budget::Budgets,
    mount::{S3Config, Seams, StoreConfig, open},
};
use larder_worker::Store;

use super::rules;
use crate::config::{Config, Mount};

/// Looks for mistakes that a single value does not show.
///
/// # Errors
/// `Invalid`, one sentence.
pub(crate) fn check(config: &Config) -> Result<()> {
    let mut names = BTreeSet::new();
    for mount in &config.mount {
        if !names.insert(&mount.name) {
            return Err(Error::invalid(format!("two mounts are named '{}'", mount.name)));
        }
        let secret = |url: &str| url.split("://").nth(1).is_some_and(|rest| rest.contains('@'));
        if mount.endpoint.as_deref().is_some_and(secret) {
            return Err(Error::invalid(format!(
                "mount {}: an endpoint holds no user and password; put keys into a credentials \
                 file and name it with credentials_file",
                mount.name
            )));
        }
    }
    let mut paths = BTreeSet::new();
    if let Some(twice) = config.cache.iter().find(|cache| !paths.insert(&cache.path)) {
        return Err(Error::invalid(format!("the cache {} is named twice", twice.path.display())));
    }
    rules::check(config)?;
    let seams = Seams {
        clock: Clock::system(),
        random: Random::new().into(),
        metrics: Metrics::new().into(),
        budgets: Budgets::default(),
    };
    open_stores(config, &seams).map(drop)
}

/// Opens the store of every mount.
///
/// # Errors
/// `Invalid` when an URI or a setting is wrong.
pub(crate) fn open_stores(config: &Config, seams: &Seams) -> Result<Vec<Store>> {
    let environment = Environment::of_process();
    config.mount.iter().map(|mount| open_store(mount, &environment, seams)).collect()
}

/// `None` where no price is set; a price that is not set is none.
fn prices(mount: &Mount) -> Option<Prices> {
    let (requests, gib) = (mount.price_per_million_requests, mount.price_per_gib);
    (requests.is_some() || gib.is_some()).then(|| Prices {
        per_million_requests: requests.map_or(0.0, |price| price.0),
        per_gib: gib.map_or(0.0, |price| price.0),
    })
}

fn open_store(mount: &Mount, environment: &Environment, seams: &Seams) -> Result<Store> {
    let s3 = S3Config {
        endpoint: mount.endpoint.clone(),
        region: mount.region.clone(),
        addressing: mount.addressing,
        ca_file: mount.ca_file.clone(),
        profile: mount.profile.clone(),
        credentials_file: mount.credentials_file.clone(),
        anonymous: mount.anonymous,
        ..S3Config::default()
    };
    let at_s3 = mount.uri.starts_with("s3://");
    let record = MountRecord {
        name: mount.name.clone(),
        uri: mount.uri.clone(),
        endpoint: s3.completed_from(environment).endpoint.filter(|_| at_s3),
        freshness: mount.freshness.0,
        stale_if_error: mount.stale_if_error.map(|limit| limit.0),
        prices: prices(mount),
    };
    let store = StoreConfig {
        max_concurrent_requests: Some(mount.max_concurrent_requests),
        max_requests_per_second: mount.max_requests_per_second,
        max_bytes_per_second: mount.max_bytes_per_second.map(|rate| rate.0),
        s3,
        ..StoreConfig::new(mount.uri.clone())
    };
    let storage = open(&store, &mount.name, seams.clone())
        .map_err(|error| error.context(format!("mount {}", mount.name)))?;
    Ok(Store { record, storage })
}
