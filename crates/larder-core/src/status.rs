// SPDX-License-Identifier: Apache-2.0
//! What is known about a file: length, version, times, and what the store tells beside the bytes.

use serde::{Deserialize, Serialize};

use crate::{UnixMillis, Version};

/// The status of one file as its under storage gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Bytes of content.
    pub length: u64,
    /// What identifies this content.
    pub version: Version,
    /// When it was last written, as the store says. Second precision on S3.
    pub modified: UnixMillis,
    /// What the store tells beside the bytes. `None` when the status came from a listing, which
    /// does not carry it: a caller who needs it asks for it and costs one request.
    pub attributes: Option<Box<Attributes>>,
}

/// What a store tells about an object beside its bytes; header values verbatim.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as it was set.
    pub expires: Option<String>,
    /// `x-amz-storage-class`; none means STANDARD.
    pub storage_class: Option<String>,
    /// `x-amz-version-id`, where the bucket keeps versions.
    pub version_id: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*` without the prefix, in the store's order and spelling.
    pub user: Vec<(String, String)>,
}
