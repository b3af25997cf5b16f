// SPDX-License-Identifier: Apache-2.0
//! From bucket and key to a request URI, byte for byte.
//!
//! Everything but RFC 3986's unreserved characters and the slash is percent-encoded, which is
//! what the signature's canonical path asks for; so path and signature can't differ. The `url`
//! crate is not used because it removes dot segments.

use http::Uri;
use larder_core::{Error, Key, Result, path::KEY_LENGTH_MAX};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::mount::{Addressing, S3Config};

use super::store::Place;

/// What is encoded in a query's names and values.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What is encoded in a path: the same without the slash.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The region of stores that say nothing.
const DEFAULT_REGION: &str = "us-east-1";

/// `text` as it stands in a path, slashes kept.
pub(super) fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Where a bucket is and how its objects are named there.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `https://host:port` and all of the path before the key, encoded, ending in a slash.
    base: String,
    /// Length of scheme and authority in `base`.
    authority_end: usize,
    canonical: String,
    pub(super) bucket: String,
    pub(super) region: String,
    prefix: String,
}

impl Endpoint {
    pub(super) fn new(place: Place, settings: &S3Config) -> Result<Self> {
        let Place { bucket, prefix } = place;
        let region = settings.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if region.is_empty() || !region.bytes().all(legal) {
            return Err(Error::invalid(format!("'{region}' is not a region; write us-east-1")));
        }
        let (scheme, authority, path) = match settings.endpoint.as_deref() {
            Some(endpoint) => split_endpoint(endpoint)?,
            None => ("https".to_owned(), amazon_authority(&region), String::new()),
        };
        let canonical = match &settings.endpoint {
            // The same bucket name at another store is another bucket.
            Some(_) => format!("s3+{scheme}://{authority}{path}/{bucket}/{prefix}"),
            None => format!("s3://{bucket}/{prefix}"),
        };
        let in_path = match settings.addressing {
            Addressing::Path => true,
            Addressing::Virtual => false,
            Addressing::Auto => settings.endpoint.is_some() || bucket.contains('.'),
        };
        let (authority, path) = if in_path {
            (authority, format!("{path}/{bucket}/"))
        } else {
            (format!("{bucket}.{authority}"), format!("{path}/"))
        };
        let authority_end = scheme.len() + "://".len() + authority.len();
        let base = format!("{scheme}://{authority}{path}");
        base.parse::<Uri>().map_err(|error| {
            Error::invalid(format!("'{base}' is not a usable address")).with_source(error)
        })?;
        Ok(Self { base, authority_end, canonical, bucket, region, prefix })
    }

    /// The name at the store, for a call that looks for an object. Names no object can have are
    /// simply not found.
    pub(super) fn name_to_find(&self, key: &Key) -> Result<String> {
        self.name(key).map_err(|_| Error::not_found(format!("{} does not exist", self.uri(key))))
    }

    /// The name at the store, for a call that makes an object.
    pub(super) fn name_to_write(&self, key: &Key) -> Result<String> {
        self.name(key).map_err(Error::invalid)
    }

    fn name(&self, key: &Key) -> Result<String, String> {
        if key.is_root() {
            return Err("an empty key names the mount itself, not an object".to_owned());
        }
        let name = format!("{}{key}", self.prefix);
        if name.len() > KEY_LENGTH_MAX {
            let length = name.len();
            return Err(format!(
                "the key has {length} bytes with the mount's prefix; S3 allows {KEY_LENGTH_MAX}"
            ));
        }
        Ok(name)
    }

    /// The mount's prefix at the store.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The canonical URI of a key.
    pub(super) fn uri(&self, key: &Key) -> String {
        format!("{}{key}", self.canonical)
    }

    /// Scheme and authority, for messages.
    pub(super) fn authority(&self) -> &str {
        &self.base[..self.authority_end]
    }

    /// The request URI of an object (`Some`) or of the bucket (`None`).
    pub(super) fn request_uri(&self, name: Option<&str>, query: &[(&str, &str)]) -> Result<Uri> {
        let mut text = String::with_capacity(self.base.len() + name.map_or(0, |n| n.len() + 32));
        text.push_str(&self.base);
        match name {
            Some(name) => text.extend(utf8_percent_encode(name, PATH)),
            // A bucket is asked for without the slash that would start a key.
            None if text.len() > self.authority_end + 1 => {
                text.pop();
            }
            None => {}
        }
        for (index, (name, value)) in query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.extend(utf8_percent_encode(name, QUERY));
            text.push('=');
            text.extend(utf8_percent_encode(value, QUERY));
        }
        text.parse().map_err(|error| {
            Error::invalid("the key can't be written as a request path").with_source(error)
        })
    }
}

fn amazon_authority(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("s3.{region}.{suffix}")
}

/// Scheme, authority and path (without its last slash) of an endpoint setting.
fn split_endpoint(endpoint: &str) -> Result<(String, String, String)> {
    let wrong = || {
        Error::invalid(format!(
            "'{endpoint}' is not an endpoint; write http://host:port or https://host"
        ))
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https")).ok_or_else(wrong)?;
    let authority = uri.authority().ok_or_else(wrong)?;
    if uri.query().is_some() {
        return Err(wrong());
    }
    if authority.as_str().contains('@') {
        // Not repeated in the message: what stands before the @ may be a secret.
        return Err(Error::invalid(
            "the endpoint must not hold a user name or password; use AWS credentials",
        ));
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    Ok((scheme.to_owned(), authority.as_str().to_ascii_lowercase(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(bucket: &str, prefix: &str, settings: &S3Config) -> Endpoint {
        let place = Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        Endpoint::new(place, settings).expect("legal settings")
    }

    fn at(url: &str) -> S3Config {
        S3Config { endpoint: Some(url.to_owned()), ..S3Config::default() }
    }

    #[test]
    fn raw_keys_stay_themselves() {
        let here = endpoint("lake", "", &at("http://127.0.0.1:7480/"));
        let path = |key: &str| {
            let name = here.name_to_find(&Key::new(key).expect("legal")).expect("nameable");
            here.request_uri(Some(&name), &[]).expect("a URI").to_string()
        };
        assert_eq!(path("a//b"), "http://127.0.0.1:7480/lake/a//b");
        assert_eq!(path("/a"), "http://127.0.0.1:7480/lake//a");
        assert_eq!(path("k/../e"), "http://127.0.0.1:7480/lake/k/../e");
        assert_eq!(path(".."), "http://127.0.0.1:7480/lake/..");
        assert_eq!(path("a+b %25 ü?#"), "http://127.0.0.1:7480/lake/a%2Bb%20%2525%20%C3%BC%3F%23");
    }

    #[test]
    fn addressing_follows_the_settings() {
        let key = Key::new("k").expect("legal");
        let amazon = endpoint("lake", "p/", &S3Config::default());
        let uri = amazon.request_uri(Some("p/k"), &[]).expect("a URI");
        assert_eq!(uri, "https://lake.s3.us-east-1.amazonaws.com/p/k");
        assert_eq!(amazon.uri(&key), "s3://lake/p/k");
        let bucket = amazon.request_uri(None, &[("list-type", "2"), ("prefix", "a b/")]);
        let expected = "https://lake.s3.us-east-1.amazonaws.com/?list-type=2&prefix=a%20b%2F";
        assert_eq!(bucket.expect("a URI"), expected);
        let dotted = endpoint("la.ke", "", &S3Config::default());
        let uri = dotted.request_uri(None, &[]).expect("a URI");
        assert_eq!(uri, "https://s3.us-east-1.amazonaws.com/la.ke");
        let own = endpoint("lake", "", &at("https://Store.example:9000"));
        assert_eq!(own.uri(&key), "s3+https://store.example:9000/lake/k");
        let settings = S3Config { addressing: Addressing::Virtual, ..at("http://store:9000") };
        let virtual_host = endpoint("lake", "", &settings);
        let uri = virtual_host.request_uri(Some("k"), &[]).expect("a URI");
        assert_eq!(uri, "http://lake.store:9000/k");
    }

    #[test]
    fn wrong_endpoints_are_refused_without_repeating_a_password() {
        let place = || Place { bucket: "lake".to_owned(), prefix: String::new() };
        for wrong in ["", "localhost", "ftp://x", "http://", "http://x?y=1", "http://u:pw@x"] {
            let error = Endpoint::new(place(), &at(wrong)).expect_err("not an endpoint");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }
}
