// SPDX-License-Identifier: Apache-2.0
//! `larder advise`: what half, twice and four times the cache would have saved.

use std::time::Duration;

use comfy_table::Table;
use larder_client::advice::{Advice, Saved, SizeAdvice, Verdict};
use larder_core::ByteSize;
use larder_http::StatusDocument;
use serde::Serialize;

use super::{Format, shown, status::table};
use crate::{control::Control, exit::Failure, output};

/// What one worker advises, as `--json` gives it.
#[derive(Serialize)]
struct WorkerAdvice<'a> {
    worker: &'a str,
    #[serde(flatten)]
    advice: &'a Advice,
}

pub(super) async fn run(control: Control, format: Format) -> Result<(), Failure> {
    let status: StatusDocument = control.get("/v1/status", &[]).await?;
    for report in &status.workers {
        let (worker, advice) = (report.id.as_str(), &report.advice);
        match format {
            Format::Json => output::json(&WorkerAdvice { worker, advice })?,
            Format::Text => output::line(&text(worker, advice))?,
        }
    }
    Ok(())
}

fn text(worker: &str, advice: &Advice) -> String {
    let observed = shown::duration(Duration::from_secs(advice.observed_s));
    let head = format!(
        "worker {worker}: {} reads in {observed}; sampled {} reads, {} segments, {} of all",
        advice.reads,
        advice.sampled_reads,
        advice.sampled_segments,
        shown::percent(Some(advice.sample_rate)),
    );
    match advice.verdict {
        Verdict::TooLittle => format!("{head}\ntoo little traffic to say; ask again later"),
        Verdict::Fits => format!(
            "{head}\nall that was read so far fits: a larger cache would have saved nothing\n{}",
            sizes(advice)
        ),
        Verdict::Enough => format!("{head}\n{}", sizes(advice)),
    }
}

fn sizes(advice: &Advice) -> Table {
    let mut sizes = table([
        "CACHE",
        "SIZE",
        "READS MISSED",
        "BYTES MISSED",
        "SAVES REQUESTS",
        "SAVES BYTES",
        "SAVES COST",
    ]);
    for size in &advice.sizes {
        sizes.add_row([
            name(size),
            ByteSize(size.capacity_bytes).to_string(),
            missed(size),
            shown::percent(Some(size.miss_ratio_by_bytes)),
            size.saved.requests.to_string(),
            bytes(size.saved),
            shown::cost(size.saved.cost),
        ]);
    }
    sizes
}

fn name(size: &SizeAdvice) -> String {
    if size.scale == 1.0 { "as it is".to_owned() } else { format!("× {}", size.scale) }
}

/// With its standard error, where it is not known exactly.
fn missed(size: &SizeAdvice) -> String {
    let ratio = shown::percent(Some(size.miss_ratio_by_requests));
    if size.miss_ratio_error == 0.0 {
        return ratio;
    }
    format!("{ratio} ± {:.1}", size.miss_ratio_error * 100.0)
}

fn bytes(saved: Saved) -> String {
    let sign = if saved.bytes < 0 { "-" } else { "" };
    format!("{sign}{}", ByteSize(saved.bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(verdict: Verdict) -> Advice {
        let size = |scale: f64, requests: i64| SizeAdvice {
            scale,
            capacity_bytes: (scale * 1e3) as u64 * 1_073_741_824 / 1_000,
            miss_ratio_by_requests: 0.25,
            miss_ratio_error: if scale == 0.5 { 0.012 } else { 0.0 },
            miss_ratio_by_bytes: 0.2,
            saved: Saved { requests, bytes: requests << 20, cost: Some(requests as f64 / 4.0) },
            mounts: Vec::new(),
        };
        Advice {
            observed_s: 3_660,
            reads: 9_000,
            sampled_reads: 4_400,
            sampled_segments: 700,
            sample_rate: 0.5,
            verdict,
            sizes: vec![size(0.5, -12), size(1.0, 0), size(2.0, 30)],
            ..Advice::default()
        }
    }

    #[test]
    fn the_table_tells_what_each_size_saves() {
        let text = text("1", &advice(Verdict::Enough));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let head = "worker 1: 9000 reads in 1h 1m; sampled 4400 reads, 700 segments, 50.0% of all";
        assert_eq!(lines[0], head);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[2]), "× 0.5 512 MiB 25.0% ± 1.2 20.0% -12 -12 MiB -3.00");
        assert_eq!(words(lines[3]), "as it is 1 GiB 25.0% 20.0% 0 0 B 0.00");
        assert_eq!(words(lines[4]), "× 2 2 GiB 25.0% 20.0% 30 30 MiB 7.50");
    }

    #[test]
    fn too_little_traffic_is_a_word_and_no_figures() {
        let text = text("1", &advice(Verdict::TooLittle));
        assert!(text.ends_with("too little traffic to say; ask again later"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
