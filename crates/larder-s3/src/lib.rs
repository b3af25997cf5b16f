// SPDX-License-Identifier: Apache-2.0
//! The S3 face: reads, for any S3 client. It translates and decides nothing.
//!
//! # What is served
//! ListBuckets, HeadBucket, GetBucketLocation, ListObjects, ListObjectsV2, HeadObject and
//! GetObject; a mount is a bucket. Everything else answers 501 `NotImplemented`, once the
//! signature was found good; bodies of requests are never read. SigV4 in the header and
//! presigned (a week at most, `host` must be signed, 15 minutes of skew), for any region; SigV2
//! is refused as S3 does. Path style under every host name, virtual-host style below the base
//! domains of [`Settings`]. Without a signature only where [`Settings::anonymous`] says so, and
//! then without `response-*` parameters.
//!
//! # What a reply says
//! `ETag`, `Last-Modified`, `Content-Type` (else `binary/octet-stream`), the other content
//! headers, `x-amz-meta-*`, `x-amz-version-id` and `x-amz-storage-class` are the store's own,
//! verbatim; user metadata that can't stand in a header is counted in `x-amz-missing-meta`.
//! `x-larder-cache` is `hit`, `revalidated`, `part`, `miss` or `stale`; `age` is the seconds since
//! the store confirmed the version (or gave the listing). There is no header for Larder's own
//! version of an object, for the entity tag is that. Every reply has `x-amz-request-id`. Lengths
//! are known, so nothing is chunked.
//!
//! # Where S3's documentation leaves room
//! - A malformed `Range`, another unit or several ranges are ignored; `If-Range` is honoured.
//! - A condition never costs a request of its own: it is judged against the read's own head.
//! - An object whose store tells nothing of parts is one part: `partNumber=1` is all of it (206),
//!   any other number is 416 `InvalidPartNumber`.
//! - `versionId` of the current version is served, any other is `NotImplemented`, and so are
//!   objects under a customer's key.
//! - In listings without `encoding-type=url`, characters XML 1.0 can't carry are numeric
//!   references. `max-keys` above 1,000 is 1,000. Continuation tokens are the store's, opaque.
//!   `CreationDate` of a bucket is 1970, for a mount has none.
//! - Errors that may pass are 503 or 500, on which SDKs try again; a limit met is `SlowDown` with
//!   `Retry-After`. An error inside a body cuts the connection, and one warning tells why.
//!
//! # How it is made
//! `server` accepts and bounds connections, `connection` serves one, `socket` ends waits on a
//! client that takes or sends nothing. `front` looks at what a client sent: a plain read is
//! answered by `plain` at once, anything else goes through hyper (`by_hyper`), where `answer`
//! frames each request, `gate` lets s3s check the signature and `face` picks the operation;
//! `object`, `list` and `bucket` answer; `refusal` holds the one mapping of errors.
//!
//! s3s logs headers of requests on its own (with signatures at debug) and opens spans at info for
//! each of them: the binary's log filter should hold `s3s=off`, which is also faster.

mod address;
mod answer;
mod body;
mod bucket;
mod by_hyper;
mod condition;
mod connection;
mod ending;
mod face;
mod fields;
mod front;
mod gate;
mod headers;
mod keys;
mod list;
mod object;
mod operation;
mod plain;
mod query;
mod range;
mod refusal;
mod server;
mod settings;
mod signature;
mod socket;
mod xml;

pub use keys::Keys;
pub use server::S3Face;
pub use settings::Settings;
