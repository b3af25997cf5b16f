// SPDX-License-Identifier: Apache-2.0
//! The two listeners of the proxy and what they share.

use std::{
    fs::OpenOptions,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use http::Uri;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use larder_core::Clock;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    control::{Pace, control},
    count::Counters,
    fault::Faults,
    forward::Forward,
    link::Link,
    socket::{ResetMark, Socket},
    timer::Timer,
};

/// How long a connection to the origin may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection to the origin is kept: shorter than usual servers keep theirs,
/// so that a request does not meet a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// What is read from a socket at once, at most.
const READ_BUFFER: usize = 512 << 10;
/// Pause after an accept that failed (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a proxy is started with. Port 0 takes a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Larder connects.
    pub listen: SocketAddr,
    /// Where tests ask for figures and set rules.
    pub control: SocketAddr,
    /// The store: `http://HOST:PORT`.
    pub origin: Uri,
    /// Delay and rate at the start.
    pub pace: Pace,
    /// A file that gets one JSON line per request, appended.
    pub log: Option<PathBuf>,
}

/// A running proxy; it stops when dropped.
pub struct StoreProxy {
    /// Where Larder connects.
    pub listen: SocketAddr,
    /// Where tests ask for figures and set rules.
    pub control: SocketAddr,
    /// The shared state, for a test in the same process.
    pub forward: Arc<Forward>,
    tasks: JoinSet<()>,
}

impl StoreProxy {
    /// Binds both ports and serves until dropped. Needs a running tokio runtime.
    pub async fn start(settings: Settings) -> Result<Self> {
        let forward = Arc::new(forward_to(&settings)?);
        let data = bind(settings.listen).await?;
        let steering = bind(settings.control).await?;
        let (listen, control) = (data.local_addr()?, steering.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_data(data, Arc::clone(&forward)));
        tasks.spawn(serve_control(steering, Arc::clone(&forward)));
        Ok(Self { listen, control, forward, tasks })
    }

    /// Runs until the process ends.
    pub async fn run(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

fn forward_to(settings: &Settings) -> Result<Forward> {
    if settings.origin.scheme_str() != Some("http") {
        bail!("the origin must be http://HOST:PORT, not '{}'", settings.origin);
    }
    let origin = settings.origin.authority().context("the origin has no host")?.clone();
    let log = settings.log.as_ref().map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.with_context(|| format!("cannot open the log {}", path.display()))
    });
    let clock = Clock::system();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let client = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .http1_max_buf_size(READ_BUFFER)
        .build(connector);
    let forward = Forward {
        origin,
        client,
        counters: Arc::new(Counters::new(log.transpose()?, clock.clone())),
        faults: Faults::default(),
        delay_us: AtomicU64::new(0),
        down: Arc::new(Link::default()),
        up: Arc::new(Link::default()),
        timer: Timer::spawn(clock.clone())?,
        clock,
    };
    forward.set_pace(&settings.pace).map_err(anyhow::Error::msg)?;
    Ok(forward)
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn accept(listener: &TcpListener, clock: &Clock) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it a reply waits for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(_) => clock.sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_data(listener: TcpListener, forward: Arc<Forward>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = accept(&listener, &forward.clock).await;
        forward.counters.connected();
        let forward = Arc::clone(&forward);
        connections.spawn(async move {
            let reset = ResetMark::default();
            let io = TokioIo::new(Socket::new(stream, reset.clone()));
            let service = service_fn(|request| forward.forward(request, reset.clone()));
            let mut http = http1::Builder::new();
            http.max_buf_size(READ_BUFFER);
            // How a connection ends is the client's affair, or a rule's.
            let _ = http.serve_connection(io, service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_control(listener: TcpListener, forward: Arc<Forward>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = accept(&listener, &forward.clock).await;
        let forward = Arc::clone(&forward);
        connections.spawn(async move {
            let service = service_fn(|request| control(&forward, request));
            // A test that hangs up early has what it wanted.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
