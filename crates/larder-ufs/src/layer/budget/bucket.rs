// SPDX-License-Identifier: Apache-2.0
//! A token bucket. Pure: the caller says what time it is.
//!
//! What is taken may exceed what is there, once: the debt is worked off before the next is
//! admitted. So a cost that is known only afterwards is corrected, and the long-run rate is exact.

use std::time::Duration;

/// Of the rate, so many seconds may come at once after a pause.
const BURST_S: f64 = 0.1;
/// What rounding of times may take away.
const ROUNDING: f64 = 1e-6;

/// Tokens that come at a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// `rate` tokens a second; after a pause a tenth of a second's at once, at least `burst_min`.
    pub(super) fn new(rate: f64, burst_min: f64, now: Duration) -> Self {
        let burst = (rate * BURST_S).max(burst_min);
        Self { rate, burst, level: burst, at: now }
    }

    /// The same with another rate from `now` on; what has gathered stays, up to the new burst.
    pub(super) fn set_rate(&mut self, rate: f64, burst_min: f64, now: Duration) {
        self.fill(now);
        self.rate = rate;
        self.burst = (rate * BURST_S).max(burst_min);
        self.level = self.level.min(self.burst);
    }

    /// Tokens a second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// When `cost` is there; `now` or a time before it: it is.
    pub(super) fn ready_at(&mut self, cost: f64, now: Duration) -> Duration {
        self.fill(now);
        let missing = cost.min(self.burst) - self.level;
        if missing <= ROUNDING {
            return now;
        }
        // Rounded up to what a timer can keep.
        now + Duration::from_secs_f64(missing / self.rate).max(Duration::from_millis(1))
    }

    /// Takes `cost`, which may be more than is there, or gives it back where it is below zero.
    pub(super) fn take(&mut self, cost: f64, now: Duration) {
        self.fill(now);
        self.level = (self.level - cost).min(self.burst);
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.burst);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn over_any_time_no_more_than_the_rate_and_one_burst_passes() {
        for (rate, burst_min, cost) in [(1.0, 1.0, 1.0), (50.0, 1.0, 1.0), (1e6, 65536.0, 65536.0)]
        {
            let mut bucket = Bucket::new(rate, burst_min, Duration::ZERO);
            let (mut now, mut passed) = (Duration::ZERO, 0.0);
            while now < 20 * SECOND {
                let ready = bucket.ready_at(cost, now);
                if ready > now {
                    now = ready;
                    continue;
                }
                bucket.take(cost, now);
                passed += cost;
            }
            let burst = f64::max(rate * BURST_S, burst_min);
            let most = rate * now.as_secs_f64() + burst + cost;
            assert!(passed <= most && passed >= 0.95 * rate * 20.0, "{passed} of {most}");
        }
    }

    #[test]
    fn a_cost_above_the_burst_passes_and_is_worked_off() {
        let mut bucket = Bucket::new(10.0, 1.0, Duration::ZERO);
        assert_eq!(bucket.ready_at(50.0, Duration::ZERO), Duration::ZERO);
        bucket.take(51.0, Duration::ZERO);
        assert_eq!(bucket.ready_at(1.0, SECOND), SECOND + Duration::from_millis(4100));
        bucket.take(-100.0, SECOND);
        assert_eq!(bucket.ready_at(1.0, SECOND), SECOND, "what was not used is given back");
        bucket.take(1.0, SECOND);
        assert!(bucket.ready_at(1.0, SECOND) > SECOND, "and gathers no more than one burst");
    }

    #[test]
    fn a_lower_rate_counts_from_now_on() {
        let mut bucket = Bucket::new(1000.0, 1.0, Duration::ZERO);
        bucket.set_rate(10.0, 1.0, SECOND);
        bucket.take(1.0, SECOND);
        assert_eq!(bucket.ready_at(1.0, SECOND), SECOND + Duration::from_millis(100));
    }
}
