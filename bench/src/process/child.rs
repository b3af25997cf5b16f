// SPDX-License-Identifier: Apache-2.0
//! A server process with a log, a bounded end, and its last words in every error.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// How long a server may take to end after SIGTERM before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a log is quoted when a server failed.
const LAST_WORDS: usize = 2000;

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; what it says goes to `NAME.log` in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `probe` gives something; the end of the process ends the wait.
    pub fn wait<T>(&mut self, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
        let what = format!("the start of {}", self.name);
        let Self { child, name, log } = self;
        let ready = wait_for(&what, limit, || {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended at start ({status})");
            }
            Ok(probe())
        });
        ready.with_context(|| format!("its log ends:\n{}", last_words(log)))
    }

    /// Waits until something listens on `address`.
    pub fn wait_listening(&mut self, address: SocketAddr, limit: Duration) -> Result<()> {
        self.wait(limit, || TcpStream::connect(address).ok().map(drop))
    }

    /// What it said so far.
    pub fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Ends it by SIGTERM, after a bound by SIGKILL; the second time it does nothing.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let ended = wait_for("the end", END_TIMEOUT, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            eprintln!("{} did not end after SIGTERM and was killed", self.name);
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{} could not be ended: {error:#}", self.name);
        }
    }
}

fn last_words(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = bytes.len().saturating_sub(LAST_WORDS);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}
