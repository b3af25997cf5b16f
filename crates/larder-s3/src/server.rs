// SPDX-License-Identifier: Apache-2.0
//! The listener and its connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use larder_client::Filesystem;
use larder_core::{Clock, Error, Result, listen};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Keys, Settings,
    address::Domains,
    answer::Answerer,
    connection::{Common, Connection},
    ending::Ending,
    face::Face,
    gate::{self, Anonymous},
    signature::Signatures,
    socket::Socket,
};

/// Bytes of a request head at most, and of replies that wait for a slow client beside the piece
/// that is being sent. A key of 1,024 bytes is 3 KiB when each byte is percent-encoded.
const BUFFER_MAX: usize = 64 * 1024;
/// How long requests under way may go on after a shutdown was asked for.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long to wait after the machine refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The S3 face, bound to its port.
#[derive(Debug)]
pub struct S3Face {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    answerer: Answerer,
    clock: Clock,
}

impl S3Face {
    /// Takes the port. Connections wait in the queue until [`S3Face::run`].
    ///
    /// # Errors
    /// `Invalid` when nobody could ever be answered; `Unavailable` when the port is taken or may
    /// not be used.
    pub async fn bind(settings: Settings, keys: Keys, filesystem: Arc<Filesystem>) -> Result<Self> {
        if keys.is_empty() && !settings.anonymous {
            return Err(Error::invalid(
                "the S3 face has no access key and anonymous access is off, so nobody could read; \
                 add a key or allow anonymous access",
            ));
        }
        let wanted = settings.address;
        let listener = TcpListener::bind(wanted).await;
        let listener = listener.map_err(|error| bind_error(wanted, error))?;
        let address = listener.local_addr().map_err(|error| bind_error(wanted, error))?;
        let clock = filesystem.clock().clone();
        let face = Arc::new(Face::new(filesystem, Domains::new(&settings.base_domains)));
        let anonymous = if settings.anonymous { Anonymous::Allowed } else { Anonymous::Refused };
        let signatures = Arc::new(Signatures::new(keys.clone()));
        let service = gate::service(Arc::clone(&face), keys, anonymous);
        let answerer = Answerer { face, signatures, service };
        Ok(Self { listener, address, settings, answerer, clock })
    }

    /// Where the face listens; tells the port that was taken for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then lets requests under way finish, ten seconds at
    /// most.
    ///
    /// # Errors
    /// None yet: what goes wrong on one connection ends that connection only.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let places = Arc::new(Semaphore::new(self.settings.connections_max.max(1)));
        let (running, signal) = watch::channel(());
        let common = self.common();
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                (place, stream) = self.accept(&places) => {
                    let socket = self.socket(stream);
                    let connection = Connection::new(common.clone(), Ending::new(&signal));
                    connections.spawn(async move {
                        connection.run(socket).await;
                        drop(place);
                    });
                }
            }
        }
        drop((self.listener, running));
        let ended = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = ended => {}
            () = self.clock.sleep(DRAIN_WAIT_MAX) => {
                tracing::warn!(connections = connections.len(), "s3 replies cut at shutdown");
            }
        }
        Ok(())
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self, places: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream) {
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (place, stream),
                Err(error) => {
                    tracing::warn!(%error, "s3 face can't accept a connection");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The socket of a client; nothing that is sent waits for an acknowledgement.
    fn socket(&self, stream: TcpStream) -> Socket {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "s3 connection keeps Nagle's delay");
        }
        Socket::new(stream, self.clock.clone(), self.settings.write_stall())
    }

    /// What all connections share.
    fn common(&self) -> Common {
        let idle_timeout = self.settings.idle_timeout();
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(idle_timeout).max_buf_size(BUFFER_MAX);
        let (answerer, clock) = (self.answerer.clone(), self.clock.clone());
        Common { answerer, builder, clock, idle_timeout }
    }
}

fn bind_error(address: SocketAddr, error: io::Error) -> Error {
    listen::refused("S3", "--s3", address, error)
}
