// SPDX-License-Identifier: Apache-2.0
//! A status as reply headers: the store's own words, verbatim.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use larder_client::message::Outcome;
use larder_core::{Attributes, Status};

use crate::{condition, query::Query, refusal::Refusal};

/// What S3 says of an object that was written without a type.
const DEFAULT_TYPE: &str = "binary/octet-stream";

const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const REDIRECT: HeaderName = HeaderName::from_static("x-amz-website-redirect-location");
const MISSING_META: HeaderName = HeaderName::from_static("x-amz-missing-meta");
const CACHE: HeaderName = HeaderName::from_static("x-larder-cache");

/// Parameters by which a signed request sets headers of its reply.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

/// Where the headers of a reply are written.
pub(crate) trait Heading {
    /// Adds a header; `false` when the name or the value can't stand in one, and then it is left
    /// out: the store could not have sent it either.
    fn put(&mut self, name: impl AsRef<str>, value: &str) -> bool;
}

impl Heading for HeaderMap {
    fn put(&mut self, name: impl AsRef<str>, value: &str) -> bool {
        match (HeaderName::try_from(name.as_ref()), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                self.append(name, value);
                true
            }
            _ => false,
        }
    }
}

/// What is said about an object beside its bytes.
pub(crate) fn describe(
    status: &Status,
    (age, outcome): (Duration, Outcome),
    heading: &mut impl Heading,
) {
    heading.put(header::ETAG, &status.version.to_etag());
    let modified = httpdate::fmt_http_date(condition::modified(status));
    heading.put(header::LAST_MODIFIED, &modified);
    heading.put(header::ACCEPT_RANGES, "bytes");
    let attributes = status.attributes.as_deref();
    let kind = attributes.and_then(|attributes| attributes.content_type.as_deref());
    if !kind.is_some_and(|kind| heading.put(header::CONTENT_TYPE, kind)) {
        heading.put(header::CONTENT_TYPE, DEFAULT_TYPE);
    }
    heading.put(header::AGE, &age.as_secs().to_string());
    heading.put(CACHE, outcome.as_str());
    if let Some(attributes) = attributes {
        describe_attributes(attributes, heading);
    }
}

fn describe_attributes(attributes: &Attributes, heading: &mut impl Heading) {
    let named = [
        (header::CONTENT_ENCODING, &attributes.content_encoding),
        (header::CONTENT_LANGUAGE, &attributes.content_language),
        (header::CONTENT_DISPOSITION, &attributes.content_disposition),
        (header::CACHE_CONTROL, &attributes.cache_control),
        (header::EXPIRES, &attributes.expires),
        (STORAGE_CLASS, &attributes.storage_class),
        (VERSION_ID, &attributes.version_id),
        (REDIRECT, &attributes.website_redirect),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            heading.put(name, value);
        }
    }
    // S3 tells how many user values can't be said in a header, rather than to leave them silently.
    let mut missing = 0_u32;
    for (name, value) in &attributes.user {
        missing += u32::from(!heading.put(format!("x-amz-meta-{name}"), value));
    }
    if missing > 0 {
        heading.put(MISSING_META, &missing.to_string());
    }
}

/// Applies the `response-*` parameters of a request.
///
/// # Errors
/// For an anonymous request, which may not use them, and for what can't stand in a header.
pub(crate) fn override_from(
    query: &Query,
    signed: Signed,
    headers: &mut HeaderMap,
) -> Result<(), Refusal> {
    for (parameter, name) in OVERRIDES {
        let Some(value) = query.get(parameter) else { continue };
        if signed == Signed::No {
            return Err(Refusal::bad_request(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            ));
        }
        let legal = HeaderValue::try_from(value).map_err(|_| {
            Refusal::argument(parameter, value, format!("{parameter} can't stand in a header"))
        })?;
        headers.insert(name, legal);
    }
    Ok(())
}

/// Whether a request carried a valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Yes,
    No,
}
