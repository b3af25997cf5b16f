// SPDX-License-Identifier: Apache-2.0
//! Connections, signatures and time-outs: one HTTP request in, the head of its reply out.
//!
//! Every wait is bounded: for a connection, for the head of the reply (as long as an upload moves
//! on, its clock starts anew), and in [`super::receive`] for the next byte of a body. Nothing is
//! retried here and no redirect is followed.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{CONTENT_LENGTH, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use larder_core::{Clock, Error, ErrorKind, Result};

use crate::{environment::Environment, mount::S3Config};

use super::{credentials::Signer, endpoint::Endpoint, failure, tls};

/// Idle connections kept to one host; more than that are closed.
const IDLE_CONNECTIONS_MAX: usize = 128;
/// How long an idle connection is kept; shorter than what stores keep theirs.
const IDLE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(15);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// The body of a request.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, Error>;
/// hyper's pooled client over plain and TLS connections.
pub(super) type Pool = HyperClient<HttpsConnector<HttpConnector>, Outgoing>;

/// A request without a body.
pub(super) fn no_body() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// How many bytes of a request's body have gone out; a sign of life while an upload lasts.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn advance(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request, not yet signed.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// The object's name at the store; `None` for the bucket.
    pub(super) name: Option<&'a str>,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) body: Outgoing,
    pub(super) progress: Progress,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, name: Option<&'a str>) -> Self {
        let headers = HeaderMap::new();
        Self { method, name, query: &[], headers, body: no_body(), progress: Progress::default() }
    }

    pub(super) fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }
}

/// The client of one bucket.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) clock: Clock,
    pool: Pool,
    signer: Signer,
    read_timeout: Duration,
}

impl Client {
    pub(super) fn new(
        endpoint: Endpoint,
        settings: &S3Config,
        environment: &Environment,
        clock: Clock,
    ) -> Result<Self> {
        let or = |set: Option<u64>, default| set.map_or(default, Duration::from_millis);
        let connect_timeout = or(settings.connect_timeout_ms, DEFAULT_CONNECT_TIMEOUT);
        let read_timeout = or(settings.read_timeout_ms, DEFAULT_READ_TIMEOUT);
        let config = tls::client_config(settings.ca_file.as_deref())?;
        let pool = pool(config, connect_timeout);
        let signer = Signer::new(settings, environment, pool.clone(), clock.clone());
        Ok(Self { endpoint, clock, pool, signer, read_timeout })
    }

    /// How long to wait for the head of a reply, and for the whole of a small one.
    pub(super) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// Signs and sends, and waits for the head of the reply, whatever its code.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>> {
        let Call { method, name, query, headers, body, progress } = call;
        let uri = self.endpoint.request_uri(name, query)?;
        let puts = method == Method::PUT || method == Method::POST;
        let (mut parts, body) = Request::new(body).into_parts();
        (parts.method, parts.uri, parts.headers) = (method, uri, headers);
        if puts && !parts.headers.contains_key(CONTENT_LENGTH) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.signer.sign(&mut parts, &self.endpoint.region).await?;
        // Behind the signature, because proxies on the way may change it.
        parts.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let reply = self.pool.request(Request::from_parts(parts, body));
        tokio::pin!(reply);
        loop {
            let before = progress.get();
            tokio::select! {
                reply = &mut reply => return reply.map_err(|error| self.not_sent(error)),
                () = self.clock.sleep(self.read_timeout) => {}
            }
            if progress.get() == before {
                return Err(Error::unavailable(format!(
                    "{} did not answer within {} ms",
                    self.endpoint.authority(),
                    self.read_timeout.as_millis()
                )));
            }
        }
    }

    /// Turns a refusal into an error.
    pub(super) async fn refused(&self, reply: Response<Incoming>, what: &str) -> Error {
        let refusal = failure::Refusal::receive(reply, &self.clock, self.read_timeout).await;
        refusal.into_error(what, &self.endpoint)
    }

    /// Makes a call that can be repeated, and makes it once more where the store refused
    /// credentials that have been renewed since. `again` counts the second request.
    pub(super) async fn repeatable<T, F, G>(
        &self,
        call: impl Fn() -> F,
        again: impl FnOnce(F) -> G,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
        G: Future<Output = Result<T>>,
    {
        let used = self.signer.current();
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // A refusal of HEAD has no code: an expired token looks like any bad request.
        let suspect = matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid);
        match used {
            Some(used) if suspect && self.signer.renewed(&used).await => again(call()).await,
            _ => Err(error),
        }
    }

    fn not_sent(&self, error: hyper_util::client::legacy::Error) -> Error {
        // A failing upload source is the cause, not the store.
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(own) = current.downcast_ref::<Error>() {
                return own.duplicate();
            }
            if let Some(refused) = tls::refused(current) {
                return Error::unavailable(format!(
                    "the certificate of {} is not accepted ({refused}); name its authority with \
                     ca_file, or AWS_CA_BUNDLE",
                    self.endpoint.authority()
                ))
                .with_source(error);
            }
            cause = current.source();
        }
        let what = if error.is_connect() { "can't be reached" } else { "broke the connection" };
        Error::unavailable(format!("{} {what}", self.endpoint.authority())).with_source(error)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

fn pool(config: rustls::ClientConfig, connect_timeout: Duration) -> Pool {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(Some(connect_timeout));
    plain.set_keepalive(Some(Duration::from_secs(60)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain);
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_AGE_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .build(connector)
}
