// SPDX-License-Identifier: Apache-2.0
//! The seam through which time enters: wall time for ages and records, monotonic time for waits.
//!
//! `clippy.toml` bans the direct calls everywhere else. A manual clock makes tests of freshness
//! and time-outs exact: nothing moves until the test says so.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// How long ago `earlier` was; zero when it lies in the future (clocks may step back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The same instant as the standard library has it.
    #[must_use]
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// From the standard library's type; times before 1970 become 1970.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A source of time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System { start: Instant },
    Manual { now_ms: AtomicU64, moved: Notify },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    pub fn system() -> Self {
        Self(Arc::new(Source::System { start: Instant::now() }))
    }

    /// A clock that stands still at `now` until [`Clock::advance`] is called.
    #[must_use]
    pub fn manual(now: UnixMillis) -> Self {
        Self(Arc::new(Source::Manual { now_ms: AtomicU64::new(now.0), moved: Notify::new() }))
    }

    /// Wall time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    pub fn now(&self) -> UnixMillis {
        match &*self.0 {
            Source::System { .. } => UnixMillis::from_system_time(SystemTime::now()),
            Source::Manual { now_ms, .. } => UnixMillis(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// Monotonic time since an arbitrary start; for measuring and for deadlines.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &*self.0 {
            Source::System { start } => start.elapsed(),
            Source::Manual { now_ms, .. } => Duration::from_millis(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// Waits for `duration`. With a manual clock: until it was advanced that far.
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    pub async fn sleep(&self, duration: Duration) {
        match &*self.0 {
            Source::System { .. } => tokio::time::sleep(duration).await,
            Source::Manual { now_ms, moved } => {
                let until = self.elapsed() + duration;
                loop {
                    let moved = moved.notified();
                    if Duration::from_millis(now_ms.load(Ordering::SeqCst)) >= until {
                        return;
                    }
                    moved.await;
                }
            }
        }
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// On a system clock: only tests own a clock they may move.
    pub fn advance(&self, by: Duration) {
        match &*self.0 {
            Source::System { .. } => panic!("only a manual clock can be advanced"),
            Source::Manual { now_ms, moved } => {
                let by = u64::try_from(by.as_millis()).expect("a test's step fits in 64 bits");
                now_ms.fetch_add(by, Ordering::SeqCst);
                moved.notify_waiters();
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::System { .. } => f.write_str("Clock::System"),
            Source::Manual { now_ms, .. } => {
                write!(f, "Clock::Manual({})", now_ms.load(Ordering::SeqCst))
            }
        }
    }
}
