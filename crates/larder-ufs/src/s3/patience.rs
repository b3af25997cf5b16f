// SPDX-License-Identifier: Apache-2.0
//! How long a body may take: silence and a trickle both end.
//!
//! Only time spent waiting for the store counts; a reader that takes its time is not the store's
//! fault. In each window of waiting some bytes must come: a body that gives one byte a second is
//! as dead as one that gives none, and its reader is better served by another connection. A body
//! above the floor is slow and is let be.

use std::time::Duration;

/// A body that comes more slowly than this is given up.
const FLOOR_BYTES_PER_SECOND: u64 = 1024;
/// Waiting over which the floor holds; also the longest silence.
const WINDOW_MAX: Duration = Duration::from_secs(10);

/// Why a body is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    /// Nothing came.
    Silent,
    /// Something came, but below the floor.
    Trickle,
}

/// What came of a body while somebody waited for it.
#[derive(Debug)]
pub(super) struct Patience {
    window: Duration,
    /// Bytes that must come in a window.
    floor: u64,
    /// When the present wait began, if there is one.
    since: Option<Duration>,
    /// Waited in the present window, before the present wait.
    waited: Duration,
    /// Bytes in the present window.
    came: u64,
}

impl Patience {
    /// For a store whose replies may take `read_timeout`.
    pub(super) fn new(read_timeout: Duration) -> Self {
        let window = read_timeout.min(WINDOW_MAX);
        let floor = u128::from(FLOOR_BYTES_PER_SECOND) * window.as_millis() / 1000;
        // At most what comes at the floor within `WINDOW_MAX`.
        let floor = u64::try_from(floor).unwrap_or(u64::MAX).max(1);
        Self { window, floor, since: None, waited: Duration::ZERO, came: 0 }
    }

    /// Bytes came; nobody waits any more.
    pub(super) fn came(&mut self, bytes: usize, now: Duration) {
        self.waited += self.since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.came += bytes as u64;
        if self.came >= self.floor {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
    }

    /// Somebody waits: how much longer that is worth it.
    pub(super) fn left(&mut self, now: Duration) -> Result<Duration, TooSlow> {
        let since = *self.since.get_or_insert(now);
        let waited = self.waited + now.saturating_sub(since);
        match self.window.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => Ok(left),
            None if self.came == 0 => Err(TooSlow::Silent),
            None => Err(TooSlow::Trickle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Chunks of `bytes` come every `gap` of waiting; answers how many came before it was given
    /// up, or `None` when the body outlived a thousand.
    fn chunks_before_the_end(bytes: usize, gap: Duration) -> Option<u32> {
        let mut patience = Patience::new(30 * SECOND);
        let mut now = SECOND;
        for chunk in 0..1000 {
            match patience.left(now) {
                Ok(left) if left > gap => now += gap,
                _ => return Some(chunk),
            }
            patience.came(bytes, now);
        }
        None
    }

    #[test]
    fn a_trickle_ends_in_one_window_and_a_slow_body_does_not() {
        assert_eq!(chunks_before_the_end(1, SECOND), Some(9));
        assert_eq!(chunks_before_the_end(1 << 20, 11 * SECOND), Some(0));
        assert_eq!(chunks_before_the_end(1200, SECOND), None);
        assert_eq!(chunks_before_the_end(16 << 10, 9 * SECOND), None);
    }

    #[test]
    fn what_is_given_up_is_named() {
        let mut patience = Patience::new(30 * SECOND);
        assert_eq!(patience.left(SECOND), Ok(WINDOW_MAX));
        assert_eq!(patience.left(11 * SECOND), Err(TooSlow::Silent));
        patience.came(5, 6 * SECOND);
        assert_eq!(patience.left(60 * SECOND), Ok(5 * SECOND));
        assert_eq!(patience.left(65 * SECOND), Err(TooSlow::Trickle));
    }

    #[test]
    fn a_reader_that_takes_its_time_is_not_the_stores_fault() {
        let mut patience = Patience::new(30 * SECOND);
        let mut now = SECOND;
        for _ in 0..100 {
            assert!(patience.left(now).is_ok());
            patience.came(1, now);
            now += 60 * SECOND;
        }
    }

    #[test]
    fn a_short_time_out_makes_a_short_window() {
        let mut patience = Patience::new(Duration::from_millis(80));
        assert_eq!(patience.left(SECOND), Ok(Duration::from_millis(80)));
        patience.came(81, SECOND + Duration::from_millis(79));
        assert_eq!(patience.left(2 * SECOND), Ok(Duration::from_millis(80)));
    }
}
