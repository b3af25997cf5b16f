// SPDX-License-Identifier: Apache-2.0
//! Opening a mount: from a URI and its settings to a store wrapped in its layers.
//!
//! The order of the layers is `retry(budget(meter(adapter)))`: each try is admitted and counted as
//! its own request, and a call that waits for its next try holds no place. The meter and the
//! adapter are shared by all calls; the two layers above are made for each purpose, because they
//! know how urgent it is.

use std::{fmt, path::PathBuf, sync::Arc};

use larder_core::{Clock, Error, Key, Metrics, MountName, PAGE_SIZE, Random, Result};
use serde::{Deserialize, Serialize};

use crate::{
    UnderStorage,
    environment::Environment,
    layer::{
        budget::{Budgeted, Budgets, Lane, MountLimits},
        meter::{Meter, Metered},
        retry::Retried,
    },
    local::LocalStore,
    priority::{Class, Priority},
    s3::S3Store,
};

/// Requests that one mount has under way at most, unless it says otherwise.
pub const DEFAULT_MAX_CONCURRENT_REQUESTS: u32 = 128;

/// Where a mount's data lies and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `s3://bucket`, `s3://bucket/prefix` or `file:///directory`. Prefix and directory are taken
    /// byte for byte: nothing is percent-decoded.
    pub uri: String,
    /// Requests under way at once, bodies included; 128 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_requests: Option<u32>,
    /// Requests a second; no limit unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests_per_second: Option<u32>,
    /// Body bytes a second, at least 65,536; no limit unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_second: Option<u64>,
    /// How to reach an S3 store.
    #[serde(default, skip_serializing_if = "S3Config::is_default")]
    pub s3: S3Config,
    /// How to treat a local directory.
    #[serde(default, skip_serializing_if = "LocalConfig::is_default")]
    pub local: LocalConfig,
}

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// `path` where an endpoint is set or the bucket's name holds a dot, else `virtual`.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Virtual,
}

/// How to reach an S3 store. What is not set comes from the AWS environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// `http://host[:port]` or `https://host[:port]`; else `AWS_ENDPOINT_URL_S3`, then
    /// `AWS_ENDPOINT_URL`, then Amazon's endpoint of the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region; else `AWS_REGION`, then `AWS_DEFAULT_REGION`, then `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How the bucket is named in a request: `auto`, `path` or `virtual`.
    pub addressing: Addressing,
    /// A PEM file of certificate authorities to trust beside the system's; else `AWS_CA_BUNDLE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The profile in the credentials or config file; else `AWS_PROFILE`, then `default`. Where
    /// it is set here, keys in the environment are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// An AWS credentials file; else `AWS_SHARED_CREDENTIALS_FILE`, then `~/.aws/credentials`.
    /// Where it is set here, keys in the environment are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Send requests without a signature, for public buckets.
    pub anonymous: bool,
    /// Milliseconds to wait for a connection; 5,000 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Milliseconds to wait for the head of a reply and for progress of an upload; 30,000 unless
    /// set. The body of a reply is waited for at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout_ms: Option<u64>,
}

/// How to treat a local directory. Nothing to set yet: the table is there so that an unknown
/// name in it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {}

impl S3Config {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same settings with what is not set taken from `environment`.
    #[must_use]
    pub fn completed_from(&self, environment: &Environment) -> Self {
        let or = |set: &Option<String>, names: &[&str]| {
            set.clone().or_else(|| environment.first(names).map(str::to_owned))
        };
        let ca_file = environment.first(&["AWS_CA_BUNDLE"]).map(PathBuf::from);
        Self {
            endpoint: or(&self.endpoint, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: or(&self.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]),
            ca_file: self.ca_file.clone().or(ca_file),
            ..self.clone()
        }
    }
}

impl LocalConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl StoreConfig {
    /// A store at `uri` with every setting at its default.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), ..Self::default() }
    }

    fn limits(&self) -> Result<MountLimits> {
        let concurrent = self.max_concurrent_requests.unwrap_or(DEFAULT_MAX_CONCURRENT_REQUESTS);
        if concurrent == 0 {
            return Err(Error::invalid("max_concurrent_requests must be at least 1"));
        }
        if self.max_requests_per_second == Some(0) {
            return Err(Error::invalid("max_requests_per_second must be at least 1"));
        }
        if self.max_bytes_per_second.is_some_and(|rate| rate < PAGE_SIZE) {
            return Err(Error::invalid("max_bytes_per_second must be at least 64KiB"));
        }
        Ok(MountLimits {
            concurrent_requests: concurrent,
            requests_per_second: self.max_requests_per_second,
            bytes_per_second: self.max_bytes_per_second,
        })
    }
}

/// What enters a store from outside.
#[derive(Debug, Clone)]
pub struct Seams {
    /// Time.
    pub clock: Clock,
    /// Jitter of retries.
    pub random: Arc<Random>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The budgets that mounts of one store share.
    pub budgets: Budgets,
}

/// The store of a mount, opened. Cheap to clone.
#[derive(Clone)]
pub struct MountedStore(Layers);

#[derive(Clone)]
enum Layers {
    Budgeted { store: Arc<dyn UnderStorage>, lane: Lane, clock: Clock, random: Arc<Random> },
    None(Arc<dyn UnderStorage>),
}

impl MountedStore {
    /// `store`, which counts by itself, with retries within the budget that `lane` is part of.
    pub fn new(
        store: Arc<dyn UnderStorage>,
        lane: Lane,
        clock: Clock,
        random: Arc<Random>,
    ) -> Self {
        Self(Layers::Budgeted { store, lane, clock, random })
    }

    /// A store without layers, for tests of what is above.
    pub fn bare(store: Arc<dyn UnderStorage>) -> Self {
        Self(Layers::None(store))
    }

    /// The store for requests of one purpose.
    #[must_use]
    pub fn with(&self, priority: &Priority) -> Arc<dyn UnderStorage> {
        match &self.0 {
            Layers::None(store) => Arc::clone(store),
            Layers::Budgeted { store, lane, clock, random } => {
                let budgeted = Budgeted::new(Arc::clone(store), lane.clone(), priority.clone());
                let (priority, random) = (priority.clone(), Arc::clone(random));
                Arc::new(Retried::with(budgeted, priority, clock.clone(), random))
            }
        }
    }

    /// The store for requests that somebody waits for.
    #[must_use]
    pub fn foreground(&self) -> Arc<dyn UnderStorage> {
        self.with(&Priority::new(Class::Foreground))
    }

    /// The address that its requests go to, by which stores share a budget; `None`: it has none.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match &self.0 {
            Layers::Budgeted { lane, .. } => Some(lane.address()),
            Layers::None(_) => None,
        }
    }

    /// Whether so many more requests would leave room for others: nobody waits, the next would
    /// pass at once, the store has not asked to slow down of late, and with them at most half of
    /// the mount's places are taken. For requests that are made only because the store has
    /// bandwidth to spare.
    #[must_use]
    pub fn has_room(&self, more: u32, class: Class) -> bool {
        match &self.0 {
            Layers::Budgeted { lane, .. } => lane.has_room(more, class),
            Layers::None(_) => true,
        }
    }

    /// The canonical URI of a key, as [`UnderStorage::uri`] says.
    #[must_use]
    pub fn uri(&self, key: &Key) -> String {
        let (Layers::Budgeted { store, .. } | Layers::None(store)) = &self.0;
        store.uri(key)
    }
}

impl fmt::Debug for MountedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Layers::Budgeted { store, .. } | Layers::None(store)) = &self.0;
        f.debug_tuple("MountedStore").field(store).finish()
    }
}

/// Opens the store of a mount with the variables of this process. Sends nothing: a missing bucket
/// or directory shows at the first request.
///
/// # Errors
/// `Invalid` when the URI or a setting is wrong.
pub fn open(config: &StoreConfig, mount: &MountName, seams: Seams) -> Result<MountedStore> {
    open_in(&Environment::of_process(), config, mount, seams)
}

/// The same as [`open`] with the environment given.
///
/// # Errors
/// `Invalid` when the URI or a setting is wrong.
pub fn open_in(
    environment: &Environment,
    config: &StoreConfig,
    mount: &MountName,
    seams: Seams,
) -> Result<MountedStore> {
    let limits = config.limits()?;
    let meter = Meter::new(mount, Arc::clone(&seams.metrics), seams.clock.clone());
    let (address, store): (String, Arc<dyn UnderStorage>) = match Location::parse(&config.uri)? {
        Location::S3 { bucket, prefix } => {
            let settings = config.s3.completed_from(environment);
            let store = S3Store::new(
                crate::s3::Place { bucket, prefix },
                &settings,
                environment,
                crate::s3::Tools { clock: seams.clock.clone(), meter: meter.clone() },
            )?;
            (store.authority().to_owned(), Arc::new(Metered::new(store, meter)))
        }
        Location::Local { directory } => {
            let address = format!("file://{}", directory.display());
            let store = LocalStore::new(directory, seams.clock.clone(), Arc::clone(&seams.random));
            (address, Arc::new(Metered::new(store, meter)))
        }
    };
    let Seams { clock, random, metrics, budgets } = seams;
    let lane = budgets.lane(&address, (mount, limits), clock.clone(), metrics);
    Ok(MountedStore::new(store, lane, clock, random))
}

/// A parsed mount URI.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    S3 { bucket: String, prefix: String },
    Local { directory: PathBuf },
}

impl Location {
    fn parse(uri: &str) -> Result<Self> {
        if let Some(rest) = uri.strip_prefix("s3://") {
            return Self::parse_s3(uri, rest);
        }
        if let Some(rest) = uri.strip_prefix("file://") {
            return Self::parse_file(uri, rest);
        }
        Err(Error::invalid(format!(
            "'{uri}' is not a store; write s3://bucket, s3://bucket/prefix or file:///directory"
        )))
    }

    fn parse_s3(uri: &str, rest: &str) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let legal = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let starts_well = bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
        if bucket.len() < 3 || bucket.len() > 255 || !starts_well || !bucket.bytes().all(legal) {
            return Err(Error::invalid(format!(
                "'{uri}' does not name a bucket; a bucket has 3 to 63 of a-z, 0-9, '.' and '-'"
            )));
        }
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        if prefix.len() >= larder_core::path::KEY_LENGTH_MAX || prefix.contains('\0') {
            return Err(Error::invalid(format!("the prefix of '{uri}' can't be part of a key")));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
    }

    fn parse_file(uri: &str, rest: &str) -> Result<Self> {
        if !rest.starts_with('/') {
            return Err(Error::invalid(format!(
                "'{uri}' must name an absolute directory with three slashes: file:///directory"
            )));
        }
        let segments = rest.split('/').filter(|segment| !matches!(*segment, "" | "."));
        let mut directory = PathBuf::from("/");
        for segment in segments {
            if segment == ".." || segment.contains('\0') {
                return Err(Error::invalid(format!("'{uri}' must not contain '..' or NUL")));
            }
            directory.push(segment);
        }
        Ok(Self::Local { directory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_become_places() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let local = |directory: &str| Location::Local { directory: directory.into() };
        assert_eq!(Location::parse("s3://lake").expect("legal"), s3("lake", ""));
        assert_eq!(Location::parse("s3://lake/").expect("legal"), s3("lake", ""));
        assert_eq!(Location::parse("s3://lake/a b//c").expect("legal"), s3("lake", "a b//c/"));
        assert_eq!(Location::parse("file:///a//b/./c/").expect("legal"), local("/a/b/c"));
        assert_eq!(Location::parse("file:///").expect("legal"), local("/"));
        for wrong in ["", "lake", "s3://", "s3://a?b", "file://x/y", "file:///a/../b", "gs://b"] {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_fills_what_is_not_set() {
        let environment = Environment::fixed([
            ("AWS_ENDPOINT_URL", "http://general"),
            ("AWS_ENDPOINT_URL_S3", "http://special"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_CA_BUNDLE", "/ca.pem"),
        ]);
        let filled = S3Config::default().completed_from(&environment);
        assert_eq!(filled.endpoint.as_deref(), Some("http://special"));
        assert_eq!(filled.region.as_deref(), Some("eu-west-1"));
        assert_eq!(filled.ca_file, Some("/ca.pem".into()));
        let set = S3Config { region: Some("us-west-2".into()), ..S3Config::default() };
        assert_eq!(set.completed_from(&environment).region.as_deref(), Some("us-west-2"));
        let secret = Environment::fixed([("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
