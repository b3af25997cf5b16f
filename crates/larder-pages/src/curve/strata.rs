// SPDX-License-Identifier: Apache-2.0
//! From the sample to the whole: what was counted in strata, and the estimate with its error.
//!
//! Chance gives a sample more or fewer of the reads than its share. By how much is known, since all
//! reads are counted. How much of that surplus were misses differs: where few segments get most
//! reads hardly any, in a loop all. So the sample is counted in strata, which differ in the same
//! way, and a regression over them says how misses go with reads (a regression estimator). What
//! remains unexplained between strata is the standard error; that a miniature may be too large or
//! too small for the sample is not in it.

use super::HALVES;

/// Strata of a sample, by bits of the name's hash.
const STRATA: usize = 64;

/// What one stratum read and missed, each read weighted by how many it stands for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stratum {
    pub(super) reads: f64,
    pub(super) bytes: f64,
    pub(super) missed_reads: [f64; HALVES.len()],
    pub(super) missed_bytes: [f64; HALVES.len()],
}

/// The strata of one account.
#[derive(Debug, Clone)]
pub(super) struct Strata(Box<[Stratum; STRATA]>);

/// An estimate of a sum over all reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    /// Its standard error.
    pub(super) error: f64,
}

impl Strata {
    pub(super) fn new() -> Self {
        Self(Box::new([Stratum::default(); STRATA]))
    }

    /// The stratum of a place in the space of samples.
    pub(super) fn of(&mut self, place: u64) -> &mut Stratum {
        &mut self.0[place as usize % STRATA]
    }

    /// The sum of `missed` over everything, where `read` sums up to `all` and the sample is this
    /// share of the segments.
    pub(super) fn estimate(
        &self,
        all: f64,
        rate: f64,
        of: impl Fn(&Stratum) -> (f64, f64),
    ) -> Estimate {
        let pairs = || self.0.iter().map(&of);
        let (read, missed) = pairs().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let strata = STRATA as f64;
        let (mean_read, mean_missed) = (read / strata, missed / strata);
        let away = || pairs().map(|pair| (pair.0 - mean_read, pair.1 - mean_missed));
        let variance: f64 = away().map(|(read, _)| read * read).sum();
        let covariance: f64 = away().map(|(read, missed)| read * missed).sum();
        let slope = if variance > 0.0 { (covariance / variance).clamp(0.0, 1.0) } else { 0.0 };
        let unexplained: f64 = away().map(|(read, missed)| (missed - slope * read).powi(2)).sum();
        let error = (unexplained * strata / (strata - 1.0) * (1.0 - rate)).sqrt();
        Estimate { value: (missed - slope * (read - all)).max(0.0), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each stratum reads `reads(at)` and misses `missed(at)`.
    fn strata(reads: impl Fn(usize) -> f64, missed: impl Fn(usize) -> f64) -> Strata {
        let mut strata = Strata::new();
        for at in 0..STRATA {
            let stratum = strata.of(at as u64);
            (stratum.reads, stratum.missed_reads[0]) = (reads(at), missed(at));
        }
        strata
    }

    fn estimate(strata: &Strata, all: f64) -> Estimate {
        strata.estimate(all, 0.5, |stratum| (stratum.reads, stratum.missed_reads[0]))
    }

    #[test]
    fn where_misses_go_with_reads_the_surplus_of_the_sample_is_taken_off() {
        let strata = strata(|at| (100 + at) as f64, |at| (100 + at) as f64 / 2.0);
        let sampled: f64 = (0..STRATA).map(|at| (100 + at) as f64).sum();
        let estimate = estimate(&strata, sampled * 0.9);
        assert!((estimate.value - sampled * 0.45).abs() < 1e-6, "{estimate:?}");
        assert!(estimate.error < 1e-6, "{estimate:?}");
    }

    #[test]
    fn where_a_few_hot_segments_make_the_surplus_misses_stay() {
        let strata = strata(|at| if at == 3 { 100_000.0 } else { 100.0 }, |_| 50.0);
        let estimate = estimate(&strata, 60_000.0);
        assert!((estimate.value - 50.0 * STRATA as f64).abs() < 1e-6, "{estimate:?}");
    }

    #[test]
    fn what_differs_between_strata_is_the_error() {
        let uneven = strata(|_| 100.0, |at| if at % 2 == 0 { 10.0 } else { 30.0 });
        let Estimate { value, error } = estimate(&uneven, 6_400.0);
        assert_eq!(value, 20.0 * STRATA as f64);
        // 64 independent draws with a deviation of 10, of which half are known.
        let expected = 10.0 * (STRATA as f64 * 0.5).sqrt();
        assert!((error / expected - 1.0).abs() < 0.02, "{error} {expected}");
        let all = uneven.estimate(6_400.0, 1.0, |stratum| (stratum.reads, stratum.missed_reads[0]));
        assert_eq!(all.error, 0.0, "a sample of everything has no error");
    }
}
