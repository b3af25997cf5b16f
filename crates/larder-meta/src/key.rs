// SPDX-License-Identifier: Apache-2.0
//! The spelling of a status's key: mount name, a zero byte, the raw key.
//!
//! Neither part can hold a zero byte, so byte order is the order of (mount, key), and all of a
//! mount, or of a prefix below it, lies together.

use larder_core::{Key, MountName, Path};

/// The bytes under which the status of `path` is kept: at most 63 + 1 + 1,024.
pub(crate) fn of_path(path: &Path) -> Vec<u8> {
    of_prefix(&path.mount, path.key.as_str())
}

/// The bytes that all keys of `mount` with this raw prefix start with.
pub(crate) fn of_prefix(mount: &MountName, prefix: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(mount.as_str().len() + 1 + prefix.len());
    bytes.extend_from_slice(mount.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(prefix.as_bytes());
    bytes
}

/// The raw key behind the mount's name; `None` when the bytes are not such a key.
pub(crate) fn raw_key(bytes: &[u8]) -> Option<Key> {
    let zero = bytes.iter().position(|byte| *byte == 0)?;
    Key::new(std::str::from_utf8(&bytes[zero + 1..]).ok()?).ok()
}
