// SPDX-License-Identifier: Apache-2.0
//! What a request to a store costs, learnt from those that were made: the wait for its first byte,
//! and the rate at which bytes come. The price of a request in bytes is what would have come in
//! that wait. Where the store's prices are known, they decide instead: a request is worth as many
//! bytes as cost the same.
//!
//! Old figures fade: each new one counts an eighth. The first guess is a usual object store.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_cluster::mounts::Prices;

/// The guess before anything was measured.
const USUAL: Figures = Figures { wait_s: 0.03, bytes_per_s: 100e6 };
/// How much a new figure counts.
const WEIGHT: f64 = 0.125;
/// A stretch of a body is measured from this length on: below it the sockets' buffers lie.
const STRETCH_MIN: u64 = 1 << 20;
/// The most bytes that a request is ever worth: they cost others bandwidth too.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Figures {
    wait_s: f64,
    bytes_per_s: f64,
}

/// The learnt figures of one store.
#[derive(Debug)]
pub(crate) struct StoreCost(Mutex<Figures>);

impl StoreCost {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(USUAL))
    }

    /// A request's reply began after this long.
    pub(crate) fn waited(&self, wait: Duration) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.wait_s += (wait.as_secs_f64() - figures.wait_s) * WEIGHT;
    }

    /// So many bytes of a body came in so much time, without a pause by the reader.
    fn received(&self, bytes: u64, time: Duration) {
        if time.is_zero() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a stretch is far below 2^52 bytes")]
        let rate = bytes as f64 / time.as_secs_f64();
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.bytes_per_s += (rate - figures.bytes_per_s) * WEIGHT;
    }

    /// How many bytes come while a request waits for its first.
    pub(crate) fn bytes_in_a_wait(&self) -> u64 {
        let figures = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        whole(figures.wait_s * figures.bytes_per_s)
    }

    /// How many bytes may come instead of another request.
    pub(crate) fn request_bytes(&self, prices: Option<&Prices>) -> u64 {
        let bytes = match prices {
            Some(prices) if prices.per_gib > 0.0 => {
                whole(prices.cost(1.0, 0.0) / prices.cost(0.0, 1.0))
            }
            Some(prices) if prices.per_million_requests > 0.0 => u64::MAX,
            _ => self.bytes_in_a_wait(),
        };
        bytes.min(REQUEST_BYTES_MAX)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

/// Measures the rate of a body while its reader keeps up.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the present stretch began, and what has come of it.
    stretch: Option<(Duration, u64)>,
}

impl Pace {
    /// The reader paused, or the body broke: the rate of what follows is measured anew.
    pub(crate) fn pause(&mut self) {
        self.stretch = None;
    }

    /// Bytes came at `now`.
    pub(crate) fn received(&mut self, bytes: u64, now: Duration, cost: &StoreCost) {
        // What came first began to come before anybody looked.
        let Some((since, before)) = self.stretch else {
            self.stretch = Some((now, 0));
            return;
        };
        let total = before + bytes;
        if total < STRETCH_MIN {
            self.stretch = Some((since, total));
            return;
        }
        cost.received(total, now.saturating_sub(since));
        self.stretch = Some((now, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_worth_what_comes_in_its_wait() {
        let cost = StoreCost::new();
        assert_eq!(cost.request_bytes(None), REQUEST_BYTES_MAX, "a usual store is far away");
        for _ in 0..100 {
            cost.waited(Duration::from_micros(200));
            let mut pace = Pace::default();
            for ms in 0..20 {
                pace.received(1 << 20, Duration::from_millis(ms), &cost);
            }
            pace.pause();
            pace.received(1 << 20, Duration::from_secs(9), &cost);
        }
        let near = cost.request_bytes(None);
        assert!((200_000..230_000).contains(&near), "{near}: 0.2 ms at 1 MiB/ms");
        let free = Prices::default();
        assert_eq!(cost.request_bytes(Some(&free)), near, "nothing costs anything");
    }

    #[test]
    fn where_there_are_prices_they_decide() {
        let worth = |per_million_requests, per_gib| {
            let prices = Prices { per_million_requests, per_gib };
            StoreCost::new().request_bytes(Some(&prices))
        };
        assert_eq!(worth(0.4, 0.0), REQUEST_BYTES_MAX, "only requests cost something");
        assert_eq!(worth(0.0, 0.09), 0, "only bytes do");
        assert!((4_700..4_800).contains(&worth(0.4, 0.09)), "less than a page");
        assert!((530_000..540_000).contains(&worth(5.0, 0.01)), "of which a request is worth 8");
    }
}
