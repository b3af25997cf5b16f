// SPDX-License-Identifier: Apache-2.0
//! One figure of a bench, by round, beside its reference, held against its floor.
//!
//! A ratio is formed within a round, where both sides met the same weather; the spread of those
//! ratios says how much one run is worth.

use serde::Serialize;

/// What a figure (its ratio, if there is a reference) must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Exactly this, in every round.
    Always(f64),
}

/// Median, least and greatest of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A figure.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The bench.
    pub bench: &'static str,
    /// Which of its cases.
    pub case: String,
    /// What is counted, with its unit.
    pub figure: &'static str,
    /// Larder's figure in each round.
    pub larder: Vec<f64>,
    /// The reference's figure in each round; empty where there is none.
    pub reference: Vec<f64>,
    /// What must hold; nothing where the figure is only reported.
    pub bound: Option<Bound>,
    /// What is aimed at, where that is more than must hold; missing it fails nothing.
    pub goal: Option<Bound>,
}

impl Spread {
    /// The spread of `values`; nothing if there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { median, min, max })
    }
}

impl Row {
    /// Larder over reference, round by round.
    #[must_use]
    pub fn ratios(&self) -> Vec<f64> {
        self.larder.iter().zip(&self.reference).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Whether the bound holds; nothing if there is none.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        self.bound.map(|bound| self.keeps_to(bound))
    }

    /// Whether the figure keeps to `bound`. The median counts, not the luckiest nor the unluckiest
    /// round.
    #[must_use]
    pub fn keeps_to(&self, bound: Bound) -> bool {
        let values = if self.reference.is_empty() { self.larder.clone() } else { self.ratios() };
        let Some(spread) = Spread::of(&values) else { return false };
        match bound {
            Bound::AtLeast(floor) => spread.median >= floor,
            Bound::AtMost(ceiling) => spread.median <= ceiling,
            Bound::Always(wanted) => values.iter().all(|value| (value - wanted).abs() < 1e-9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(larder: &[f64], reference: &[f64], bound: Bound) -> Row {
        let bound = Some(bound);
        Row { larder: larder.into(), reference: reference.into(), bound, ..Row::default() }
    }

    #[test]
    fn ratios_are_formed_within_rounds_and_their_median_counts() {
        let row = row(&[1.0, 30.0, 4.0], &[2.0, 30.0, 5.0], Bound::AtLeast(0.8));
        assert_eq!(row.ratios(), [0.5, 1.0, 0.8]);
        assert_eq!(Spread::of(&row.ratios()), Some(Spread { median: 0.8, min: 0.5, max: 1.0 }));
        assert_eq!(row.holds(), Some(true));
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|spread| spread.median), Some(1.5));
    }

    #[test]
    fn a_bound_can_fail() {
        assert_eq!(row(&[0.4], &[1.0], Bound::AtLeast(0.5)).holds(), Some(false));
        assert_eq!(row(&[1.3], &[1.0], Bound::AtMost(1.2)).holds(), Some(false));
        assert_eq!(row(&[1.0, 1.0, 2.0], &[], Bound::Always(1.0)).holds(), Some(false));
        assert_eq!(row(&[], &[], Bound::AtLeast(0.0)).holds(), Some(false));
        assert_eq!(Row::default().holds(), None);
    }
}
