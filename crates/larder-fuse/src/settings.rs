// SPDX-License-Identifier: Apache-2.0
//! What may be set about the FUSE face.

use std::{num::NonZeroU16, thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Passthrough;

/// Settings of the FUSE face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Threads that take requests from the kernel and answer what is resident. They never wait
    /// for a store, so few are enough: as many as there are cores, at least 2 and at most 8.
    pub threads: NonZeroU16,
    /// After so many seconds a file system call that still waits for a store fails with EIO.
    pub operation_timeout_s: NonZeroU16,
    /// Lets other users than the one who runs Larder use the mount. Unless that is root, it needs
    /// `user_allow_other` in /etc/fuse.conf.
    pub allow_other: bool,
    /// Whether the kernel may read files that lie whole on this machine by itself.
    pub passthrough: Passthrough,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let threads = u16::try_from(cores).ok().and_then(NonZeroU16::new);
        Self {
            threads: threads.expect("between 2 and 8"),
            operation_timeout_s: const { NonZeroU16::new(60).expect("60 is not zero") },
            allow_other: false,
            passthrough: Passthrough::Auto,
        }
    }
}

impl Settings {
    pub(crate) fn operation_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.operation_timeout_s.get()))
    }
}
