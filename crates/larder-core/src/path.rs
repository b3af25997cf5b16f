// SPDX-License-Identifier: Apache-2.0
//! Names: a mount, a raw key below it, and the two together.
//!
//! Keys are never normalised: `a//b`, `a/`, `/a` and `a` are four different keys, as they are at
//! an object store. What a local file system can't hold is refused by the local adapter and by
//! the FUSE face, not here.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bytes of a key at most, as at S3.
pub const KEY_LENGTH_MAX: usize = 1024;

/// The name of a mount: 1 to 63 of `a-z 0-9 . - _`, starting with a letter or digit. A mount is a
/// bucket on the S3 face and a top directory on FUSE.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountName(Arc<str>);

impl MountName {
    /// Checks `name`.
    ///
    /// # Errors
    /// `Invalid` when it breaks the rule above.
    pub fn new(name: &str) -> Result<Self> {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        let starts_well = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if name.len() > 63 || !starts_well || !name.bytes().all(legal) {
            return Err(Error::invalid(format!(
                "'{name}' is not a mount name; use 1 to 63 of a-z, 0-9, '.', '-' and '_', \
                 starting with a letter or digit"
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A raw key below a mount: UTF-8, at most 1,024 bytes, no NUL; possibly empty (the mount itself).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// Checks `key`.
    ///
    /// # Errors
    /// `Invalid` when it is longer than 1,024 bytes or holds a NUL.
    pub fn new(key: &str) -> Result<Self> {
        if key.len() > KEY_LENGTH_MAX {
            let length = key.len();
            return Err(Error::invalid(format!(
                "the key has {length} bytes; at most {KEY_LENGTH_MAX} are allowed"
            )));
        }
        if key.contains('\0') {
            return Err(Error::invalid("the key holds a NUL character, which no store allows"));
        }
        Ok(Self(key.into()))
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names the mount itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// A file or directory in Larder's name space: `/mount/key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// Which mount.
    pub mount: MountName,
    /// Which key below it, raw.
    pub key: Key,
}

impl Path {
    /// A path from its checked parts.
    #[must_use]
    pub fn new(mount: MountName, key: Key) -> Self {
        Self { mount, key }
    }
}

impl FromStr for Path {
    type Err = Error;

    /// Reads `/mount/key`; all behind the second slash is the raw key.
    fn from_str(text: &str) -> Result<Self> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        let (mount, key) = bare.split_once('/').unwrap_or((bare, ""));
        Ok(Self { mount: MountName::new(mount)?, key: Key::new(key)? })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}", self.mount, self.key)
    }
}

/// `Display`, `Debug` and the conversions serde uses, the same for both checked strings.
macro_rules! checked_string {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(&text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.to_string()
            }
        }
    };
}

checked_string!(MountName);
checked_string!(Key);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_raw() {
        for key in ["a//b", "a/", "/a", "a+b %25 ü?#", "..", "a/./b", ""] {
            let path: Path = format!("/lake/{key}").parse().expect("a legal path");
            assert_eq!(path.key.as_str(), key);
            assert_eq!(path.to_string(), format!("/lake/{key}"));
        }
        assert_eq!("lake".parse::<Path>().expect("legal").key.as_str(), "");
        assert!("/Lake/x".parse::<Path>().is_err());
        assert!(Key::new(&"k".repeat(1025)).is_err());
        assert!(Key::new("a\0b").is_err());
        for wrong in ["", "-a", "a b", "é", &"m".repeat(64)] {
            assert!(MountName::new(wrong).is_err(), "{wrong}");
        }
    }
}
