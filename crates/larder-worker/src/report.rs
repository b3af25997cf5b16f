// SPDX-License-Identifier: Apache-2.0
//! The report: how the worker is doing, in numbers that are already counted.

use larder_cluster::wire::message::{DiskState, MountReport, WorkerReport};
use larder_core::{Error, MountName};

use crate::{Worker, disks, mount::Mount};

impl Worker {
    pub(crate) fn answer_report(&self) -> WorkerReport {
        let usage = self.pages.usage();
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
            disks: usage.iter().map(disks::report).collect(),
            mounts: self.mounts.all().map(|mount| self.mount_report(mount)).collect(),
        };
        self.set_gauges(&report);
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
    }

    fn mount_report(&self, mount: &Mount) -> MountReport {
        let totals = self.metrics.store_totals(mount.name());
        MountReport {
            record: mount.record.clone(),
            store_requests: totals.requests,
            store_read_bytes: totals.read_bytes,
            cache_read_bytes: mount.counters.from_cache.get(),
            last_error: mount.last_error(),
        }
    }
}
