// SPDX-License-Identifier: Apache-2.0
//! Where a request points: which bucket, which raw key.
//!
//! The path is percent-decoded once and never normalised, so `a//b`, `/a`, `a/` and `..` reach
//! the file system as they were sent. s3s reads bucket and key from the same parts with the same
//! rules, for the signature and for what is not implemented.

use larder_core::MountName;
use percent_encoding::percent_decode_str;
use s3s::{
    S3Result,
    host::{S3Host, VirtualHost},
    validation::NameValidation,
};

/// What a request is about. Names are as they were sent, not yet known to be legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The whole service.
    Root,
    /// A bucket.
    Bucket(String),
    /// An object.
    Object { bucket: String, key: String },
}

impl Address {
    /// Reads path (percent-encoded) and host. `None` for a path that is not UTF-8.
    pub(crate) fn of(path: &str, host: Option<&str>, domains: &Domains) -> Option<Self> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let path = path.strip_prefix('/')?;
        if let Some(bucket) = host.and_then(|host| domains.bucket(host)) {
            return Some(Self::new(bucket, path));
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Some(if path.is_empty() { Self::Root } else { Self::new(bucket, key) })
    }

    fn new(bucket: &str, key: &str) -> Self {
        let bucket = bucket.to_owned();
        if key.is_empty() {
            return Self::Bucket(bucket);
        }
        Self::Object { bucket, key: key.to_owned() }
    }

    pub(crate) fn bucket(&self) -> &str {
        match self {
            Self::Root => "",
            Self::Bucket(bucket) | Self::Object { bucket, .. } => bucket,
        }
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Root | Self::Bucket(_) => "",
            Self::Object { key, .. } => key,
        }
    }
}

/// The base domains of virtual-host style. Every other host name is path style, so that a face
/// with a base domain still answers under `localhost` and under its bare address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domains(Vec<String>);

impl Domains {
    pub(crate) fn new(domains: &[String]) -> Self {
        Self(domains.iter().map(|domain| domain.trim_matches('.').to_owned()).collect())
    }

    /// The bucket in a `Host` header, with or without a port.
    fn bucket<'host>(&self, host: &'host str) -> Option<&'host str> {
        if self.0.is_empty() {
            return None;
        }
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        self.0.iter().find_map(|domain| {
            let split = host.len().checked_sub(domain.len())?;
            let (front, back) = host.split_at_checked(split)?;
            let bucket = front.strip_suffix('.')?;
            (back.eq_ignore_ascii_case(domain) && !bucket.is_empty()).then_some(bucket)
        })
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let named = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => named.with_bucket(bucket),
            None => named,
        })
    }
}

/// A bucket may have any name a mount may have.
#[derive(Debug)]
pub(crate) struct MountNames;

impl NameValidation for MountNames {
    fn validate_bucket_name(&self, name: &str) -> bool {
        MountName::new(name).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, path: &str) -> Address {
        let domains = Domains::new(&["s3.example.com".into()]);
        Address::of(path, Some(host), &domains).expect("UTF-8")
    }

    fn object(bucket: &str, key: &str) -> Address {
        Address::Object { bucket: bucket.into(), key: key.into() }
    }

    #[test]
    fn keys_arrive_raw() {
        let host = "127.0.0.1:9710";
        assert_eq!(address(host, "/"), Address::Root);
        assert_eq!(address(host, "/lake"), Address::Bucket("lake".into()));
        assert_eq!(address(host, "/lake/"), Address::Bucket("lake".into()));
        for (path, key) in [
            ("/lake/a//b", "a//b"),
            ("/lake/a/", "a/"),
            ("/lake//a", "/a"),
            ("/lake/a+b%20%2525%20%C3%BC%3F%23", "a+b %25 ü?#"),
            ("/lake/..", ".."),
            ("/lake/x%2Fy", "x/y"),
        ] {
            assert_eq!(address(host, path), object("lake", key), "{path}");
        }
    }

    #[test]
    fn only_base_domains_name_buckets() {
        assert_eq!(address("lake.s3.example.com:9710", "/a/b"), object("lake", "a/b"));
        assert_eq!(address("lake.S3.Example.COM", "//a"), object("lake", "/a"));
        assert_eq!(address("my.lake.s3.example.com", "/"), Address::Bucket("my.lake".into()));
        for host in ["s3.example.com", ".s3.example.com", "localhost:9710", "other.example.com"] {
            assert_eq!(address(host, "/lake/a"), object("lake", "a"), "{host}");
        }
    }
}
