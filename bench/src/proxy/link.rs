// SPDX-License-Identifier: Apache-2.0
//! A bandwidth cap: one line that all bodies of a direction share, in first-come order.
//!
//! Each chunk reserves its time on the line and is told how long to wait for its turn. Timers
//! are coarse and late, so the line forgives lateness up to `BURST`: the long-run rate is
//! exact and a single wake-up that comes late costs nothing.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How far the line may run behind or ahead of its schedule.
const BURST: Duration = Duration::from_millis(4);

/// A shared line with a rate that may change while it is used; rate zero is no cap.
#[derive(Debug, Default)]
pub struct Link {
    bytes_per_s: AtomicU64,
    /// When the last reserved byte has left, on the caller's monotonic clock.
    free_at: Mutex<Duration>,
}

impl Link {
    /// A line of this many bytes per second; zero is no cap.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: AtomicU64::new(bytes_per_s), free_at: Mutex::default() }
    }

    /// Changes the rate for what is reserved from now on; zero is no cap.
    pub fn set_rate(&self, bytes_per_s: u64) {
        self.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// The rate in bytes per second; zero is no cap.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.bytes_per_s.load(Ordering::Relaxed)
    }

    /// Reserves `bytes` at time `now` and says how long their sender has to wait first.
    #[must_use]
    pub fn reserve(&self, bytes: usize, now: Duration) -> Duration {
        let rate = self.rate();
        if rate == 0 || bytes == 0 {
            return Duration::ZERO;
        }
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let end = (*free_at).max(now.saturating_sub(BURST)).saturating_add(takes);
        *free_at = end;
        // The chunk is handed over when its last byte would have arrived.
        let wait = end.saturating_sub(now);
        if wait <= BURST { Duration::ZERO } else { wait - BURST / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends chunk after chunk, obeying the waits but waking `late` each time.
    fn seconds_for(total: usize, chunk: usize, late: Duration) -> f64 {
        let link = Link::new(250_000_000);
        let mut now = Duration::from_secs(1);
        for _ in 0..total / chunk {
            let wait = link.reserve(chunk, now);
            if !wait.is_zero() {
                now += wait + late;
            }
        }
        (now - Duration::from_secs(1)).as_secs_f64()
    }

    #[test]
    fn the_long_run_rate_is_exact_though_timers_are_late() {
        for chunk in [16 << 10, 100_000, 400_000] {
            for late in [Duration::ZERO, Duration::from_millis(1)] {
                let seconds = seconds_for(250_000_000, chunk, late);
                assert!((0.985..1.01).contains(&seconds), "{chunk} {late:?}: {seconds}");
            }
        }
    }

    #[test]
    fn an_idle_line_does_not_save_up_more_than_a_burst() {
        let link = Link::new(1_000_000);
        assert_eq!(link.reserve(1000, Duration::from_secs(5)), Duration::ZERO);
        let wait = link.reserve(1_000_000, Duration::from_secs(50));
        assert!(wait > Duration::from_millis(950), "{wait:?}");
        link.set_rate(0);
        assert_eq!(link.reserve(1 << 30, Duration::from_secs(50)), Duration::ZERO);
    }
}
