// SPDX-License-Identifier: Apache-2.0
//! Names of segments are hashes already: maps by name take them as they are.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds the hasher of a map by name.
pub(super) type NameHasher = BuildHasherDefault<Name>;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Name(u64);

impl Hasher for Name {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, name: u64) {
        self.0 = name;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
