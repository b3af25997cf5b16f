// SPDX-License-Identifier: Apache-2.0
//! When a reply is so late that a second request is worth it. Pure.
//!
//! The times to the heads of replies are counted in buckets a tenth apart, the old ones fading.
//! A reply is late when 99 of 100 came sooner, or when it takes three times as long as 95 of 100
//! did (where many are slow, the first says too little), and never below a floor: near stores
//! jitter by more than they take. Nothing is known before [`WARM_UP`] replies.
//!
//! A second request costs the store as much as the first, so at most one in [`REQUESTS_PER_HEDGE`]
//! is one, also in a store where all become slow at once.

use std::time::Duration;

/// Replies before anything is said: enough for a few beyond the 99th percentile.
const WARM_UP: u32 = 300;
/// No reply is late before this.
const FLOOR: Duration = Duration::from_millis(50);
/// Of so many requests, one may be a second one.
const REQUESTS_PER_HEDGE: f64 = 20.0;
/// So many second requests may come at once.
const HEDGES_BURST: f64 = 2.0;

/// The lower edge of the first bucket, in seconds.
const FIRST: f64 = 0.0005;
/// Each bucket reaches so many times as far as the one before.
const STEP: f64 = 1.1;
/// The last bucket reaches beyond the longest wait for a head (30 s).
const BUCKETS: usize = 128;
/// At so many counted replies all counts are halved.
const FADE: u32 = 1000;

/// The times to the heads of one kind of request.
#[derive(Debug)]
pub(super) struct Latency {
    counts: [u32; BUCKETS],
    total: u32,
    /// Second requests that may be sent.
    hedges: f64,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self { counts: [0; BUCKETS], total: 0, hedges: HEDGES_BURST }
    }

    /// The head of a reply came after `time`, or was not waited for any longer.
    pub(super) fn took(&mut self, time: Duration) {
        let steps = (time.as_secs_f64() / FIRST).max(1.0).log(STEP).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let bucket = (steps as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.hedges = (self.hedges + 1.0 / REQUESTS_PER_HEDGE).min(HEDGES_BURST);
        if self.total >= FADE {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// When a reply is late; `None`: that is not known yet.
    pub(super) fn late_after(&self) -> Option<Duration> {
        if self.total < WARM_UP {
            return None;
        }
        let late = self.quantile(99).min(self.quantile(95) * 3);
        Some(late.max(FLOOR))
    }

    /// Takes the right to one second request, if there is one.
    pub(super) fn take_hedge(&mut self) -> bool {
        let may = self.hedges >= 1.0;
        if may {
            self.hedges -= 1.0;
        }
        may
    }

    /// So many of a hundred came within this.
    fn quantile(&self, percent: u32) -> Duration {
        let wanted = (u64::from(self.total) * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let mut edge = FIRST;
        for count in self.counts {
            seen += u64::from(count);
            if seen >= wanted {
                break;
            }
            edge *= STEP;
        }
        Duration::from_secs_f64(edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// After `count` replies, of which every `nth` took `slow` and the others `usual`.
    fn after(count: u32, usual: u64, nth: u32, slow: u64) -> Latency {
        let mut latency = Latency::new();
        (1..=count).for_each(|at| {
            latency.took(millis(if at % nth == 0 { slow } else { usual }));
        });
        latency
    }

    #[test]
    fn nothing_is_late_before_enough_is_known() {
        assert_eq!(after(WARM_UP - 1, 100, 1000, 0).late_after(), None);
        assert!(after(WARM_UP, 100, 1000, 0).late_after().is_some());
    }

    #[test]
    fn late_is_the_99th_percentile_within_bounds() {
        let late = |usual, nth, slow| {
            let late = after(3000, usual, nth, slow).late_after().expect("enough is known");
            u64::try_from(late.as_millis()).expect("short")
        };
        assert!((100..=110).contains(&late(100, 1000, 9000)), "the usual, one bucket wide");
        assert!((200..=220).contains(&late(100, 50, 200)), "the slow ones are the 99th");
        assert!((300..=330).contains(&late(100, 50, 9000)), "thrice the 95th");
        assert_eq!(late(1, 1000, 9000), 50, "a near store");
    }

    #[test]
    fn it_follows_a_store_that_becomes_another() {
        let mut latency = after(10_000, 400, 1000, 400);
        (0..4000).for_each(|_| latency.took(millis(80)));
        let late = latency.late_after().expect("enough is known");
        assert!(late < millis(300), "{late:?}");
    }

    #[test]
    fn second_requests_are_a_twentieth_at_most() {
        let mut latency = Latency::new();
        let mut hedges = 0;
        for _ in 0..2000 {
            latency.took(millis(900));
            hedges += u32::from(latency.take_hedge());
        }
        assert!((100..=102).contains(&hedges), "{hedges}");
    }
}
