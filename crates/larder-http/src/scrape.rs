// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: the registry as OpenMetrics text, its gauges brought up to date at each scrape.

use larder_client::message::WorkerReport;
use larder_core::{Error, Metrics, Result};
use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};

/// The content type of what [`Scrape::text`] gives.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process, registered once.
#[derive(Debug)]
pub(crate) struct Scrape(Registry);

impl Scrape {
    pub(crate) fn new(metrics: &Metrics, version: &'static str) -> Self {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let build = Info::new(vec![("version", version)]);
        registry.register("larder_build", "The version of the binary", build);
        Self(registry)
    }

    pub(crate) fn text(&self) -> Result<String> {
        let mut text = String::with_capacity(16 << 10);
        let failed = |error| Error::internal("metrics can't be written").with_source(error);
        encode(&mut text, &self.0).map_err(failed)?;
        Ok(text)
    }
}

/// Sets the gauges from what the workers of this process report.
pub(crate) fn refresh(metrics: &Metrics, workers: &[WorkerReport]) {
    let sum = |of: fn(&WorkerReport) -> u64| {
        let total = workers.iter().map(of).fold(0_u64, u64::saturating_add);
        i64::try_from(total).unwrap_or(i64::MAX)
    };
    metrics.pages_resident_bytes.set(sum(|worker| worker.resident_bytes));
    metrics.pages_capacity_bytes.set(sum(|worker| worker.capacity_bytes));
    metrics.memory_used_bytes.set(sum(|worker| worker.memory_used_bytes));
    metrics.memory_budget_bytes.set(sum(|worker| worker.memory_budget_bytes));
}
