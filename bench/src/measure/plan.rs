// SPDX-License-Identifier: Apache-2.0
//! How much is measured, and with what.

use std::{path::PathBuf, time::Duration};

use crate::process::larder::Store;

/// How much time a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A minute or two: enough to see a floor missed.
    Quick,
    /// Ten minutes or so: for figures that are written down.
    Full,
}

/// A store that is measured instead of a second Larder over a directory.
#[derive(Debug, Clone)]
pub struct RealOrigin {
    /// Where it is and its key pair.
    pub store: Store,
    /// A bucket that may be written to; made if it is missing.
    pub bucket: String,
}

/// What all benches are given.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How much time.
    pub effort: Effort,
    /// The program to measure.
    pub larder: PathBuf,
    /// Where scratch directories are made: a real disk, as Larder's cache would have.
    pub scratch: PathBuf,
    /// A real store for the miss bench.
    pub origin: Option<RealOrigin>,
}

impl Plan {
    /// Rounds, each with both sides.
    #[must_use]
    pub fn rounds(&self) -> usize {
        match self.effort {
            Effort::Quick => 3,
            Effort::Full => 9,
        }
    }

    /// How long a timed load runs.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        match self.effort {
            Effort::Quick => Duration::from_millis(1500),
            Effort::Full => Duration::from_secs(4),
        }
    }

    /// How long a load runs right before it is measured.
    #[must_use]
    pub fn warm_time(&self) -> Duration {
        self.load_time() / 5
    }

    /// A scratch directory that goes when its value is dropped.
    pub fn scratch_folder(&self) -> std::io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("larder-bench-").tempdir_in(&self.scratch)
    }
}
