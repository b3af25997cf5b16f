// SPDX-License-Identifier: Apache-2.0
//! SIGTERM and SIGINT, which end the process, and SIGHUP, which does not.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The signals that end the process.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// The signal that asks to read the rules again.
#[derive(Debug)]
pub(super) struct Hangups(Signal);

impl Hangups {
    /// From now on this signal does not kill but is told here.
    pub(super) fn listen() -> Result<Self, Failure> {
        signal(SignalKind::hangup()).map(Self).map_err(deaf)
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        // It ends only with the runtime.
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn deaf(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("can't wait for signals: {error}"))
}

impl Signals {
    /// From now on these signals do not kill but are told here.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(deaf)?,
            interrupt: signal(SignalKind::interrupt()).map_err(deaf)?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
