// SPDX-License-Identifier: Apache-2.0
//! Where s3s is told what to do: it checks signatures and knows S3's operations by their
//! requests; what is served here it hands over, what is not it refuses.
//!
//! Object replies are not built by s3s's own types, for they re-parse what must stay verbatim
//! (`Expires`, entity tags) and refuse what S3 ignores (a malformed `Range`).

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Method, Uri};
use s3s::{
    Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    access::{S3Access, S3AccessContext},
    config::{S3Config, StaticConfigProvider},
    route::S3Route,
    service::{S3Service, S3ServiceBuilder},
};

use crate::{
    address::MountNames,
    face::{Call, Face, Question},
    headers::Signed,
    keys::Keys,
};

/// Who may ask without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anonymous {
    Allowed,
    Refused,
}

/// Puts the parts together.
pub(crate) fn service(face: Arc<Face>, keys: Keys, anonymous: Anonymous) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Nothing);
    builder.set_auth(keys);
    builder.set_access(Door(anonymous));
    builder.set_host(face.domains.clone());
    builder.set_validation(MountNames);
    builder.set_route(Served { face, anonymous });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
    builder.build()
}

/// s3s never sees the body of a request here, so it needs room for none.
fn limits() -> S3Config {
    let mut limits = S3Config::default();
    limits.xml_max_body_size = 0;
    limits.post_object_max_file_size = 0;
    limits.form_max_field_size = 0;
    limits.form_max_fields_size = 0;
    limits.form_max_parts = 0;
    limits
}

/// No operation goes the way of s3s's own trait.
struct Nothing;

impl S3 for Nothing {}

/// The operations that are served.
struct Served {
    face: Arc<Face>,
    anonymous: Anonymous,
}

#[async_trait]
impl S3Route for Served {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, extensions: &mut Extensions) -> bool {
        let call = extensions.get::<Arc<Call>>();
        call.is_some_and(|call| call.operation.is_some())
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        self.anonymous.check(request.credentials.is_some())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let call = request.extensions.get::<Arc<Call>>();
        let Some((call, operation)) = call.and_then(|call| Some((call, call.operation?))) else {
            return Err(S3Error::new(S3ErrorCode::NotImplemented));
        };
        let signed = if request.credentials.is_some() { Signed::Yes } else { Signed::No };
        let question = Question { call, headers: &request.headers, signed };
        let mut response = S3Response::new(Body::empty());
        match self.face.answer(operation, &question).await {
            Ok(reply) => {
                let (parts, body) = reply.into_parts();
                response.status = Some(parts.status);
                response.headers = parts.headers;
                response.output = body;
            }
            Err(refusal) => {
                response.status = Some(refusal.status);
                response.extensions.insert(Arc::new(refusal));
            }
        }
        Ok(response)
    }
}

/// Refuses what is not served, once its signature was found good and before s3s reads on.
struct Door(Anonymous);

#[async_trait]
impl S3Access for Door {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        self.0.check(context.credentials().is_some())?;
        let operation = context.s3_op().name();
        let message = format!("Larder does not implement {operation}; this face reads only");
        Err(S3Error::with_message(S3ErrorCode::NotImplemented, message))
    }
}

impl Anonymous {
    fn check(self, signed: bool) -> S3Result<()> {
        if signed || self == Self::Allowed {
            return Ok(());
        }
        let message = "Access Denied: the request is not signed and anonymous access is off";
        Err(S3Error::with_message(S3ErrorCode::AccessDenied, message))
    }
}
