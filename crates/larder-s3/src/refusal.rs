// SPDX-License-Identifier: Apache-2.0
//! What S3 says when it says no: a code, a status, a sentence.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use larder_core::{Error, ErrorKind};

use crate::xml::Document;

/// How long a client is asked to wait when a limit was met and nobody said how long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// S3's code, which clients branch on.
    pub(crate) code: Cow<'static, str>,
    /// One sentence for people.
    pub(crate) message: String,
    /// Further elements of the document.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            fields: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A parameter that can't be: names it and what it was.
    pub(crate) fn argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Self::bad_request("InvalidArgument", message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        let message = "The specified bucket does not exist; a bucket is a mount of Larder";
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", message).with("BucketName", bucket)
    }

    /// What an error of the file system means for a request about one object.
    pub(crate) fn of(error: &Error) -> Self {
        let (status, code) = code_of(error.kind());
        let mut refusal = Self::new(status, code, error.message());
        if error.kind() == ErrorKind::Exhausted {
            let wait = error.retry_after().unwrap_or(RETRY_AFTER);
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            refusal.headers.push((header::RETRY_AFTER, seconds));
        }
        refusal
    }

    /// Adds an element to the document.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The document, for a request of this id about this resource.
    pub(crate) fn to_xml(&self, resource: &str, request_id: &str) -> String {
        let mut document = Document::error();
        document.text("Code", &self.code);
        document.text("Message", &self.message);
        for (name, value) in &self.fields {
            document.text(name, value);
        }
        document.text("Resource", resource);
        document.text("RequestId", request_id);
        document.finish("Error")
    }
}

/// The one place where kinds become S3's codes. SDKs try again on 500 and 503, so whatever may
/// work later is one of those.
fn code_of(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            (StatusCode::NOT_FOUND, "NoSuchKey")
        }
        ErrorKind::AlreadyExists | ErrorKind::NotEmpty => {
            (StatusCode::CONFLICT, "OperationAborted")
        }
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "InvalidArgument"),
        ErrorKind::Denied => (StatusCode::FORBIDDEN, "AccessDenied"),
        ErrorKind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        ErrorKind::Stale | ErrorKind::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
        }
        ErrorKind::Exhausted => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        ErrorKind::Corrupt | ErrorKind::Internal => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
        }
    }
}

/// Sentences for codes that s3s gives without one.
pub(crate) fn sentence(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "InvalidAccessKeyId" => "The access key you sent is not known here",
        "InvalidBucketName" => {
            "The bucket name is not valid; use 1 to 63 of a-z, 0-9, '.', '-' and '_'"
        }
        "InvalidURI" => "The path or the query of the request can't be read as UTF-8",
        "KeyTooLongError" => "The key is longer than 1,024 bytes",
        "MethodNotAllowed" => "The method is not allowed on this resource",
        "SignatureDoesNotMatch" => {
            "The signature of the request is not the one computed for it; check the secret key, \
             the signing method and what stands between client and server"
        }
        _ => "The request was refused",
    }
}
