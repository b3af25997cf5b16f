// SPDX-License-Identifier: Apache-2.0
//! One trace, several cache sizes, every policy: who misses how much.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{
    larder::Larder,
    reference::{Arc, Cache, Fifo, Lfu, Lru, S3Fifo, Sieve, WTinyLfu},
    trace::Trace,
};

/// Cache sizes, in per cent of what a trace reads at all.
const SIZES: [u64; 6] = [2, 5, 10, 25, 50, 90];

/// The policies in the table's order, Larder's last.
const POLICIES: [&str; 8] =
    ["FIFO", "LRU", "LFU", "ARC", "SIEVE", "S3-FIFO", "W-TinyLFU", "larder"];

/// What one policy missed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Missed {
    policy: &'static str,
    /// Missed requests over all requests.
    by_requests: f64,
    /// Missed bytes over all bytes.
    by_bytes: f64,
}

/// One trace at one cache size.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    trace: String,
    requests: usize,
    size_percent: u64,
    cache_bytes: u64,
    missed: Vec<Missed>,
}

/// Replays `trace` at all sizes.
pub(super) fn sizes(trace: &Trace) -> Vec<Comparison> {
    let footprint = trace.footprint();
    let comparisons = SIZES.map(|percent| {
        let capacity = footprint * percent / 100;
        let caches: [Box<dyn Cache>; POLICIES.len()] = [
            Box::new(Fifo::new(capacity)),
            Box::new(Lru::new(capacity)),
            Box::new(Lfu::new(capacity)),
            Box::new(Arc::new(capacity)),
            Box::new(Sieve::new(capacity)),
            Box::new(S3Fifo::new(capacity)),
            Box::new(WTinyLfu::new(capacity)),
            Box::new(Larder::new(capacity, trace.kind)),
        ];
        let missed = POLICIES.into_iter().zip(caches);
        Comparison {
            trace: trace.name.clone(),
            requests: trace.requests.len(),
            size_percent: percent,
            cache_bytes: capacity,
            missed: missed.map(|(policy, cache)| replay(trace, policy, cache)).collect(),
        }
    });
    comparisons.into()
}

fn replay(trace: &Trace, policy: &'static str, mut cache: Box<dyn Cache>) -> Missed {
    let (mut requests, mut bytes, mut all_bytes) = (0_u64, 0_u64, 0_u64);
    for request in &trace.requests {
        all_bytes += request.size;
        if !cache.read(*request) {
            requests += 1;
            bytes += request.size;
        }
    }
    Missed {
        policy,
        by_requests: requests as f64 / trace.requests.len() as f64,
        by_bytes: bytes as f64 / all_bytes as f64,
    }
}

impl Comparison {
    /// Larder's miss ratio over the least of the others.
    fn ratio(&self, by: fn(&Missed) -> f64) -> f64 {
        let (larder, others) = self.missed.split_last().expect("Larder is the last policy");
        let best = others.iter().map(by).fold(f64::INFINITY, f64::min);
        by(larder) / best
    }
}

/// Miss ratios by requests, then how far Larder is from the best by requests and by bytes.
pub(super) fn table(comparisons: &[Comparison]) -> String {
    let mut table = Table::new();
    let heads = ["trace", "cache"].into_iter().chain(POLICIES);
    let heads = heads.chain(["of the best", "by bytes"]);
    table.load_style(presets::ASCII_MARKDOWN).set_header(heads.collect::<Vec<_>>());
    for comparison in comparisons {
        let mut row = vec![comparison.trace.clone(), format!("{} %", comparison.size_percent)];
        row.extend(comparison.missed.iter().map(|missed| format!("{:.4}", missed.by_requests)));
        row.push(format!("{:.3}", comparison.ratio(|missed| missed.by_requests)));
        row.push(format!("{:.3}", comparison.ratio(|missed| missed.by_bytes)));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::trace::Request;

    #[test]
    fn a_trace_that_fits_misses_each_object_once_with_any_policy() {
        let requests = (0..2000_u64).map(|at| Request { name: at % 100, size: 4 << 20 });
        let trace = Trace::objects("fits", requests.collect());
        // A tenth of slack: the published S3-FIFO cannot use all of its queues' sizes.
        let capacity = trace.footprint() * 2;
        let caches: [Box<dyn Cache>; 4] = [
            Box::new(Lru::new(capacity)),
            Box::new(S3Fifo::new(capacity)),
            Box::new(WTinyLfu::new(capacity)),
            Box::new(Larder::new(capacity, trace.kind)),
        ];
        for cache in caches {
            assert_eq!(replay(&trace, "any", cache).by_requests, 100.0 / 2000.0);
        }
    }

    #[test]
    fn lru_misses_all_of_a_loop_that_just_does_not_fit() {
        let requests = (0..1000_u64).map(|at| Request { name: at % 11, size: 1 });
        let trace = Trace::objects("loop", requests.collect());
        assert_eq!(replay(&trace, "LRU", Box::new(Lru::new(10))).by_requests, 1.0);
        assert_eq!(replay(&trace, "LRU", Box::new(Lru::new(11))).by_requests, 0.011);
    }
}
