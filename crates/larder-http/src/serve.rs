// SPDX-License-Identifier: Apache-2.0
//! Runs a router on a listener, with every wait and every queue bounded: connections, the time a
//! peer may take for its request head, and the time a shutdown may take.

use std::{sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 256;
/// How long a peer may take to send a request head, idle time between requests included.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long requests under way may go on after a shutdown was asked for.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(3);

/// Serves until `shutdown` resolves, then lets requests under way finish within the bound.
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place.expect("the semaphore is never closed"), listener.accept().await.0)
        };
        let (place, io) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = next => next,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT_MAX)
            .serve_connection(TokioIo::new(io), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "http connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("http requests were still under way at shutdown and were cut");
    }
}
