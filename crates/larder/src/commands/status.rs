// SPDX-License-Identifier: Apache-2.0
//! `larder status`.

use std::time::Duration;

use comfy_table::{Table, presets};
use larder_client::message::{DiskReport, RuleReport, ScrubReport, WorkerReport};
use larder_core::ByteSize;
use larder_http::StatusDocument;

use super::{Format, shown};
use crate::{control::Control, exit::Failure, output};

pub(super) async fn run(control: Control, format: Format) -> Result<(), Failure> {
    let status: StatusDocument = control.get("/v1/status", &[]).await?;
    if format == Format::Json {
        return output::json(&status);
    }
    let ready = status.reason.as_deref().unwrap_or("ready");
    output::line(&format!("larder {} (pid {}): {ready}", status.version, status.pid))?;
    for face in &status.faces {
        output::line(&format!("  {:8} {}", face.face, face.address))?;
    }
    status.workers.iter().try_for_each(worker)
}

fn worker(report: &WorkerReport) -> Result<(), Failure> {
    let up = shown::duration(Duration::from_secs(report.uptime_s));
    output::line(&format!(
        "\nworker {}: up {up}, {} segments, {} statuses, memory {} of {}",
        report.id,
        report.segments,
        report.statuses,
        ByteSize(report.memory_used_bytes),
        ByteSize(report.memory_budget_bytes),
    ))?;
    output::line(&disks(&report.disks))?;
    output::line(&mounts(report).to_string())?;
    output::line(&savings(report).to_string())?;
    if report.rules.is_empty() {
        return Ok(());
    }
    output::line(&rules(&report.rules).to_string())
}

fn rules(reports: &[RuleReport]) -> Table {
    let mut rules = table(["RULE", "SAYS", "FILES", "HOLD"]);
    for rule in reports {
        rules.add_row([
            rule.path.clone(),
            shown::rule_settings(rule),
            rule.resident_files.to_string(),
            ByteSize(rule.resident_bytes).to_string(),
        ]);
    }
    rules
}

fn mounts(report: &WorkerReport) -> Table {
    let mut mounts =
        table(["MOUNT", "STORE", "FRESH", "REQUESTS", "FROM STORE", "FROM CACHE", "STATE"]);
    for mount in &report.mounts {
        mounts.add_row([
            mount.record.name.to_string(),
            mount.record.uri.clone(),
            shown::freshness(mount.record.freshness),
            mount.store_requests.to_string(),
            ByteSize(mount.store_read_bytes).to_string(),
            ByteSize(mount.cache_read_bytes).to_string(),
            mount.last_error.clone().unwrap_or_else(|| "ok".to_owned()),
        ]);
    }
    mounts
}

/// What the cache is worth: `-` where nothing was read yet, or where no price is set.
fn savings(report: &WorkerReport) -> Table {
    let heads = ["MOUNT", "READS", "HITS", "BYTES HIT", "FETCHED / MISSED", "COST", "COST AVOIDED"];
    let mut savings = table(heads);
    for mount in &report.mounts {
        let amplification = mount.read_amplification();
        savings.add_row([
            mount.record.name.to_string(),
            mount.reads.to_string(),
            shown::percent(mount.hit_ratio_by_requests()),
            shown::percent(mount.hit_ratio_by_bytes()),
            amplification.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            shown::cost(mount.cost),
            shown::cost(mount.cost_avoided),
        ]);
    }
    savings
}

/// The table of cache directories.
pub(super) fn disks(reports: &[DiskReport]) -> String {
    let mut disks = table(["CACHE", "HOLDS", "MAY HOLD", "SCRUBBED", "STATE"]);
    for disk in reports {
        let state = disk.state.as_str();
        disks.add_row([
            disk.directory.clone(),
            ByteSize(disk.resident_bytes).to_string(),
            ByteSize(disk.limit_bytes).to_string(),
            disk.scrub.map_or("off".to_owned(), scrubbed),
            disk.fault.as_ref().map_or(state.to_owned(), |why| format!("{state}: {why}")),
        ]);
    }
    disks.to_string()
}

fn scrubbed(scrub: ScrubReport) -> String {
    let last = scrub.last_pass_age_s.map_or_else(
        || format!("{} % so far", scrub.done_percent),
        |age| format!("{} ago", shown::duration(Duration::from_secs(age))),
    );
    match scrub.rotten_pages {
        0 => last,
        rotten => format!("{last}, {rotten} pages were rotten"),
    }
}

/// An empty table under these heads.
pub(super) fn table<const N: usize>(heads: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads);
    table
}
