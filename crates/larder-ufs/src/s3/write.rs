// SPDX-License-Identifier: Apache-2.0
//! PUT, multipart upload, DELETE and copy.
//!
//! Bodies stream and are not hashed for the signature (`UNSIGNED-PAYLOAD`, which Amazon and
//! radosgw accept with and without TLS). An object appears whole at the end of its PUT, or at
//! the completion of its multipart upload; a multipart upload that fails is aborted. The status
//! comes from a HEAD behind it, because a PUT's reply tells neither date nor attributes.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_TYPE, ETAG, EXPIRES,
    },
};
use http_body_util::{BodyExt, Full};
use larder_core::{Attributes, Error, Key, Result, Status};

use crate::{ByteStream, layer::meter::Meter};

use super::{
    client::{Call, Client, Progress},
    endpoint::encode_path,
    failure, head,
    send::Source,
    store::S3Store,
    xml,
};

/// A larger object is written in parts of at least this many bytes.
const PART_SIZE_MIN: u64 = 64 << 20;
/// Parts of an object at most.
const PARTS_MAX: u64 = 10_000;
/// The wait before each try of an abort.
const ABORT_WAITS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// Bytes of the replies here at most.
const DOCUMENT_MAX: usize = 1 << 20;

impl S3Store {
    pub(super) async fn put(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        let name = self.client.endpoint.name_to_write(key)?;
        let what = self.client.endpoint.uri(key);
        let headers = headers_of(attributes)?;
        let source = Source::new(body, length);
        let target = Target { name: &name, what: &what, query: &[] };
        if length <= PART_SIZE_MIN {
            self.put_bytes(&target, headers, &source, length).await?;
        } else {
            self.put_parts(&target, headers, &source, length).await?;
        }
        self.meter.count("stat", self.head(key)).await
    }

    pub(super) async fn remove(&self, key: &Key) -> Result<()> {
        let Ok(name) = self.client.endpoint.name_to_find(key) else { return Ok(()) };
        let reply = self.client.send(Call::new(Method::DELETE, Some(&name))).await?;
        if reply.status().is_success() {
            return Ok(());
        }
        let error = self.client.refused(reply, &self.client.endpoint.uri(key)).await;
        let bucket_is_there = !error.message().starts_with("the bucket");
        match error.kind() {
            larder_core::ErrorKind::NotFound if bucket_is_there => Ok(()),
            _ => Err(error),
        }
    }

    pub(super) async fn duplicate(&self, from: &Key, to: &Key) -> Result<Status> {
        let endpoint = &self.client.endpoint;
        let source = endpoint.name_to_find(from)?;
        if from == to {
            return self.head(from).await;
        }
        let name = endpoint.name_to_write(to)?;
        let mut call = Call::new(Method::PUT, Some(&name));
        let source = format!("/{}/{}", endpoint.bucket, encode_path(&source));
        call.headers.insert("x-amz-copy-source", value(&source)?);
        let reply = self.client.send(call).await?;
        let what = endpoint.uri(from);
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, &what).await);
        }
        self.done_inside(reply, "CopyObjectResult", &what).await?;
        self.meter.count("stat", self.head(to)).await
    }

    /// One PUT of the source's next `length` bytes; answers the ETag.
    async fn put_bytes(
        &self,
        target: &Target<'_>,
        headers: HeaderMap,
        source: &Source,
        length: u64,
    ) -> Result<String> {
        let progress = Progress::default();
        let mut call = Call::new(Method::PUT, Some(target.name)).query(target.query);
        call.headers = headers;
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        call.body = source.take(length, &progress);
        call.progress = progress;
        if length == 0 {
            source.ended().await?;
        }
        let reply = self.client.send(call).await?;
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, target.what).await);
        }
        let etag = reply.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        Ok(etag.unwrap_or_default().to_owned())
    }

    async fn put_parts(
        &self,
        target: &Target<'_>,
        headers: HeaderMap,
        source: &Source,
        length: u64,
    ) -> Result<()> {
        let mut call = Call::new(Method::POST, Some(target.name)).query(&[("uploads", "")]);
        call.headers = headers;
        let reply = self.client.send(call).await?;
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, target.what).await);
        }
        let document = self.document(reply).await?;
        let root = xml::parse(&document)?;
        let upload = root
            .text("UploadId")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Error::unavailable("the store began an upload without giving its id"))?;
        let mut unfinished = Unfinished(Some(Abort {
            client: Arc::clone(&self.client),
            meter: self.meter.clone(),
            name: target.name.to_owned(),
            what: target.what.to_owned(),
            upload: upload.to_owned(),
        }));
        let written = self.put_each_part(target, upload, source, length).await;
        let abort = unfinished.0.take();
        if let (Err(_), Some(abort)) = (&written, abort) {
            abort.run().await;
        }
        written
    }

    async fn put_each_part(
        &self,
        target: &Target<'_>,
        upload: &str,
        source: &Source,
        length: u64,
    ) -> Result<()> {
        let size = PART_SIZE_MIN.max(length.div_ceil(PARTS_MAX).next_multiple_of(1 << 20));
        let mut list = String::from("<CompleteMultipartUpload>");
        let mut left = length;
        let mut number = 1;
        while left > 0 {
            let text = number.to_string();
            let query = [("partNumber", text.as_str()), ("uploadId", upload)];
            let part = Target { query: &query, ..*target };
            let sent = self.put_bytes(&part, HeaderMap::new(), source, left.min(size));
            let etag = xml::escape(&self.meter.count("write", sent).await?);
            list.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
            left -= left.min(size);
            number += 1;
        }
        list.push_str("</CompleteMultipartUpload>");
        self.meter.count("write", self.complete(target, upload, list)).await
    }

    async fn complete(&self, target: &Target<'_>, upload: &str, list: String) -> Result<()> {
        let query = [("uploadId", upload)];
        let mut call = Call::new(Method::POST, Some(target.name)).query(&query);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(list.len()));
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        call.body = Full::from(list).map_err(|never| match never {}).boxed_unsync();
        let reply = self.client.send(call).await?;
        if reply.status() != StatusCode::OK {
            return Err(self.client.refused(reply, target.what).await);
        }
        self.done_inside(reply, "CompleteMultipartUploadResult", target.what).await
    }

    /// Two calls answer 200 before they know how they end; the document tells.
    async fn done_inside(
        &self,
        reply: http::Response<hyper::body::Incoming>,
        expected: &str,
        what: &str,
    ) -> Result<()> {
        let document = self.document(reply).await?;
        let root = xml::parse(&document)?;
        if root.name() == expected {
            return Ok(());
        }
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let refusal = failure::Refusal::new(status, &HeaderMap::new(), &document);
        Err(refusal.into_error(what, &self.client.endpoint))
    }

    async fn document(&self, reply: http::Response<hyper::body::Incoming>) -> Result<bytes::Bytes> {
        let (clock, timeout) = (&self.client.clock, self.client.read_timeout());
        failure::collect(reply.into_body(), DOCUMENT_MAX, clock, timeout).await
    }
}

/// A multipart upload under way: one that is dropped before its end (its caller went away) is
/// aborted in the background.
struct Unfinished(Option<Abort>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(abort), Ok(runtime)) = (self.0.take(), runtime) {
            runtime.spawn(abort.run());
        }
    }
}

/// Gives back what a failed upload holds at the store.
struct Abort {
    client: Arc<Client>,
    meter: Meter,
    name: String,
    what: String,
    upload: String,
}

impl Abort {
    /// Tries a few times, because a store may still be busy with the part that broke. Its own
    /// failure only costs space there, which a lifecycle rule frees.
    async fn run(self) {
        for wait in ABORT_WAITS {
            self.client.clock.sleep(wait).await;
            match self.meter.count("delete", self.once()).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(object = self.what, %error, "no abort yet"),
            }
        }
        tracing::warn!(object = self.what, "an upload could not be aborted at the store");
    }

    async fn once(&self) -> Result<()> {
        let query = [("uploadId", self.upload.as_str())];
        let call = Call::new(Method::DELETE, Some(&self.name)).query(&query);
        let reply = self.client.send(call).await?;
        if reply.status().is_success() || reply.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.client.refused(reply, &self.what).await)
    }
}

/// What an upload goes to.
#[derive(Clone, Copy)]
struct Target<'a> {
    name: &'a str,
    what: &'a str,
    query: &'a [(&'a str, &'a str)],
}

fn value(text: &str) -> Result<HeaderValue> {
    let ascii = text.bytes().all(|c| (b' '..=b'~').contains(&c));
    HeaderValue::from_str(text).ok().filter(|_| ascii).ok_or_else(|| {
        Error::invalid("metadata of an object must be visible ASCII, because it is sent in headers")
    })
}

fn headers_of(attributes: &Attributes) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let named = [
        (CONTENT_TYPE, &attributes.content_type),
        (CONTENT_ENCODING, &attributes.content_encoding),
        (CONTENT_LANGUAGE, &attributes.content_language),
        (CONTENT_DISPOSITION, &attributes.content_disposition),
        (CACHE_CONTROL, &attributes.cache_control),
        (EXPIRES, &attributes.expires),
        (HeaderName::from_static("x-amz-storage-class"), &attributes.storage_class),
        (HeaderName::from_static("x-amz-website-redirect-location"), &attributes.website_redirect),
    ];
    for (name, text) in named {
        if let Some(text) = text {
            headers.insert(name, value(text)?);
        }
    }
    for (name, text) in &attributes.user {
        let name = HeaderName::from_bytes(format!("{}{name}", head::META).as_bytes());
        let name = name.map_err(|error| {
            Error::invalid("a name of user metadata can't stand in a header").with_source(error)
        })?;
        // Values of one name are one list, as S3 keeps them.
        let joined = match headers.get(&name).and_then(|earlier| earlier.to_str().ok()) {
            Some(earlier) => format!("{earlier},{text}"),
            None => text.clone(),
        };
        headers.insert(name, value(&joined)?);
    }
    Ok(headers)
}
