// SPDX-License-Identifier: Apache-2.0
//! Waiting for other processes, always with a bound.

use std::{net::SocketAddr, net::TcpListener, thread, time::Duration};

use anyhow::{Result, bail};
use larder_core::Clock;

/// How often a condition of another process is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Looks at `probe` until it gives something; an error of it ends the wait at once.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let clock = Clock::system();
    let start = clock.elapsed();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if clock.elapsed() - start > limit {
            bail!("{what} did not happen within {limit:?}");
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process gives nothing to wait on")]
fn pause() {
    thread::sleep(POLL);
}

/// A loopback address whose port is free now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
