// SPDX-License-Identifier: Apache-2.0
//! One request from hyper to hyper: what must be refused before s3s sees it, what need not go
//! through s3s at all, and what every reply gets: its id, a whole error document, its place in
//! the metrics.
//!
//! Bodies of requests are never read: nothing that is served has one.

use std::{convert::Infallible, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts,
};
use http_body::Body as _;
use hyper::body::Incoming;
use s3s::{Body, service::S3Service};

use crate::{
    face::{Call, Face, Question, Reply},
    headers::Signed,
    operation::Operation,
    query::Query,
    refusal::{self, Refusal},
    signature::{Signable, Signatures},
    xml,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
/// Seconds a presigned URL may be valid at most: a week, as at S3.
const EXPIRES_MAX: u64 = 604_800;

/// Answers the requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Answerer {
    pub(crate) face: Arc<Face>,
    pub(crate) signatures: Arc<Signatures>,
    pub(crate) service: S3Service,
}

impl Answerer {
    /// Answers; the body of the request is dropped unread.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Result<Reply, Infallible> {
        let (mut parts, body) = request.into_parts();
        let unread = !body.is_end_stream();
        let call = Call::of(&parts.method, &parts.uri, &parts.headers, &self.face.domains);
        let call = call.map(Arc::new);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let barred = call.as_ref().and_then(|call| bar(&method, &parts.headers, &call.query));
        let result = match (barred, self.plain_read(call.as_deref(), &parts, !unread)) {
            (Some(refusal), _) => Err(Arc::new(refusal)),
            (None, Some((operation, question))) => {
                self.face.answer(operation, &question).await.map_err(Arc::new)
            }
            (None, None) => {
                parts.extensions.extend(call.clone().map(with_call).unwrap_or_default());
                self.ask(Request::from_parts(parts, Body::empty())).await
            }
        };
        let operation = call.and_then(|call| call.operation);
        self.face.count(operation, result.as_ref().err().map(|refusal| &*refusal.code));
        let id = self.face.request_id();
        let mut reply = match result {
            Ok(reply) => reply,
            Err(refusal) => to_reply(&refusal, &method, uri.path(), &id),
        };
        reply.headers_mut().insert(REQUEST_ID, id);
        if unread {
            // The body is still on its way, so the connection can't be used again; a client that
            // is not told would try to.
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(reply)
    }

    /// The question of a plain read whose signature is good, as nearly all are: it need not go
    /// through s3s.
    fn plain_read<'a>(
        &self,
        call: Option<&'a Call>,
        parts: &'a Parts,
        empty: bool,
    ) -> Option<(Operation, Question<'a>)> {
        let operation = call?.operation.filter(|operation| {
            matches!(operation, Operation::GetObject | Operation::HeadObject)
        })?;
        let Parts { method, uri, headers, .. } = parts;
        let (method, path, query) = (method.as_str(), uri.path(), uri.query().unwrap_or(""));
        let request = Signable { method, path, query, fields: headers, empty };
        let good = self.signatures.is_good(&request, self.face.filesystem.clock().now());
        good.then_some((operation, Question { call: call?, headers, signed: Signed::Yes }))
    }

    /// Asks s3s, which answers itself or hands over to the face.
    async fn ask(&self, request: Request<Body>) -> Result<Reply, Arc<Refusal>> {
        let mut reply = match self.service.call(request).await {
            Ok(reply) => reply,
            Err(error) => {
                tracing::error!(?error, "s3 request could not be answered");
                let message = "The request could not be answered";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Err(Arc::new(Refusal::new(status, "InternalError", message)));
            }
        };
        if let Some(refusal) = reply.extensions_mut().remove::<Arc<Refusal>>() {
            return Err(refusal);
        }
        if reply.status().is_client_error() || reply.status().is_server_error() {
            return Err(Arc::new(complete(&mut reply)));
        }
        Ok(reply)
    }
}

fn with_call(call: Arc<Call>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(call);
    extensions
}

/// What s3s would take but S3 does not, or could not take without reading a body.
fn bar(method: &Method, headers: &HeaderMap, query: &Query) -> Option<Refusal> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let authorization = text(header::AUTHORIZATION).unwrap_or("");
    let by_query = query.has("Signature") || query.has("AWSAccessKeyId");
    if by_query || authorization.starts_with("AWS ") {
        return Some(Refusal::bad_request(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. \
             Please use AWS4-HMAC-SHA256 (boto3: Config(signature_version='s3v4')).",
        ));
    }
    let form = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/"));
    if *method == Method::POST && form {
        return Some(Refusal::not_implemented("Larder does not implement POST uploads"));
    }
    if let Some(expires) = query.get("X-Amz-Expires")
        && !expires.parse().is_ok_and(|seconds: u64| (1..=EXPIRES_MAX).contains(&seconds))
    {
        let message = format!("X-Amz-Expires must be between 1 and {EXPIRES_MAX} seconds");
        return Some(Refusal::bad_request("AuthorizationQueryParametersError", message));
    }
    let signed = match query.get("X-Amz-SignedHeaders") {
        Some(signed) => Some(signed),
        None => authorization.split_once("SignedHeaders=").map(|(_, rest)| rest),
    };
    let signed = signed?.split([',', ' ']).next().unwrap_or("");
    if signed.split(';').any(|name| name == "host") {
        return None;
    }
    let message = "The host header must be one of the signed headers";
    Some(Refusal::new(StatusCode::FORBIDDEN, "AccessDenied", message))
}

/// A refusal by s3s itself, with the sentence it may lack.
fn complete(reply: &mut Reply) -> Refusal {
    let bytes = std::mem::take(reply.body_mut()).take_bytes().unwrap_or_default();
    let document = String::from_utf8_lossy(&bytes);
    let code = xml::element(&document, "Code").unwrap_or_else(|| "InternalError".into());
    let message = xml::element(&document, "Message");
    let message = message.unwrap_or_else(|| refusal::sentence(&code).into());
    Refusal::new(reply.status(), code, message)
}

/// The reply that carries a refusal. A reply to HEAD has its status and headers only.
pub(crate) fn to_reply(refusal: &Refusal, method: &Method, path: &str, id: &HeaderValue) -> Reply {
    let mut reply = Reply::new(Body::empty());
    *reply.status_mut() = refusal.status;
    reply.headers_mut().extend(refusal.headers.iter().cloned());
    if *method != Method::HEAD {
        let id = id.to_str().unwrap_or("");
        *reply.body_mut() = Body::from(refusal.to_xml(path, id));
    }
    let kind = HeaderValue::from_static("application/xml");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
