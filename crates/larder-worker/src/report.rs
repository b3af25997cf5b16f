// SPDX-License-Identifier: Apache-2.0
//! The report: how the worker is doing, in numbers that are already counted.

use larder_cluster::wire::message::{DiskState, MountReport, Outcome, WorkerReport};
use larder_core::{Error, MountName, metric::MountLabels};

use crate::{Worker, disks, mount::Mount};

impl Worker {
    pub(crate) fn answer_report(&self) -> WorkerReport {
        self.follow_capacity();
        let (usage, now) = (self.pages.usage(), self.clock.now());
        let counted = || usage.iter().filter(|disk| disks::counts(disk));
        let sum = |part: fn(&larder_pages::DiskUsage) -> u64| counted().map(part).sum();
        let report = WorkerReport {
            id: self.id.to_string(),
            uptime_s: self.clock.elapsed().saturating_sub(self.started).as_secs(),
            capacity_bytes: sum(|disk| disk.capacity.0),
            resident_bytes: sum(|disk| disk.resident.0),
            segments: sum(|disk| disk.segments),
            statuses: self.meta.count(),
            memory_budget_bytes: self.budget.total(),
            memory_used_bytes: self.budget.used(),
            disks: usage.iter().map(|disk| disks::report(disk, now)).collect(),
            mounts: self.mounts.all().map(|mount| self.mount_report(mount)).collect(),
            advice: self.advice(),
            rules: self.rule_reports(),
        };
        self.set_gauges(&report);
        let passed = disks::scrub_passed(&usage).unwrap_or_default();
        self.metrics.scrub_passed_seconds.set(i64::try_from(passed.0 / 1000).unwrap_or(i64::MAX));
        report
    }

    /// Tells in the report what somebody else heard of a store, until it answers again.
    pub fn note_trouble(&self, mount: &MountName, trouble: &Error) {
        if let Ok(mount) = self.mounts.get(mount) {
            // It is noted and not handed on.
            let _ = mount.note::<()>(Err(trouble.duplicate()));
        }
    }

    fn set_gauges(&self, report: &WorkerReport) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.pages_resident_bytes.set(signed(report.resident_bytes));
        self.metrics.pages_capacity_bytes.set(signed(report.capacity_bytes));
        let out = report.disks.iter().filter(|disk| disk.state == DiskState::Faulty).count();
        self.metrics.cache_directories_out.set(signed(out as u64));
        self.metrics.memory_budget_bytes.set(signed(report.memory_budget_bytes));
        self.metrics.memory_used_bytes.set(signed(report.memory_used_bytes));
        for mount in &report.mounts {
            let labels = MountLabels { mount: mount.record.name.to_string() };
            if let (Some(cost), Some(avoided)) = (mount.cost, mount.cost_avoided) {
                self.metrics.store_cost.get_or_create(&labels).set(cost);
                self.metrics.store_cost_avoided.get_or_create(&labels).set(avoided);
            }
        }
    }

    fn mount_report(&self, mount: &Mount) -> MountReport {
        let totals = self.metrics.store_totals(mount.name());
        let counters = &mount.counters;
        let hits = [Outcome::Hit, Outcome::Revalidated, Outcome::StaleIfError];
        let reads_hit = hits.map(|outcome| counters.reads(outcome)).iter().sum();
        let missed = counters.reads(Outcome::Part) + counters.reads(Outcome::Miss);
        // Whoever has no cache sends one request for each.
        let avoided_requests = counters.reads(Outcome::Hit) + counters.stats(Outcome::Hit);
        let cache_read_bytes = counters.from_cache.get();
        let cost = |requests: u64, bytes: u64| {
            mount.record.prices.map(|prices| prices.cost(requests as f64, bytes as f64))
        };
        MountReport {
            record: mount.record.clone(),
            store_requests: totals.requests,
            store_read_bytes: totals.read_bytes,
            cache_read_bytes,
            streamed_read_bytes: counters.from_store.get(),
            loaded_bytes: counters.loaded.get(),
            reads: reads_hit + missed,
            reads_hit,
            avoided_requests,
            cost: cost(totals.requests, totals.read_bytes),
            cost_avoided: cost(avoided_requests, cache_read_bytes),
            last_error: mount.last_error(),
        }
    }
}
