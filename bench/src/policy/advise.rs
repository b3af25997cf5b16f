// SPDX-License-Identifier: Apache-2.0
//! The sampled miss-ratio curve against the full simulator, on the same traces.

use comfy_table::{CellAlignment, Table, presets};
use larder_pages::{Access, Curve, SCALES, Sampler, Simulation};
use serde::Serialize;

use super::{
    larder::{hash, place},
    trace::Trace,
};

/// Present cache sizes, in per cent of what a trace reads at all.
const SIZES: [u64; 3] = [5, 10, 25];

/// Miss ratios at each of the scales.
#[derive(Debug, Clone, Copy, Serialize)]
struct Ratios {
    by_requests: [f64; SCALES.len()],
    by_bytes: [f64; SCALES.len()],
}

/// One trace at one present size.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    trace: String,
    size_percent: u64,
    /// The share of segments in the sample at the end.
    rate: f64,
    sampled_segments: usize,
    full: Ratios,
    sampled: Ratios,
    /// The greatest difference between the two, in percentage points.
    pub(super) points: f64,
}

/// Compares at all sizes, with so many segments in the sample, or as a worker samples.
pub(super) fn sizes(trace: &Trace, segments_max: Option<usize>) -> Vec<Comparison> {
    let footprint = trace.footprint();
    let compare = |percent| {
        let capacity = footprint * percent / 100;
        let (curve, sampled) = sampled(trace, capacity, segments_max);
        let full = full(trace, capacity);
        Comparison {
            trace: trace.name.clone(),
            size_percent: percent,
            rate: curve.rate,
            sampled_segments: curve.sampled_segments,
            full,
            sampled,
            points: 100.0 * full.farthest_from(&sampled),
        }
    };
    SIZES.map(compare).into()
}

fn sampled(trace: &Trace, capacity: u64, segments_max: Option<usize>) -> (Curve, Ratios) {
    let sampler = match segments_max {
        Some(max) => Sampler::with_segments_max(capacity, 1, max),
        None => Sampler::new(capacity, 1),
    };
    for request in &trace.requests {
        let (segment, page) = place(*request, trace.kind);
        sampler.read(0, &Access::of_page(hash(segment), page, request.size));
    }
    let curve = sampler.curve();
    let account = curve.accounts[0];
    let ratios = Ratios {
        by_requests: account.missed_reads.map(|missed| missed / account.reads as f64),
        by_bytes: account.missed_bytes.map(|missed| missed / account.bytes as f64),
    };
    (curve, ratios)
}

fn full(trace: &Trace, capacity: u64) -> Ratios {
    let mut ratios = Ratios { by_requests: [0.0; SCALES.len()], by_bytes: [0.0; SCALES.len()] };
    let bytes: u64 = trace.requests.iter().map(|request| request.size).sum();
    for (at, scale) in SCALES.into_iter().enumerate() {
        let mut simulation = Simulation::new((capacity as f64 * scale) as u64);
        let (mut missed, mut missed_bytes) = (0_u64, 0_u64);
        for request in &trace.requests {
            let (segment, page) = place(*request, trace.kind);
            if simulation.read(hash(segment), page..page + 1, request.size) > 0 {
                missed += 1;
                missed_bytes += request.size;
            }
        }
        ratios.by_requests[at] = missed as f64 / trace.requests.len() as f64;
        ratios.by_bytes[at] = missed_bytes as f64 / bytes as f64;
    }
    ratios
}

impl Ratios {
    fn farthest_from(&self, other: &Self) -> f64 {
        let all = |ratios: &Self| ratios.by_requests.into_iter().chain(ratios.by_bytes);
        let pairs: Vec<(f64, f64)> = all(self).zip(all(other)).collect();
        pairs.into_iter().map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
    }
}

/// Miss ratios by requests, the full simulator's and the sampled.
pub(super) fn table(comparisons: &[Comparison]) -> String {
    let mut table = Table::new();
    let heads = ["trace", "cache", "sample", "segments"].map(str::to_owned);
    let scales = SCALES.map(|scale| format!("× {scale}: full, sampled"));
    let heads = heads.into_iter().chain(scales).chain(["farthest, points".to_owned()]);
    table.load_style(presets::ASCII_MARKDOWN).set_header(heads.collect::<Vec<_>>());
    for comparison in comparisons {
        let mut row = vec![
            comparison.trace.clone(),
            format!("{} %", comparison.size_percent),
            format!("1/{:.0}", 1.0 / comparison.rate),
            comparison.sampled_segments.to_string(),
        ];
        let (full, sampled) = (comparison.full.by_requests, comparison.sampled.by_requests);
        let pairs = full.iter().zip(sampled);
        row.extend(pairs.map(|(full, sampled)| format!("{full:.3}, {sampled:.3}")));
        row.push(format!("{:.2}", comparison.points));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
