// SPDX-License-Identifier: Apache-2.0
//! Which of the operations served here a request asks for.
//!
//! A request for anything else (a write, a sub-resource such as `?acl`) is none of them; s3s then
//! checks its signature and refuses it as not implemented.

use http::Method;

use crate::{address::Address, query::Query};

/// The operations this face serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    ListBuckets,
    HeadBucket,
    GetBucketLocation,
    ListObjects,
    ListObjectsV2,
    HeadObject,
    GetObject,
}

/// Every operation, for what is prepared once for each.
pub(crate) const ALL: [Operation; 7] = [
    Operation::ListBuckets,
    Operation::HeadBucket,
    Operation::GetBucketLocation,
    Operation::ListObjects,
    Operation::ListObjectsV2,
    Operation::HeadObject,
    Operation::GetObject,
];

/// Parameters that make a request for a bucket one for something else about it.
const BUCKET_RESOURCES: [&str; 27] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "session",
    "tagging",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Parameters that make a request for an object one for something else about it.
const OBJECT_RESOURCES: [&str; 7] =
    ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent", "uploadId"];

impl Operation {
    /// The operation a request asks for, if it is served here.
    pub(crate) fn of(method: &Method, address: &Address, query: &Query) -> Option<Self> {
        match (method, address) {
            (&Method::GET, Address::Root) => Some(Self::ListBuckets),
            (&Method::HEAD, Address::Bucket(_)) => Some(Self::HeadBucket),
            (&Method::GET, Address::Bucket(_)) => Self::of_bucket(query),
            (_, Address::Object { .. }) if query.has_any(&OBJECT_RESOURCES) => None,
            (&Method::HEAD, Address::Object { .. }) => Some(Self::HeadObject),
            (&Method::GET, Address::Object { .. }) => Some(Self::GetObject),
            _ => None,
        }
    }

    fn of_bucket(query: &Query) -> Option<Self> {
        if query.has("location") {
            return Some(Self::GetBucketLocation);
        }
        if query.has_any(&BUCKET_RESOURCES) {
            return None;
        }
        let second = query.get("list-type") == Some("2");
        Some(if second { Self::ListObjectsV2 } else { Self::ListObjects })
    }

    /// The name S3 gives it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::HeadBucket => "HeadBucket",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::ListObjects => "ListObjects",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::HeadObject => "HeadObject",
            Self::GetObject => "GetObject",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_are_served() {
        let of = |method: Method, key: &str, query: &str| {
            let address = match key {
                "" => Address::Bucket("lake".into()),
                key => Address::Object { bucket: "lake".into(), key: key.into() },
            };
            Operation::of(&method, &address, &Query::parse(Some(query)))
        };
        assert_eq!(of(Method::GET, "", ""), Some(Operation::ListObjects));
        assert_eq!(of(Method::GET, "", "list-type=2&prefix=acl"), Some(Operation::ListObjectsV2));
        assert_eq!(of(Method::GET, "", "location"), Some(Operation::GetBucketLocation));
        assert_eq!(of(Method::GET, "", "versions"), None);
        assert_eq!(of(Method::HEAD, "", ""), Some(Operation::HeadBucket));
        assert_eq!(of(Method::GET, "a", "x-id=GetObject"), Some(Operation::GetObject));
        assert_eq!(of(Method::GET, "a", "tagging="), None);
        assert_eq!(of(Method::HEAD, "a", ""), Some(Operation::HeadObject));
        for write in [Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS] {
            assert_eq!(of(write, "a", ""), None);
        }
    }
}
