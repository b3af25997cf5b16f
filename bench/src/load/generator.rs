// SPDX-License-Identifier: Apache-2.0
//! Many connections at once, one thread each, all taking from one list of requests.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use larder_core::Clock;

use super::{connection::Connection, signing::Prepared};

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// Each request of the list was sent once.
    Once,
    /// So much time went by; the list is gone through again and again.
    Elapsed(Duration),
}

/// A load on one server.
#[derive(Debug)]
pub struct Load<'a> {
    /// The server.
    pub address: SocketAddr,
    /// What is asked, in turn.
    pub requests: &'a [Prepared],
    /// Connections, each with one request under way.
    pub connections: usize,
    /// When it ends.
    pub until: Until,
}

/// What a load gave.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Replies, each with status 200 and the right length.
    pub requests: u64,
    /// Body bytes.
    pub bytes: u64,
    /// From the first request to the last byte.
    pub wall: Duration,
    /// Of each request, the time to its first body byte; sorted.
    pub first_byte: Vec<Duration>,
    /// Of each request, the time to its last byte; sorted.
    pub total: Vec<Duration>,
}

impl Load<'_> {
    /// Runs the load; the first wrong reply ends it.
    pub fn run(&self) -> Result<Outcome> {
        if self.requests.is_empty() {
            bail!("a load needs at least one request");
        }
        let clock = Clock::system();
        let next = AtomicUsize::new(0);
        let mut open = Vec::new();
        for _ in 0..self.connections.max(1) {
            open.push(Connection::open(self.address)?);
        }
        let start = clock.elapsed();
        let parts: Vec<Result<Outcome>> = thread::scope(|scope| {
            let (next, clock) = (&next, &clock);
            let drive = |connection| move || self.drive(connection, next, (clock, start));
            let threads: Vec<_> =
                open.into_iter().map(|connection| scope.spawn(drive(connection))).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a load thread panicked")))
            });
            joined.collect()
        });
        let mut whole = Outcome { wall: clock.elapsed() - start, ..Outcome::default() };
        for part in parts {
            let part = part?;
            whole.requests += part.requests;
            whole.bytes += part.bytes;
            whole.first_byte.extend(part.first_byte);
            whole.total.extend(part.total);
        }
        whole.first_byte.sort();
        whole.total.sort();
        Ok(whole)
    }

    fn drive(
        &self,
        mut connection: Connection,
        next: &AtomicUsize,
        (clock, start): (&Clock, Duration),
    ) -> Result<Outcome> {
        let mut part = Outcome::default();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let over = match self.until {
                Until::Once => turn >= self.requests.len(),
                Until::Elapsed(limit) => clock.elapsed() - start >= limit,
            };
            if over {
                return Ok(part);
            }
            let request = &self.requests[turn % self.requests.len()];
            let reply = connection.exchange(&request.bytes, |_| {})?;
            if reply.status != 200 {
                bail!("{} answered {} instead of 200", self.address, reply.status);
            }
            if request.expect.is_some_and(|length| length != reply.length) {
                bail!(
                    "{} sent {} body bytes, not {:?}",
                    self.address,
                    reply.length,
                    request.expect
                );
            }
            part.requests += 1;
            part.bytes += reply.length;
            part.first_byte.push(reply.first_byte);
            part.total.push(reply.total);
        }
    }
}

/// The value below which this share (0 to 1) of sorted `values` lies, between two neighbours in
/// proportion: of two values the median is their mean, not the greater.
#[must_use]
pub fn quantile(values: &[Duration], share: f64) -> Duration {
    let Some(last) = values.len().checked_sub(1) else { return Duration::ZERO };
    #[expect(clippy::cast_precision_loss, reason = "a position in a list that fits in memory")]
    let position = last as f64 * share.clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and at most the last position"
    )]
    let below = position as usize;
    let (low, high) = (values[below], values[(below + 1).min(last)]);
    low + (high - low).mul_f64(position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [10, 20, 40].map(Duration::from_millis);
        let of = |count: usize, share| quantile(&values[..count], share).as_millis();
        assert_eq!((of(0, 0.5), of(1, 0.5), of(2, 0.5), of(3, 0.5)), (0, 10, 15, 20));
        assert_eq!((of(3, 0.0), of(3, 0.75), of(3, 1.0)), (10, 30, 40));
    }
}
