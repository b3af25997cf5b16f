// SPDX-License-Identifier: Apache-2.0
//! The client of the control API: one request per connection over the Unix socket.
//!
//! Nobody answering is its own exit code. Every wait is bounded: the connection, the head of the
//! reply, and each next piece of its body.

use std::{io, path::Path, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use larder_core::Error;
use larder_http::Problem;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use crate::{
    exit::{Exit, Failure},
    state::socket_of,
};

/// How long to wait for a connection.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to wait for a reply or for more of it: a little more than the process itself waits.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(130);
/// Bytes of a reply that is not a stream, at most.
const REPLY_LENGTH_MAX: usize = 64 << 20;

/// A connection to a running larder.
pub(crate) struct Control {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Control {
    /// Connects to the larder of a state directory.
    pub(crate) async fn connect(state: &Path) -> Result<Self, Failure> {
        let socket = socket_of(state);
        let stream = timeout(CONNECT_WAIT_MAX, UnixStream::connect(&socket))
            .await
            .map_err(|_| not_running(&socket, "it does not take connections"))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    let sentence = format!("may not use {}: {error}", socket.display());
                    Failure::new(Exit::Denied, sentence)
                }
                _ => not_running(&socket, &error.to_string()),
            })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            handshake.map_err(|error| not_running(&socket, &error.to_string()))?;
        tokio::spawn(async move {
            // What breaks the connection is seen by the request that needs it.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Asks `route` with query parameters for a JSON value.
    pub(crate) async fn get<T: DeserializeOwned>(
        self,
        route: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        parse(self.get_stream(route, query).await?.rest().await?)
    }

    /// Asks `route` with query parameters for a stream of bytes.
    pub(crate) async fn get_stream(
        self,
        route: &str,
        query: &[(&str, &str)],
    ) -> Result<Reply, Failure> {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let uri = format!("{route}?{}", pairs.join("&"));
        self.send(Request::builder().method(Method::GET).uri(uri), Bytes::new()).await
    }

    /// Sends JSON to `route` and asks for a JSON value.
    pub(crate) async fn post<T: DeserializeOwned>(
        self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        parse(self.post_stream(route, body).await?.rest().await?)
    }

    /// Sends JSON to `route` and asks for a stream of bytes.
    pub(crate) async fn post_stream(
        self,
        route: &str,
        body: &impl Serialize,
    ) -> Result<Reply, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::new(Exit::Failed, format!("can't write JSON: {error}")))?;
        let request = Request::builder().method(Method::POST).uri(route);
        self.send(request.header(CONTENT_TYPE, "application/json"), body.into()).await
    }

    async fn send(
        mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        let request = request
            .header(http::header::HOST, "larder")
            .body(Full::new(body))
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let response = timeout(REPLY_WAIT_MAX, self.sender.send_request(request))
            .await
            .map_err(|_| Failure::new(Exit::NotRunning, "the running larder does not reply"))?
            .map_err(broken)?;
        let ok = response.status().is_success();
        let reply = Reply { response, _sender: self.sender };
        if ok {
            return Ok(reply);
        }
        let problem: Problem = parse(reply.rest().await?)?;
        Err(Error::from(problem).into())
    }
}

/// A reply whose body has not been read yet.
pub(crate) struct Reply {
    response: Response<Incoming>,
    /// Dropping it would end the connection.
    _sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Reply {
    /// The next piece of the body, `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(REPLY_WAIT_MAX, self.response.body_mut().frame())
                .await
                .map_err(|_| Failure::new(Exit::Unavailable, "the reply stalled"))?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    async fn rest(mut self) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > REPLY_LENGTH_MAX {
                return Err(Failure::new(Exit::Failed, "the reply is too long to be right"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

fn parse<T: DeserializeOwned>(bytes: Vec<u8>) -> Result<T, Failure> {
    serde_json::from_slice(&bytes).map_err(|error| {
        let sentence = "the running larder gave a reply that this version does not understand";
        Failure::new(Exit::Failed, format!("{sentence}: {error}"))
    })
}

fn broken(error: hyper::Error) -> Failure {
    let sentence = "the running larder cut the reply; its log says why";
    Failure::new(Exit::Unavailable, format!("{sentence} ({error})"))
}

fn not_running(socket: &Path, why: &str) -> Failure {
    let socket = socket.display();
    Failure::new(
        Exit::NotRunning,
        format!(
            "no larder answers on {socket} ({why}); start one with `larder up`, or name its \
             state directory with --state"
        ),
    )
}
