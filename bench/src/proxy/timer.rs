// SPDX-License-Identifier: Apache-2.0
//! A delay that is right to a fraction of a millisecond.
//!
//! The runtime's own timers count whole milliseconds and come up to two late, a tenth of the
//! latency that the proxy imitates. One thread that sleeps until the next deadline does better.
//! It holds one entry per waiting request, so the connections bound it; it takes no lock.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use larder_core::Clock;
use tokio::sync::oneshot;

/// How long the thread sleeps when nobody waits.
const IDLE: Duration = Duration::from_secs(3600);

/// Somebody who waits for a moment of the clock.
struct Waiting {
    due: Duration,
    wake: oneshot::Sender<()>,
}

/// The thread that wakes sleepers; it ends with this value.
#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    sleepers: Sender<Waiting>,
}

impl Timer {
    /// Starts the thread.
    pub fn spawn(clock: Clock) -> io::Result<Self> {
        let (sleepers, arrivals) = mpsc::channel();
        let theirs = clock.clone();
        thread::Builder::new()
            .name("delay".into())
            .spawn(move || wake_when_due(&arrivals, &theirs))?;
        Ok(Self { clock, sleepers })
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        let waiting = Waiting { due: self.clock.elapsed() + duration, wake };
        let accepted = self.sleepers.send(waiting).is_ok() && woken.await.is_ok();
        debug_assert!(accepted, "the thread lives as long as its timer");
    }
}

fn wake_when_due(arrivals: &Receiver<Waiting>, clock: &Clock) {
    // The latest first, so that what is due is split off the end.
    let mut waiting: BTreeMap<Reverse<Duration>, Vec<oneshot::Sender<()>>> = BTreeMap::new();
    loop {
        let next = waiting.last_key_value().map(|(Reverse(due), _)| *due);
        let pause = next.map_or(IDLE, |due| due.saturating_sub(clock.elapsed()));
        match arrivals.recv_timeout(pause) {
            Ok(Waiting { due, wake }) => waiting.entry(Reverse(due)).or_default().push(wake),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for wake in waiting.split_off(&Reverse(clock.elapsed())).into_values().flatten() {
            // Whoever hung up meanwhile needs no waking.
            let _ = wake.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_in_their_own_order_and_never_early() {
        let clock = Clock::system();
        let timer = Timer::spawn(clock.clone()).unwrap();
        let start = clock.elapsed();
        let long = async {
            timer.sleep(Duration::from_millis(60)).await;
            clock.elapsed() - start
        };
        let short = async {
            timer.sleep(Duration::from_millis(20)).await;
            clock.elapsed() - start
        };
        let (long, short) = tokio::join!(long, short);
        assert!(short >= Duration::from_millis(20) && long >= Duration::from_millis(60));
        assert!(short < long, "{short:?} {long:?}");
    }
}
