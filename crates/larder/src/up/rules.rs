// SPDX-License-Identifier: Apache-2.0
//! From `[[rules]]` to the rules of the worker, at the start and again at each SIGHUP.

use std::{path::PathBuf, sync::Arc};

use larder_core::{ByteSize, Error, Result};
use larder_worker::{Rule, Worker, check_rules};

use super::signals::Hangups;
use crate::config::{Config, Layers};

/// The rules as the worker wants them.
pub(super) fn of_config(config: &Config) -> Vec<Rule> {
    let rules = config.rules.iter().map(|rule| Rule {
        path: rule.path.0.clone(),
        cache: rule.cache,
        pin: rule.pin,
        priority: rule.priority,
        ttl: rule.ttl.map(|ttl| ttl.0),
        quota: rule.quota,
        quota_files: rule.quota_files,
    });
    rules.collect()
}

/// Looks for mistakes in the rules that a single value does not show.
///
/// # Errors
/// `Invalid`, one sentence.
pub(super) fn check(config: &Config) -> Result<()> {
    let rules = of_config(config);
    check_rules(&rules)?;
    for rule in &rules {
        let Some(name) = rule.path.mount() else { continue };
        if config.mount.iter().any(|mount| mount.name == *name) {
            continue;
        }
        let known: Vec<String> = config.mount.iter().map(|mount| mount.name.to_string()).collect();
        return Err(Error::invalid(format!(
            "rule {}: there is no mount '{name}'; known: {}",
            rule.path,
            known.join(", ")
        )));
    }
    check_pins(&rules, capacity(config))
}

/// What all cache directories may hold, where each was given a size.
fn capacity(config: &Config) -> Option<ByteSize> {
    let sizes: Option<Vec<u64>> =
        config.cache.iter().map(|cache| cache.size.map(|size| size.0)).collect();
    let sizes = sizes.filter(|sizes| !sizes.is_empty())?;
    Some(ByteSize(sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))))
}

fn check_pins(rules: &[Rule], capacity: Option<ByteSize>) -> Result<()> {
    let pins = rules.iter().filter_map(|rule| rule.pin);
    let pinned = ByteSize(pins.fold(0, |sum, pin| sum.saturating_add(pin.0)));
    match capacity {
        Some(capacity) if pinned > capacity => Err(Error::invalid(format!(
            "the rules pin {pinned} and the cache directories hold {capacity}; lower a pin or \
             give them more room"
        ))),
        _ => Ok(()),
    }
}

/// What it takes to read the rules again.
#[derive(Debug, Clone)]
pub(super) struct Reloading {
    file: Option<PathBuf>,
    capacity: Option<ByteSize>,
    worker: Arc<Worker>,
}

impl Reloading {
    pub(super) fn new(file: Option<PathBuf>, config: &Config, worker: &Arc<Worker>) -> Self {
        Self { file, capacity: capacity(config), worker: Arc::clone(worker) }
    }

    /// Reads the rules again at each hangup, for ever. A file that is wrong changes nothing.
    pub(super) async fn run(self, hangups: &mut Hangups) {
        loop {
            hangups.next().await;
            let reloading = self.clone();
            let reloaded = tokio::task::spawn_blocking(move || reloading.reload()).await;
            let reloaded = reloaded.unwrap_or_else(|error| {
                Err(Error::internal("reading the rules panicked").with_source(error))
            });
            match reloaded {
                Ok(count) => tracing::info!(rules = count, "the rules were read again"),
                Err(error) => {
                    let error = error.to_string().replace('\n', "; ");
                    tracing::error!(%error, "the rules stay as they were");
                }
            }
        }
    }

    fn reload(&self) -> Result<usize> {
        let file = self.file.as_deref().ok_or_else(|| {
            Error::invalid(
                "no configuration file was read at the start; start with --config FILE to change \
                 its rules while larder runs",
            )
        })?;
        let mut layers = Layers::of_defaults();
        layers.apply_file(file)?;
        let rules = of_config(&Config::from_layers(&layers)?);
        check_pins(&rules, self.capacity)?;
        let count = rules.len();
        self.worker.set_rules(rules)?;
        Ok(count)
    }
}
