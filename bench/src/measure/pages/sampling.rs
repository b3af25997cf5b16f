// SPDX-License-Identifier: Apache-2.0
//! What it costs to note a read for `larder advise`, against the verified 4 KiB read that is
//! noted: the least that anybody reads through client, worker and page store.
//!
//! A ratio of 100 is one per cent of the read. A face adds its own time to the read, not to the
//! note.

use larder_core::{ByteRange, Clock, ContentId, Random, SEGMENT_SIZE};
use larder_pages::{Access, Sampler};

use crate::report::row::Row;

const NOTES: u64 = 300_000;
const READ: u64 = 4 << 10;
/// Contents of one segment each.
const CONTENTS: u64 = 2_000;

/// Capacities with which all segments are in the sample, and next to none.
const SAMPLES: [(&str, u64); 2] =
    [("all segments in the sample", 30 << 30), ("none of them", 1 << 50)];

/// With each of two samples: all segments, and next to none of them. `reads`: per second, one
/// figure for each round.
pub(super) fn measure(reads: &[f64]) -> Vec<Row> {
    let rows = SAMPLES.map(|(sample, capacity)| Row {
        bench: "pages",
        case: format!("note a read for advise, {sample}"),
        figure: "notes : warm 4 KiB reads / s",
        larder: reads.iter().map(|_| notes_per_second(capacity)).collect(),
        reference: reads.to_vec(),
        ..Row::default()
    });
    rows.into()
}

fn notes_per_second(capacity: u64) -> f64 {
    let (sampler, random, clock) = (Sampler::new(capacity, 1), Random::seeded(4), Clock::system());
    let note = || {
        let content = ContentId(u128::from(Random::seeded(random.below(CONTENTS)).next()) << 64);
        sampler.read(0, &Access::new(content, SEGMENT_SIZE, ByteRange::new(0, READ), 0));
    };
    // What is noted is warm, as what is read is: a miss costs a request to the store.
    (0..CONTENTS * 10).for_each(|_| note());
    let start = clock.elapsed();
    (0..NOTES).for_each(|_| note());
    NOTES as f64 / (clock.elapsed() - start).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_is_everything_and_the_other_next_to_nothing() {
        let [all, none] = SAMPLES.map(|(_, capacity)| Sampler::new(capacity, 1).curve().rate);
        assert_eq!(all, 1.0);
        assert!(none < 0.001);
    }
}
