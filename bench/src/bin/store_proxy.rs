// SPDX-License-Identifier: Apache-2.0
//! `store-proxy`: the store proxy as a program. Prints one JSON line with its addresses when it
//! listens, and runs until it gets SIGTERM or SIGINT.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;
use http::Uri;
use larder_bench::{
    proxy::{
        control::Pace,
        server::{Settings, StoreProxy},
    },
    quantity::{parse_duration, parse_rate},
};
use tokio::signal::unix::{SignalKind, signal};

/// Stands between Larder and a store: counts, delays and breaks requests.
#[derive(Debug, Parser)]
#[command(name = "store-proxy")]
struct Arguments {
    /// Where Larder connects; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where figures are read and rules set; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// The store, for example http://127.0.0.1:9000.
    #[arg(long)]
    origin: Uri,
    /// How long each request waits before it goes on, for example 20ms.
    #[arg(long, value_parser = parse_duration)]
    delay: Option<Duration>,
    /// The rate over all connections, for example 2Gbit or 250MB.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<u64>,
    /// A file that gets one JSON line per request.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let proxy = StoreProxy::start(Settings {
        listen: arguments.listen,
        control: arguments.control,
        origin: arguments.origin,
        pace: Pace {
            delay_ms: arguments.delay.map(|delay| delay.as_secs_f64() * 1e3),
            bytes_per_s: arguments.rate,
        },
        log: arguments.log,
    })
    .await?;
    let addresses = serde_json::json!({
        "listen": proxy.listen.to_string(),
        "control": proxy.control.to_string(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{addresses}")?;
    stdout.flush()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = proxy.run() => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
