// SPDX-License-Identifier: Apache-2.0
//! A refusal of the store as an error of ours, with one sentence that says what to do.
//!
//! The body's code decides where there is one; a reply to HEAD has none and is judged by its
//! status alone. Code and message come from the network: both are cut and cleaned before they
//! stand in a sentence.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use larder_core::{Clock, Error, Result};

use super::{endpoint::Endpoint, xml};

/// Bytes of an error document at most.
const DOCUMENT_MAX: usize = 64 * 1024;
/// A store that asks for a longer wait is taken to mean this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What the store said when it refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    region: Option<String>,
    retry_after: Option<Duration>,
    delete_marker: bool,
}

impl Refusal {
    /// Reads the reply's document, bounded in size and time.
    pub(super) async fn receive(
        reply: Response<Incoming>,
        clock: &Clock,
        timeout: Duration,
    ) -> Self {
        let (head, body) = reply.into_parts();
        let document = collect(body, DOCUMENT_MAX, clock, timeout).await.unwrap_or_default();
        Self::new(head.status, &head.headers, &document)
    }

    pub(super) fn new(status: StatusCode, headers: &HeaderMap, document: &[u8]) -> Self {
        let root = xml::parse(document).ok();
        let text = |name: &str, max| {
            let text = root.as_ref().and_then(|root| root.text(name)).unwrap_or_default();
            clean(text, max)
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let region = header("x-amz-bucket-region").map(|region| clean(region, 64));
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            status,
            code: text("Code", 64),
            message: text("Message", 200),
            region: region.or_else(|| Some(text("Region", 64))).filter(|region| !region.is_empty()),
            retry_after: seconds.map(|s| Duration::from_secs(s).min(RETRY_AFTER_MAX)),
            delete_marker: header("x-amz-delete-marker") == Some("true"),
        }
    }

    /// The error for a request about `what` (a canonical URI).
    pub(super) fn into_error(self, what: &str, endpoint: &Endpoint) -> Error {
        if let Some(error) = self.wrong_region(endpoint) {
            return error;
        }
        let error = self.by_code(what, endpoint).unwrap_or_else(|| self.by_status(what));
        match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    fn wrong_region(&self, endpoint: &Endpoint) -> Option<Error> {
        let bucket = &endpoint.bucket;
        let region = self.region.as_deref().filter(|region| *region != endpoint.region);
        let moved = self.status.is_redirection();
        let suspect = moved || self.status == StatusCode::BAD_REQUEST;
        match region {
            Some(region) if suspect => Some(Error::invalid(format!(
                "the bucket '{bucket}' is in region '{region}', not '{}'; \
                 set region = \"{region}\"",
                endpoint.region
            ))),
            _ if moved => Some(Error::invalid(format!(
                "{} sends requests for the bucket '{bucket}' elsewhere ({}); \
                 set the endpoint and region where the bucket is",
                endpoint.authority(),
                self.said()
            ))),
            _ => None,
        }
    }

    fn by_code(&self, what: &str, endpoint: &Endpoint) -> Option<Error> {
        let said = self.said();
        let error = match self.code.as_str() {
            "NoSuchBucket" => Error::not_found(format!(
                "the bucket '{}' does not exist at {}",
                endpoint.bucket,
                endpoint.authority()
            )),
            "NoSuchKey" | "NoSuchVersion" => Error::not_found(format!("{what} does not exist")),
            "RequestTimeTooSkewed" => Error::denied(format!(
                "the store refused the signature ({said}); set this machine's clock right"
            )),
            "ExpiredToken"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired" => Error::denied(format!(
                "the store does not accept our credentials ({said}); give valid ones"
            )),
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "ServiceUnavailable" => {
                Error::exhausted(format!("the store asks to slow down ({said})"))
            }
            "RequestTimeout" | "OperationAborted" | "InternalError" | "NoSuchUpload" => {
                Error::unavailable(format!("the store can't serve {what} now ({said})"))
            }
            "InvalidObjectState" => Error::unsupported(format!(
                "{what} is archived ({said}); restore it at the store before reading"
            )),
            "PreconditionFailed" => Error::stale(format!("{what} has a new version")),
            _ => return None,
        };
        Some(error)
    }

    fn by_status(&self, what: &str) -> Error {
        let said = self.said();
        match self.status.as_u16() {
            404 => Error::not_found(format!("{what} does not exist")),
            405 if self.delete_marker => Error::not_found(format!("{what} does not exist")),
            405 | 501 => Error::unsupported(format!("the store can't do this to {what} ({said})")),
            401 | 403 => Error::denied(format!(
                "the store denies access to {what} ({said}); give credentials that have it"
            )),
            412 => Error::stale(format!("{what} has a new version")),
            429 | 503 => Error::exhausted(format!("the store asks to slow down ({said})")),
            409 | 500.. => Error::unavailable(format!("the store can't serve {what} now ({said})")),
            400..=499 => Error::invalid(format!("the store refuses the request ({said})")),
            _ => Error::unavailable(format!("the store gave an answer out of place ({said})")),
        }
    }

    /// Status, code and message as one phrase.
    fn said(&self) -> String {
        let mut said = self.status.as_u16().to_string();
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                said.push(' ');
                said.push_str(part);
            }
        }
        said
    }
}

/// At most `max` characters, none of them a control character.
fn clean(text: &str, max: usize) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(max).collect()
}

/// A whole small body, bounded in size and time.
pub(super) async fn collect(
    body: Incoming,
    max: usize,
    clock: &Clock,
    timeout: Duration,
) -> Result<Bytes> {
    tokio::select! {
        whole = Limited::new(body, max).collect() => match whole {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) => {
                Err(Error::unavailable("the store's reply broke off or is too large")
                    .with_source(error))
            }
        },
        () = clock.sleep(timeout) => {
            Err(Error::unavailable("the store's reply did not end in time"))
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use crate::mount::S3Config;

    use super::{super::store::Place, *};

    fn error(status: u16, headers: &[(&'static str, &str)], document: &str) -> Error {
        let place = Place { bucket: "lake".to_owned(), prefix: String::new() };
        let endpoint = Endpoint::new(place, &S3Config::default()).expect("legal settings");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Refusal::new(status, &map, document.as_bytes()).into_error("s3://lake/k", &endpoint)
    }

    fn coded(status: u16, code: &str) -> Error {
        let document = format!("<Error><Code>{code}</Code><Message>m\n</Message></Error>");
        error(status, &[], &document)
    }

    #[test]
    fn refusals_become_kinds() {
        let kind = |status| error(status, &[], "").kind();
        assert_eq!(kind(404), ErrorKind::NotFound);
        assert_eq!(kind(403), ErrorKind::Denied);
        assert_eq!(kind(412), ErrorKind::Stale);
        assert_eq!(kind(400), ErrorKind::Invalid);
        assert_eq!(kind(429), ErrorKind::Exhausted);
        assert_eq!(kind(500), ErrorKind::Unavailable);
        assert_eq!(kind(502), ErrorKind::Unavailable);
        assert_eq!(kind(503), ErrorKind::Exhausted, "a refusal of HEAD has no code");
        assert_eq!(kind(501), ErrorKind::Unsupported);
        assert_eq!(coded(503, "SlowDown").kind(), ErrorKind::Exhausted);
        assert_eq!(coded(503, "ServiceUnavailable").kind(), ErrorKind::Exhausted);
        assert_eq!(coded(503, "InternalError").kind(), ErrorKind::Unavailable);
        assert_eq!(coded(400, "RequestTimeout").kind(), ErrorKind::Unavailable);
        assert_eq!(coded(400, "ExpiredToken").kind(), ErrorKind::Denied);
        assert!(coded(404, "NoSuchBucket").message().contains("bucket 'lake'"));
        assert!(coded(403, "SignatureDoesNotMatch").message().contains("SignatureDoesNotMatch"));
        let marker = error(405, &[("x-amz-delete-marker", "true")], "");
        assert_eq!(marker.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let headers = [("x-amz-bucket-region", "eu-west-1")];
        for status in [301, 307, 400] {
            let error = error(status, &headers, "");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("region = \"eu-west-1\""), "{error}");
        }
        let document = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>ap-south-1</Region>\
            </Error>";
        assert!(error(400, &[], document).message().contains("ap-south-1"));
        assert_eq!(error(301, &[], "").kind(), ErrorKind::Invalid);
    }

    #[test]
    fn the_asked_wait_is_kept_and_bounded() {
        let wait = |text| error(503, &[("retry-after", text)], "").retry_after();
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("-1"), None);
    }
}
