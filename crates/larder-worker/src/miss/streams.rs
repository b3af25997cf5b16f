// SPDX-License-Identifier: Apache-2.0
//! How many bodies at once a store's bandwidth needs: what one stream brings, and what several
//! bring together. Pure: the caller says what time it is.
//!
//! Bytes and time are summed by how many long bodies were under way, in levels of 1, 2, 4, 8 and
//! 16, whoever reads them. Only time in which bytes were waited for counts: where this machine is
//! the limit, the store is not. What one stream brings is measured from its first byte on, so that
//! a far store does not look slow; what several bring, with the waits for theirs, which each part
//! costs again. What lay ready in the sockets after a pause came in no time and says nothing, and a
//! stretch with a pause says less about the store than about the reader. A level is worth it when
//! it brings a quarter more than the one below; one of which nothing is known is tried, if one
//! stream is slow. What is known is forgotten after a while, for stores and lines change, so a
//! trial that brought nothing is made again later.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_core::Clock;

/// A body of less than this says little about streams: its time is the wait for its first byte.
pub(crate) const LONG_BODY: u64 = 2 << 20;
/// Levels: 1, 2, 4, 8, 16 streams at once.
const LEVELS: usize = 5;
/// A level is judged once each of its streams has brought so much: a part, with the wait for its
/// first byte.
const STRETCH: u64 = 4 << 20;
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
    /// Long bodies that are under way and not paused.
    active: usize,
    /// Those of which the store owes the first byte.
    beginning: usize,
    /// Those that have begun and of which the next byte is waited for.
    pending: usize,
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

    /// How many are worth it, or worth a trial.
    pub(crate) fn wanted(&self, now: Duration) -> usize {
        self.state().width(now)
    }
}

impl State {
    /// Sums up to `now`.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        self.since = self.since.max(now);
        if self.pending > 0 || (self.active > 1 && self.beginning > 0) {
            self.levels[level_of(self.active)].time += passed;
        }
    }

    /// A body enters a phase.
    fn enter(&mut self, phase: Phase) {
        self.active += usize::from(phase != Phase::Paused);
        self.beginning += usize::from(phase == Phase::Begins);
        self.pending += usize::from(phase == Phase::Pending);
    }

    fn leave(&mut self, phase: Phase) {
        self.active -= usize::from(phase != Phase::Paused);
        self.beginning -= usize::from(phase == Phase::Begins);
        self.pending -= usize::from(phase == Phase::Pending);
    }

    /// Forgets the present stretch.
    fn interrupt(&mut self) {
        if self.active > 0 {
            let level = &mut self.levels[level_of(self.active)];
            (level.bytes, level.time) = (0, Duration::ZERO);
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

/// What a body is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its reader is behind, or it broke.
    Paused,
    /// The first byte of a request's reply is to come.
    Begins,
    /// Somebody takes bytes again: what lies ready is not measured.
    Resumes,
    /// The next byte is waited for.
    Pending,
    /// The byte that was waited for has come.
    Ready,
}

/// One body, as the streams of its store count it. Counts while it is not paused.
#[derive(Debug)]
pub(crate) struct Stream {
    /// `None` for a short one, which does not count.
    streams: Option<Arc<Streams>>,
    phase: Phase,
}

impl Stream {
    /// For a body of so many bytes at most of which the first is to come.
    pub(crate) fn new(streams: &Arc<Streams>, length: u64, now: Duration) -> Self {
        let streams = (length >= LONG_BODY).then(|| Arc::clone(streams));
        let mut stream = Self { streams, phase: Phase::Paused };
        stream.begin(now);
        stream
    }

    /// A request for it is sent.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.set(Phase::Begins, now);
    }

    /// Bytes are taken, again if it paused.
    pub(crate) fn resume(&mut self, now: Duration) {
        if self.phase == Phase::Paused {
            self.set(Phase::Resumes, now);
        }
    }

    /// Its reader is behind, or it broke.
    pub(crate) fn pause(&mut self, now: Duration) {
        if let Some(streams) = self.streams.as_ref().filter(|_| self.phase != Phase::Paused) {
            streams.state().interrupt();
        }
        self.set(Phase::Paused, now);
    }

    fn set(&mut self, phase: Phase, now: Duration) {
        let Some(streams) = self.streams.as_ref().filter(|_| self.phase != phase) else { return };
        let mut state = streams.state();
        state.pass(now);
        state.leave(self.phase);
        state.enter(phase);
        self.phase = phase;
    }

    /// Waits for the next bytes, and answers how many came (by `length`) to the sums.
    pub(crate) async fn next<T>(
        &mut self,
        (clock, length): (&Clock, impl Fn(&T) -> u64),
        next: impl Future<Output = T>,
    ) -> T {
        if self.streams.is_none() {
            return next.await;
        }
        let mut next = pin!(next);
        let mut has_waited = false;
        let came = poll_fn(|context| {
            let polled = next.as_mut().poll(context);
            if polled.is_pending() {
                has_waited = true;
                self.waits(clock.elapsed());
            }
            polled
        })
        .await;
        self.came(length(&came), has_waited, clock.elapsed());
        came
    }

    /// The next bytes are not here.
    fn waits(&mut self, now: Duration) {
        if self.phase == Phase::Ready {
            self.set(Phase::Pending, now);
        }
    }

    /// Bytes came, at once or after a wait.
    fn came(&mut self, bytes: u64, has_waited: bool, now: Duration) {
        let Some(streams) = &self.streams else { return };
        let counts = match self.phase {
            Phase::Pending | Phase::Ready => true,
            // For several the wait counts, and so does what it brought.
            Phase::Begins => streams.state().active > 1,
            Phase::Resumes | Phase::Paused => false,
        };
        if counts {
            streams.state().received(bytes, now);
        }
        let is_measured = has_waited || !matches!(self.phase, Phase::Begins | Phase::Resumes);
        if is_measured && self.phase != Phase::Paused {
            self.set(Phase::Ready, now);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The time since the last byte is left out: nobody waited for it.
        if let Some(streams) = &self.streams {
            streams.state().leave(self.phase);
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
        bodies.iter_mut().for_each(|body| body.came(0, true, *now));
        for at in 0..mib {
            bodies.iter_mut().for_each(|body| body.waits(*now));
            *now += Duration::from_millis(ms);
            let body = usize::try_from(at).expect("small") % count;
            bodies[body].came(MIB, true, *now);
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
            body.waits(now);
            now += Duration::from_millis(4);
            body.came(MIB, true, now);
            body.pause(now);
            now += SECOND;
        }
        assert_eq!(width(&streams, now), 1, "the reader is slow, not the store");
        let _short = Stream::new(&streams, LONG_BODY - 1, now);
        assert_eq!(streams.state().active, 0, "a short body is none of them");
    }

    /// The rate of one stream in MiB/s, once it is measured.
    fn rate_of_one(streams: &Streams, now: Duration) -> Option<f64> {
        streams.state().rate(0, now).map(|rate| (rate / 1048576.0).round())
    }

    #[test]
    fn what_lay_ready_after_a_pause_is_not_measured() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        let mut body = Stream::new(&streams, 64 * MIB, now);
        let mut wait = |body: &mut Stream| {
            body.waits(now);
            now += Duration::from_millis(20);
            body.came(MIB, true, now);
            now
        };
        wait(&mut body);
        let now = wait(&mut body);
        body.pause(now);
        body.resume(now + SECOND);
        for _ in 0..8 {
            body.came(MIB, false, now + SECOND);
        }
        assert_eq!(rate_of_one(&streams, now), None, "nothing but a burst");
        let mut now = now + SECOND;
        for _ in 0..5 {
            body.waits(now);
            now += Duration::from_millis(20);
            body.came(MIB, true, now);
        }
        assert_eq!(rate_of_one(&streams, now), Some(50.0));
    }

    /// A store that is far away and quick, and a machine that is slow.
    #[test]
    fn neither_the_wait_for_the_first_byte_nor_our_own_work_makes_one_stream_slow() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        for _ in 0..8 {
            let mut body = Stream::new(&streams, LONG_BODY, now);
            body.waits(now);
            now += Duration::from_millis(200);
            body.came(MIB, true, now);
            for _ in 0..3 {
                now += Duration::from_millis(50);
                body.waits(now);
                now += Duration::from_millis(4);
                body.came(MIB, true, now);
            }
        }
        assert_eq!(rate_of_one(&streams, now), Some(250.0));
        assert_eq!(width(&streams, now), 1);
    }

    /// Parts pay for the waits for their first bytes.
    #[test]
    fn several_are_measured_with_the_waits_for_their_first_bytes() {
        let (streams, mut now) = (Arc::new(Streams::default()), SECOND);
        bring(&streams, &mut now, (1, 8, 20));
        for _ in 0..8 {
            let mut parts = [(); 2].map(|()| Stream::new(&streams, 4 * MIB, now));
            now += Duration::from_millis(100);
            for _ in 0..4 {
                now += Duration::from_millis(20);
                parts.iter_mut().for_each(|part| part.came(MIB, true, now));
                parts.iter_mut().for_each(|part| part.waits(now));
            }
        }
        assert_eq!(width(&streams, now), 1, "8 MiB in 180 ms, and one brings as much in 160");
    }
}
