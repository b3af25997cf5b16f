// SPDX-License-Identifier: Apache-2.0
//! The TCP listener: `/healthz`, `/readyz`, `/metrics`, `/api/v1/status`.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};
use larder_core::{Error, Result, metric::FaceLabels};
use tokio::net::TcpListener;

use crate::{
    Facts, Problem, StatusDocument,
    scrape::{self, Scrape},
    serve::serve,
};

/// Where the public listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpSettings {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// The bound public listener.
#[derive(Debug)]
pub struct PublicFace {
    listener: TcpListener,
    address: SocketAddr,
}

impl PublicFace {
    /// Takes the address. Nothing is answered before [`PublicFace::run`].
    ///
    /// # Errors
    /// `AlreadyExists` when the address is taken, `Invalid` when it can't be used.
    pub async fn bind(settings: HttpSettings) -> Result<Self> {
        let listen = settings.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| refused(listen, error))?;
        let address = listener.local_addr().map_err(|error| refused(listen, error))?;
        Ok(Self { listener, address })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` resolves.
    pub async fn run(self, facts: Facts, shutdown: impl Future<Output = ()>) {
        serve(self.listener, router(facts), shutdown).await;
    }
}

fn refused(listen: SocketAddr, error: io::Error) -> Error {
    larder_core::listen::refused("HTTP", "--http", listen, error)
}

struct Served {
    facts: Facts,
    scrape: Scrape,
}

type Shared = State<Arc<Served>>;

fn router(facts: Facts) -> Router {
    let scrape = Scrape::new(facts.filesystem.metrics(), facts.version);
    let served = Arc::new(Served { facts, scrape });
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .fallback(async || Problem::from(Error::not_found("there is no such page; see docs/")))
        .layer(middleware::from_fn_with_state(Arc::clone(&served), count))
        .with_state(served)
}

async fn readyz(State(served): Shared) -> Response {
    match served.facts.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

async fn metrics(State(served): Shared) -> Result<Response, Problem> {
    let filesystem = &served.facts.filesystem;
    // A worker that does not answer must not hide the counters.
    if let Ok(workers) = filesystem.report().await {
        scrape::refresh(filesystem.metrics(), &workers);
    }
    let text = served.scrape.text()?;
    Ok(([(CONTENT_TYPE, scrape::CONTENT_TYPE)], text).into_response())
}

async fn status(State(served): Shared) -> Result<Json<StatusDocument>, Problem> {
    let document = StatusDocument::gather(&served.facts).await?;
    Ok(Json(document.for_everybody()))
}

/// Counts each request by the route it matched, never by its path.
async fn count(State(served): Shared, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let operation = match matched.map(MatchedPath::as_str) {
        Some("/healthz") => "healthz",
        Some("/readyz") => "readyz",
        Some("/metrics") => "metrics",
        Some("/api/v1/status") => "status",
        _ => "other",
    };
    let response = next.run(request).await;
    let code = response.status();
    let code = if code.is_success() { "ok".to_owned() } else { code.as_u16().to_string() };
    let labels = FaceLabels { face: "http", operation, code };
    served.facts.filesystem.metrics().face_requests.get_or_create(&labels).inc();
    response
}
