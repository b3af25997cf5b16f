// SPDX-License-Identifier: Apache-2.0
//! The store proxy as a process of its own, steered by its control port.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::child::Server;
use crate::{load::connection::Connection, proxy::control::Pace};

/// A running store proxy; it ends when dropped.
#[derive(Debug)]
pub struct StoreProxy {
    /// The process.
    pub server: Server,
    /// Where it listens.
    pub listen: SocketAddr,
    control: SocketAddr,
    requests: PathBuf,
}

/// The line that the proxy prints when it is ready.
#[derive(Deserialize)]
struct Addresses {
    listen: SocketAddr,
    control: SocketAddr,
}

/// What went through since the last reset.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Passed {
    /// Requests of all methods.
    pub requests: u64,
    /// Body bytes of replies.
    pub reply_bytes: u64,
}

impl StoreProxy {
    /// Starts the program that lies beside this one.
    pub fn start(origin: SocketAddr, folder: &Path) -> Result<Self> {
        let program = env::current_exe()?.with_file_name("store-proxy");
        let mut command = Command::new(&program);
        let requests = folder.join("store-requests.jsonl");
        command.arg("--origin").arg(format!("http://{origin}")).arg("--log").arg(&requests);
        let mut server = Server::start("store-proxy", &mut command, folder)
            .context("build it first: cargo build --release -p larder-bench")?;
        let log = folder.join("store-proxy.log");
        let addresses: Addresses = server
            .wait(Duration::from_secs(10), || serde_json::from_slice(&fs::read(&log).ok()?).ok())?;
        let Addresses { listen, control } = addresses;
        Ok(Self { server, listen, control, requests })
    }

    /// Sets delay and rate.
    pub fn set_pace(&self, pace: &Pace) -> Result<()> {
        self.ask("POST /delay", &serde_json::to_string(pace)?).map(drop)
    }

    /// Sets the figures to zero.
    pub fn reset(&self) -> Result<()> {
        self.ask("POST /reset", "").map(drop)
    }

    /// What went through since the last reset.
    pub fn passed(&self) -> Result<Passed> {
        Ok(serde_json::from_value(self.ask("GET /stats", "")?)?)
    }

    /// The last `count` requests that ended, a JSON line each.
    pub fn last_requests(&self, count: usize) -> Result<String> {
        let text = fs::read_to_string(&self.requests)?;
        let mut lines: Vec<&str> = text.lines().rev().take(count).collect();
        lines.reverse();
        Ok(lines.join("\n"))
    }

    fn ask(&self, line: &str, body: &str) -> Result<Value> {
        let length = body.len();
        let request =
            format!("{line} HTTP/1.1\r\nHost: control\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut text = Vec::new();
        let reply = Connection::open(self.control)?
            .exchange(request.as_bytes(), |piece| text.extend_from_slice(piece))?;
        if reply.status != 200 {
            bail!("the store proxy refused '{line}': {}", String::from_utf8_lossy(&text));
        }
        Ok(serde_json::from_slice(&text)?)
    }
}
