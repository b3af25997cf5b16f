// SPDX-License-Identifier: Apache-2.0
//! Opening the memory map: the one place of this crate that needs `unsafe`.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions};

/// Threads that may read at the same time; a slot costs 64 bytes of the engine's lock file.
const READERS_MAX: u32 = 4096;
/// Named trees: statuses, residency, about.
const TREES_MAX: u32 = 3;

/// Whether the kernel should read ahead in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadAhead {
    /// While the file fits in memory: it warms up in large reads.
    Kernel,
    /// Once it does not: read-ahead would evict what is needed for what is not.
    Off,
}

/// Opens or creates the environment in `directory`, which the caller has claimed.
#[expect(unsafe_code, reason = "a memory map is only sound while nobody else changes the file")]
pub(crate) fn open(directory: &Path, map_bytes: usize, ahead: ReadAhead) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes).max_readers(READERS_MAX).max_dbs(TREES_MAX);
    if ahead == ReadAhead::Off {
        // SAFETY: NO_READ_AHEAD changes advice to the kernel only; no locking, no syncing.
        unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
    }
    // SAFETY: The directory is on a local file system and claimed by an exclusive lock for as
    // long as the environment lives (`directory.rs`), so that no other process maps or changes
    // the file; this process changes it through the engine alone, whose locking stays on.
    unsafe { options.open(directory) }
}
