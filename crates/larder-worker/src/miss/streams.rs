// SPDX-License-Identifier: Apache-2.0
//! How many bodies at once a store's bandwidth needs: what one stream brings, and what several
//! bring together. Pure: the caller says what time it is.
//!
//! Bytes and time are summed by how many long bodies were under way, in levels of 1, 2, 4, 8 and
//! 16, whoever reads them. A level is worth it when it brings a quarter more than the one below;
//! one of which nothing is known is tried, if one stream is slow. What is known is forgotten after
//! a while, for stores and lines change, so a trial that brought nothing is made again later.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A body of less than this says little about streams: its time is the wait for its first byte.
pub(crate) const LONG_BODY: u64 = 2 << 20;
/// Levels: 1, 2, 4, 8, 16 streams at once.
const LEVELS: usize = 5;
/// A level is judged once each of its streams has brought so much.
const STRETCH: u64 = 2 << 20;
/// What a new figure counts.
const WEIGHT: f64 = 0.5;
/// A level brings so many times what the one below brings, or it is not worth its requests.
const GAIN_MIN: f64 = 1.25;
/// One stream that brings so many bytes a second (1 Gbit/s) is not split: requests and places cost
/// others something, and at this rate the reader is often the limit.
const FAST: f64 = 125e6;
/// For how long a figure is believed.
const BELIEVED: Duration = Duration::from_secs(600);

/// What is known of the streams of one store.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Long bodies that are waited for.
    active: usize,
    /// All before is summed.
    since: Duration,
    levels: [Level; LEVELS],
}

#[derive(Debug, Default)]
struct Level {
    /// Of the present stretch.
    bytes: u64,
    time: Duration,
    /// Bytes a second, and when that was measured.
    rate: Option<(f64, Duration)>,
}

/// The level of so many streams; the highest is open to above.
fn level_of(streams: usize) -> usize {
    (streams.ilog2() as usize).min(LEVELS - 1)
}

impl Streams {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many more streams beside those under way are worth it, or worth a trial.
    pub(crate) fn want(&self, more: usize, now: Duration) -> bool {
        let state = self.state();
        let width = state.width(now);
        width > 1 && state.active + more <= width
    }
}

impl State {
    /// Sums up to `now`.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        self.since = self.since.max(now);
        if self.active > 0 {
            self.levels[level_of(self.active)].time += passed;
        }
    }

    fn received(&mut self, bytes: u64, now: Duration) {
        self.pass(now);
        if self.active == 0 {
            return;
        }
        let at = level_of(self.active);
        let level = &mut self.levels[at];
        level.bytes += bytes;
        if level.bytes < STRETCH << at || level.time.is_zero() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a stretch is far below 2^52 bytes")]
        let measured = level.bytes as f64 / level.time.as_secs_f64();
        let before = level.rate.filter(|(_, at)| now.saturating_sub(*at) < BELIEVED);
        let rate = before.map_or(measured, |(rate, _)| rate + (measured - rate) * WEIGHT);
        *level = Level { rate: Some((rate, now)), ..Level::default() };
    }

    fn rate(&self, level: usize, now: Duration) -> Option<f64> {
        let (rate, at) = self.levels.get(level)?.rate?;
        (now.saturating_sub(at) < BELIEVED).then_some(rate)
    }

    /// The highest level that is known to be worth it.
    fn worth(&self, now: Duration) -> Option<usize> {
        let one = self.rate(0, now)?;
        if one >= FAST {
            return None;
        }
        let (mut level, mut rate) = (0, one);
        while let Some(next) = self.rate(level + 1, now).filter(|next| *next >= rate * GAIN_MIN) {
            level += 1;
            rate = next;
        }
        Some(level)
    }

    /// How many streams are worth having, the trial of a level that is not known included.
    fn width(&self, now: Duration) -> usize {
        let Some(level) = self.worth(now) else { return 1 };
        let is_trial = level + 1 < LEVELS && self.rate(level + 1, now).is_none();
        1 << (level + usize::from(is_trial))
    }
}

/// One body, as the streams of its store count it. Counts while it is waited for.
#[derive(Debug)]
pub(crate) struct Stream {
    /// `None` for a short one, which does not count.
    streams: Option<Arc<Streams>>,
    is_active: bool,
}

impl Stream {
    /// For a body of so many bytes at most that is waited for from `now` on.
    pub(crate) fn new(streams: &Arc<Streams>, length: u64, now: Duration) -> Self {
        let streams = (length >= LONG_BODY).then(|| Arc::clone(streams));
        let mut stream = Self { streams, is_active: false };
        stream.resume(now);
        stream
    }

    /// It is waited for.
    pub(crate) fn resume(&mut self, now: Duration) {
        self.set(true, now);
    }

    /// Its reader is behind, or it broke.
    pub(crate) fn pause(&mut self, now: Duration) {
        self.set(false, now);
    }

    fn set(&mut self, active: bool, now: Duration) {
        let Some(streams) = &self.streams else { return };
        if self.is_active == active {
            return;
        }
        self.is_active = active;
        let mut state = streams.state();
        state.pass(now);
        state.active = if active { state.active + 1 } else { state.active - 1 };
    }

    /// Bytes came.
    pub(crate) fn received(&mut self, bytes: u64, now: Duration) {
        if let Some(streams) = &self.streams {
            streams.state().received(bytes, now);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The time since the last byte is left out: nobody waited for it.
        if let Some(streams) = self.streams.as_ref().filter(|_| self.is_active) {
            streams.state().active -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: Duration = Duration::from_secs(1);

    /// So many streams bring `mib` MiB together, in this many milliseconds for each of them.
    fn bring(streams: &Arc<Streams>, now: &mut Duration, (count, mib, ms): (usize, u64, u64)) {
        let begin = |_| Stream::new(streams, LONG_BODY, *now);
        let mut bodies: Vec<_> = (0..count).map(begin).collect();
        for at in 0..mib {
            *now += Duration::from_millis(ms);
            let body = usize::try_from(at).expect("small") % count;
            bodies[body].received(MIB, *now);
        }
        bodies.iter_mut().for_each(|body| body.pause(*now));
    }

    fn width(streams: &Streams, now: Duration) -> usize {
        streams.state().width(now)
    }

    #[test]
    fn streams_grow_while_each_level_brings_more() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        assert_eq!(width(&streams, now), 1, "nothing is known");
        assert!(!streams.want(1, now), "one is enough");
        bring(&streams, &mut now, (1, 8, 20));
        assert_eq!(width(&streams, now), 2, "a trial");
        let own = Stream::new(&streams, LONG_BODY, now);
        assert!(streams.want(1, now) && !streams.want(2, now), "a part, and not another reader's");
        let part = Stream::new(&streams, LONG_BODY, now);
        assert!(!streams.want(1, now));
        drop((own, part));
        assert!(streams.want(2, now));
        bring(&streams, &mut now, (2, 16, 10));
        assert_eq!(width(&streams, now), 4);
        bring(&streams, &mut now, (4, 32, 5));
        assert_eq!(width(&streams, now), 8);
        bring(&streams, &mut now, (8, 64, 5));
        assert_eq!(width(&streams, now), 4, "four bring all there is");
        assert_eq!(width(&streams, now + BELIEVED), 1, "that was long ago");
    }

    #[test]
    fn where_the_total_is_the_limit_one_trial_is_all() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        bring(&streams, &mut now, (1, 8, 20));
        bring(&streams, &mut now, (2, 16, 20));
        assert_eq!(width(&streams, now), 1);
        for _ in 0..600 {
            bring(&streams, &mut now, (1, 64, 20));
            assert!(width(&streams, now) == 1 || now >= BELIEVED, "{now:?}");
        }
        assert_eq!(width(&streams, now), 2, "and another one, minutes later");
    }

    #[test]
    fn a_fast_stream_is_not_split() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        bring(&streams, &mut now, (1, 64, 4));
        assert_eq!(width(&streams, now), 1);
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        let mut body = Stream::new(&streams, LONG_BODY, now);
        for _ in 0..8 {
            body.resume(now);
            now += Duration::from_millis(4);
            body.received(MIB, now);
            body.pause(now);
            now += SECOND;
        }
        assert_eq!(width(&streams, now), 1, "the reader is slow, not the store");
        let _short = Stream::new(&streams, LONG_BODY - 1, now);
        assert_eq!(streams.state().active, 0, "a short body is none of them");
    }
}
