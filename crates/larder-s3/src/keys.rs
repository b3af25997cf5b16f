// SPDX-License-Identifier: Apache-2.0
//! The key pairs that may sign requests.
//!
//! A secret is held in a type that is wiped when dropped and that prints nothing of itself;
//! s3s takes a copy for the length of one request and wipes it too.

use std::{collections::HashMap, fmt};

use async_trait::async_trait;
use larder_core::{Error, Result};
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    auth::{S3Auth, SecretKey},
};

/// Access keys and their secrets.
#[derive(Clone, Default)]
pub struct Keys {
    secrets: HashMap<String, SecretKey>,
}

impl Keys {
    /// No key at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair; an access key that was there gets the new secret.
    ///
    /// # Errors
    /// `Invalid` when the access key could not stand in a signature or the secret is empty.
    pub fn insert(&mut self, access_key: &str, secret: String) -> Result<()> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || b"-_.@+=".contains(&c);
        if access_key.is_empty() || !access_key.bytes().all(legal) {
            return Err(Error::invalid(format!(
                "'{access_key}' is not an access key; use letters, digits and -_.@+="
            )));
        }
        if secret.is_empty() {
            return Err(Error::invalid(format!("the secret of access key {access_key} is empty")));
        }
        self.secrets.insert(access_key.to_owned(), SecretKey::from(secret));
        Ok(())
    }

    pub(crate) fn secret(&self, access_key: &str) -> Option<&SecretKey> {
        self.secrets.get(access_key)
    }

    /// Whether nobody can sign.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.secrets.keys()).finish()
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self.secret(access_key).cloned();
        secret.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidAccessKeyId))
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn debug_shows_access_keys_only() {
        let mut keys = Keys::new();
        keys.insert("LARDER1", "very-secret".into()).expect("legal");
        let shown = format!("{keys:?}");
        assert!(shown.contains("LARDER1") && !shown.contains("secret"), "{shown}");
        assert!(keys.insert("a/b", "x".into()).is_err());
        assert!(keys.insert("ok", String::new()).is_err());
    }
}
