// SPDX-License-Identifier: Apache-2.0
//! The pages that TPC-H reads, recorded once (`bench/parquet/record.py`): DuckDB over Larder's S3
//! face, scale 10, each of the 22 queries by itself.
//!
//! The trace is several streams one after the other, each all queries in another order, as in
//! TPC-H's own throughput test.

use anyhow::{Context, Result, bail};
use larder_core::Random;

use super::trace::{Kind, PAGES_OF_A_SEGMENT, Request, Trace};

const RECORDED: &[u8] = include_bytes!("../../traces/tpch.pages");
const PAGE: u64 = 64 << 10;
const STREAMS: usize = 4;

/// Pages in a row, named as in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    pages: u64,
}

/// The trace.
///
/// # Errors
/// When the recording is not one.
pub fn trace() -> Result<Trace> {
    let queries = decode(RECORDED)?;
    let random = Random::seeded(10);
    let mut order: Vec<usize> = (0..queries.len()).collect();
    let mut requests = Vec::new();
    for _ in 0..STREAMS {
        super::generate::shuffle(&mut order, &random);
        for run in order.iter().flat_map(|query| &queries[*query]) {
            let names = run.first..run.first + run.pages;
            requests.extend(names.map(|name| Request { name, size: PAGE }));
        }
    }
    Ok(Trace { name: "TPC-H pages".into(), requests, kind: Kind::Pages })
}

/// The ranges of each query; each table begins with a segment of its own.
fn decode(recorded: &[u8]) -> Result<Vec<Vec<Run>>> {
    let mut numbers = Numbers(recorded);
    let mut starts = Vec::new();
    let mut start = 0;
    for _ in 0..numbers.next()? {
        starts.push(start);
        start += numbers.next()?.next_multiple_of(PAGES_OF_A_SEGMENT);
    }
    let mut ends = vec![0_u64; starts.len()];
    let mut queries = Vec::new();
    while !numbers.0.is_empty() {
        let mut runs = Vec::new();
        for _ in 0..numbers.next()? {
            let table = usize::try_from(numbers.next()?)?;
            let (delta, pages) = (numbers.next()?, numbers.next()?);
            let end = ends.get_mut(table).context("no such table")?;
            let delta = if delta % 2 == 0 { delta / 2 } else { !(delta / 2) };
            let first = end.wrapping_add(delta);
            *end = first.checked_add(pages).context("a range beyond the table")?;
            runs.push(Run { first: starts[table] + first, pages });
        }
        queries.push(runs);
    }
    Ok(queries)
}

/// Numbers as LEB128, one after the other.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let (byte, rest) = self.0.split_first().context("the recording ends in a number")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number of the recording is too long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_decoded() {
        // Tables of 300 and 5 pages; a query of two ranges, the second three pages back; another.
        let recorded = [2, 0xac, 2, 5, 2, 0, 20, 4, 0, 5, 1, 1, 1, 2, 3];
        let queries = decode(&recorded).unwrap();
        let run = |first, pages| Run { first, pages };
        assert_eq!(queries, [vec![run(10, 4), run(11, 1)], vec![run(512 + 1, 3)]]);
        assert!(decode(&recorded[..14]).is_err());
    }

    #[test]
    fn the_recording_has_every_query_and_no_page_beyond_its_table() {
        let queries = decode(RECORDED).unwrap();
        assert_eq!(queries.len(), 22);
        assert!(queries.iter().all(|query| !query.is_empty()));
        let trace = trace().unwrap();
        assert!(trace.requests.len() > 100_000, "{}", trace.requests.len());
    }
}
