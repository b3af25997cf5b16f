// SPDX-License-Identifier: Apache-2.0
//! What all requests share, and what one request is made of.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use larder_client::Filesystem;
use larder_core::{Error, ErrorKind, MountName, Path, Random, metric::FaceLabels};
use prometheus_client::metrics::counter::Counter;

use crate::{
    address::{Address, Domains},
    bucket,
    headers::Signed,
    list, object,
    operation::{self, Operation},
    query::Query,
    refusal::Refusal,
};

/// A reply on its way to hyper.
pub(crate) type Reply = http::Response<s3s::Body>;

/// The label of operations that are refused unread.
const OTHER: &str = "Other";

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) domains: Domains,
    /// Counters of requests that went well, looked up once instead of at each request.
    served: BTreeMap<Operation, Counter>,
    ids: Random,
}

/// What a request asks, as far as its head tells.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) address: Address,
    pub(crate) query: Query,
    /// `None` for what is not served here.
    pub(crate) operation: Option<Operation>,
}

/// A request that may be answered.
pub(crate) struct Question<'a> {
    pub(crate) call: &'a Call,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) signed: Signed,
}

impl Call {
    /// Reads the head of a request. `None` for a path that is not UTF-8.
    pub(crate) fn of(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        domains: &Domains,
    ) -> Option<Self> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let address = Address::of(uri.path(), host, domains)?;
        let query = Query::parse(uri.query());
        let operation = Operation::of(method, &address, &query);
        Some(Self { address, query, operation })
    }
}

impl Face {
    pub(crate) fn new(filesystem: Arc<Filesystem>, domains: Domains) -> Self {
        let requests = &filesystem.metrics().face_requests;
        let served = operation::ALL
            .iter()
            .map(|&operation| {
                let labels = labels(operation.name(), "ok".into());
                (operation, requests.get_or_create(&labels).clone())
            })
            .collect();
        Self { filesystem, domains, served, ids: Random::new() }
    }

    /// Answers a request of an operation that is served here.
    pub(crate) async fn answer(
        &self,
        operation: Operation,
        question: &Question<'_>,
    ) -> Result<Reply, Refusal> {
        match operation {
            Operation::ListBuckets => bucket::list(self, question),
            Operation::HeadBucket => bucket::head(self, question),
            Operation::GetBucketLocation => bucket::location(self, question),
            Operation::ListObjects => list::first_version(self, question).await,
            Operation::ListObjectsV2 => list::second_version(self, question).await,
            Operation::HeadObject => object::head(self, question).await,
            Operation::GetObject => object::get(self, question).await,
        }
    }

    /// The mount a bucket name stands for.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub(crate) fn mount_of(&self, bucket: &str) -> Result<MountName, Refusal> {
        let mounts = self.filesystem.mounts();
        let known = mounts.iter().find(|record| record.name.as_str() == bucket);
        known.map(|record| record.name.clone()).ok_or_else(|| Refusal::no_such_bucket(bucket))
    }

    /// What an error of a request about one object means; logs what somebody must act on.
    pub(crate) fn refuse_object(&self, path: &Path, error: &Error) -> Refusal {
        if error.kind() == ErrorKind::NotFound {
            if let Err(refusal) = self.mount_of(path.mount.as_str()) {
                return refusal;
            }
            return Refusal::of(error).with("Key", path.key.as_str());
        }
        log(error, path);
        Refusal::of(error)
    }

    /// What an error of a request about a bucket means.
    pub(crate) fn refuse_bucket(&self, mount: &MountName, error: &Error) -> Refusal {
        if error.kind() == ErrorKind::NotFound {
            return Refusal::no_such_bucket(mount.as_str());
        }
        log(error, mount);
        Refusal::of(error)
    }

    /// A fresh id for a request.
    pub(crate) fn request_id(&self) -> HeaderValue {
        let id = format!("{:016X}", self.ids.next());
        HeaderValue::try_from(id).expect("hexadecimal digits can stand in a header")
    }

    /// Counts an answered request; `refused` is the code of the refusal, if it was one.
    pub(crate) fn count(&self, operation: Option<Operation>, refused: Option<&str>) {
        match (operation, refused) {
            (Some(operation), None) => {
                if let Some(counter) = self.served.get(&operation) {
                    counter.inc();
                }
            }
            (operation, code) => {
                let name = operation.map_or(OTHER, Operation::name);
                let labels = labels(name, code.unwrap_or("ok").to_owned());
                self.filesystem.metrics().face_requests.get_or_create(&labels).inc();
            }
        }
    }
}

fn labels(operation: &'static str, code: String) -> FaceLabels {
    FaceLabels { face: "s3", operation, code }
}

fn log(error: &Error, subject: impl std::fmt::Display) {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Internal => {
            tracing::error!(%subject, %error, "s3 request failed");
        }
        ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Stale | ErrorKind::Denied => {
            tracing::warn!(%subject, %error, "s3 request failed");
        }
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::NotEmpty
        | ErrorKind::Invalid
        | ErrorKind::Unsupported => {}
    }
}
