// SPDX-License-Identifier: Apache-2.0
//! The rate that a store bears, learnt from its refusals: additive increase, multiplicative
//! decrease (AIMD). Pure: the caller says what time it is.
//!
//! Nothing is limited until the store asks to slow down. Then the rate at which requests went is
//! halved, and from there it grows evenly, back to where it was in half of [`RECOVERY`], more
//! slowly after each further cut. A refusal of a request that was sent before the last cut says
//! nothing new. After [`CALM`] without a refusal there is no limit any more.

use std::time::Duration;

use super::bucket::Bucket;

/// What a cut leaves.
const CUT: f64 = 0.5;
/// Requests a second that are always tried: whoever asks for one file must not wait for ever.
const FLOOR: f64 = 5.0;
/// The time in which a rate grows by as much as it was when it was refused.
const RECOVERY: Duration = Duration::from_secs(20);
/// It grows by at least so many requests a second in each second.
const GROWTH_MIN: f64 = 1.0;
/// How much of a former growth outlives a cut: a store that bears less is tried more carefully.
const GROWTH_KEPT: f64 = 0.7;
/// Two cuts are at least so far apart.
const CUT_EVERY: Duration = Duration::from_secs(1);
/// Without a refusal for so long, there is no limit.
const CALM: Duration = Duration::from_secs(60);
/// Nothing is sent for longer than this because of one `Retry-After`; the refused request itself
/// waits for what it was told.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// The time over which the rate of sending is averaged, in seconds.
const AVERAGED_S: f64 = 1.0;

/// What is remembered of a request that was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sent {
    at: Duration,
    /// Requests a second at that time, this one included.
    rate: f64,
}

/// How fast requests may go to one store.
#[derive(Debug, Default)]
pub(super) struct Rate {
    limit: Option<Limit>,
    /// Nothing is sent before.
    hold_until: Duration,
    /// The averaged rate of sending, and when it was that.
    sending: f64,
    sent_at: Duration,
}

#[derive(Debug)]
struct Limit {
    /// What the last cut left, and since when it grows.
    base: f64,
    since: Duration,
    /// Requests a second more in each second.
    growth: f64,
    cut_at: Duration,
    refused_at: Duration,
    bucket: Bucket,
}

impl Limit {
    fn at(&self, now: Duration) -> f64 {
        self.base + self.growth * now.saturating_sub(self.since).as_secs_f64()
    }
}

impl Rate {
    /// When the next request may be sent; `now`: at once.
    pub(super) fn ready_at(&mut self, now: Duration) -> Duration {
        if self.hold_until > now {
            return self.hold_until;
        }
        self.settle(now);
        let Some(limit) = &mut self.limit else { return now };
        let rate = limit.at(now);
        limit.bucket.set_rate(rate, 1.0, now);
        limit.bucket.ready_at(1.0, now)
    }

    /// A request is sent.
    pub(super) fn sent(&mut self, now: Duration) -> Sent {
        let passed = now.saturating_sub(self.sent_at);
        self.sending = faded(self.sending, passed) + 1.0 / AVERAGED_S;
        self.sent_at = now;
        if let Some(limit) = &mut self.limit {
            limit.bucket.take(1.0, now);
        }
        Sent { at: now, rate: self.sending }
    }

    /// The store asked to slow down.
    pub(super) fn refused(&mut self, sent: Sent, retry_after: Option<Duration>, now: Duration) {
        if let Some(wait) = retry_after {
            self.hold_until = self.hold_until.max(now + wait.min(HOLD_MAX));
        }
        let since = self.hold_until.max(now);
        // The first of a burst was sent slowly, and what was sent in a burst is refused later.
        let sending = faded(self.sending, now.saturating_sub(self.sent_at)).max(sent.rate);
        let limit = match self.limit.as_mut() {
            None => {
                let base = (sending * CUT).max(FLOOR);
                let growth = (sending / RECOVERY.as_secs_f64()).max(GROWTH_MIN);
                let bucket = Bucket::new(base, 1.0, now);
                let limit = Limit { base, since, growth, cut_at: now, refused_at: now, bucket };
                self.limit.insert(limit)
            }
            Some(limit) => {
                let news = sent.at > limit.cut_at && now >= limit.cut_at + CUT_EVERY;
                let borne = sending.min(limit.at(sent.at));
                if news {
                    if limit.base > FLOOR {
                        let growth = borne / RECOVERY.as_secs_f64();
                        limit.growth = growth.max(limit.growth * GROWTH_KEPT).max(GROWTH_MIN);
                    }
                    limit.base = (borne * CUT).max(FLOOR);
                    limit.cut_at = now;
                    limit.since = since;
                }
                limit
            }
        };
        limit.refused_at = now;
        limit.bucket.set_rate(limit.base, 1.0, now);
    }

    /// The limit in requests a second; `None`: there is none.
    pub(super) fn limit(&mut self, now: Duration) -> Option<f64> {
        self.settle(now);
        self.limit.as_ref().map(|limit| limit.at(now))
    }

    /// When the limit will be lifted if nothing is refused.
    pub(super) fn lifted_at(&self) -> Option<Duration> {
        self.limit.as_ref().map(|limit| limit.refused_at.max(self.hold_until) + CALM)
    }

    fn settle(&mut self, now: Duration) {
        if self.lifted_at().is_some_and(|lifted_at| now >= lifted_at) {
            self.limit = None;
        }
    }
}

/// A rate of sending that was averaged so long ago.
fn faded(rate: f64, passed: Duration) -> f64 {
    rate * (-passed.as_secs_f64() / AVERAGED_S).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// A store that refuses what comes above `capacity` requests in a second, and a sender that
    /// always has more to send. Answers what was served and refused in each second.
    fn drive(rate: &mut Rate, from: u64, seconds: u64, capacity: u64) -> Vec<(u64, u64)> {
        let mut told = Vec::new();
        for second in from..from + seconds {
            let (mut served, mut refused) = (0, 0);
            for milli in 0..1000 {
                let now = Duration::from_millis(second * 1000 + milli);
                // At most eight requests go out in a millisecond: the sender has its own limits.
                for _ in 0..8 {
                    if rate.ready_at(now) > now {
                        break;
                    }
                    let sent = rate.sent(now);
                    if served < capacity {
                        served += 1;
                    } else {
                        refused += 1;
                        rate.refused(sent, None, now);
                    }
                }
            }
            told.push((served, refused));
        }
        told
    }

    #[test]
    fn without_a_refusal_there_is_no_limit() {
        let mut rate = Rate::default();
        let told = drive(&mut rate, 1, 5, u64::MAX);
        assert!(told.iter().all(|second| *second == (8000, 0)), "{told:?}");
        assert_eq!(rate.limit(6 * SECOND), None);
    }

    #[test]
    fn it_settles_around_what_the_store_bears() {
        for capacity in [20, 200, 3000] {
            let mut rate = Rate::default();
            let told = drive(&mut rate, 1, 120, capacity);
            let steady = &told[60..];
            let served: u64 = steady.iter().map(|second| second.0).sum();
            let refused: u64 = steady.iter().map(|second| second.1).sum();
            let goal = capacity * steady.len() as u64;
            assert!(served * 10 >= goal * 6, "{served} of {goal} at {capacity}");
            assert!(refused * 10 <= served, "{refused} refused, {served} served at {capacity}");
        }
    }

    #[test]
    fn it_recovers_when_the_store_does() {
        let mut rate = Rate::default();
        drive(&mut rate, 1, 3, u64::MAX);
        drive(&mut rate, 4, 20, 0);
        let limit = rate.limit(24 * SECOND).expect("the store is overloaded");
        assert!(limit <= 2.0 * FLOOR, "{limit}");
        let told = drive(&mut rate, 24, 70, 1_000_000);
        assert!(told[20].0 > told[2].0 && told[40].0 > told[20].0, "{told:?}");
        assert_eq!(told[69], (8000, 0), "calm for a minute: no limit");
        assert_eq!(rate.limit(94 * SECOND), None);
    }

    #[test]
    fn refusals_of_one_burst_are_one_cut() {
        let mut rate = Rate::default();
        let sent: Vec<Sent> = (0..100).map(|_| rate.sent(SECOND)).collect();
        for (at, sent) in sent.iter().enumerate() {
            rate.refused(*sent, None, SECOND + MILLI * 40 * u32::try_from(at).expect("small"));
        }
        let limit = rate.limit(SECOND).expect("limited");
        assert!((limit - 50.0).abs() < 1.0, "{limit}");
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_within_bounds() {
        let mut rate = Rate::default();
        let sent = rate.sent(SECOND);
        rate.refused(sent, Some(3 * SECOND), SECOND);
        assert_eq!(rate.ready_at(2 * SECOND), 4 * SECOND);
        assert_eq!(rate.ready_at(4 * SECOND), 4 * SECOND);
        rate.refused(sent, Some(300 * SECOND), 4 * SECOND);
        assert_eq!(rate.ready_at(5 * SECOND), 4 * SECOND + HOLD_MAX);
    }

    #[test]
    fn the_floor_holds_whatever_is_refused() {
        let mut rate = Rate::default();
        let told = drive(&mut rate, 1, 60, 0);
        let steady: u64 = told[30..].iter().map(|second| second.1).sum();
        assert!((100..=30 * 10).contains(&steady), "{steady} tries in half a minute");
    }
}
