// SPDX-License-Identifier: Apache-2.0
//! Files of random bytes, the same in every run.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Result;
use larder_core::{ByteSize, Random};

/// Files of one size.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Bytes of each.
    pub size: u64,
    /// How many.
    pub count: usize,
}

impl Set {
    /// What the set is called, in tables and as a directory.
    #[must_use]
    pub fn name(&self) -> String {
        ByteSize(self.size).to_string().replace(' ', "")
    }

    /// The path of a file below the root of all sets.
    #[must_use]
    pub fn path(&self, index: usize) -> String {
        format!("{}/{index:05}", self.name())
    }

    /// The paths of all its files.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.count).map(|index| self.path(index))
    }

    /// Makes the files below `root`.
    pub fn write(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(root.join(self.name()))?;
        for (seed, path) in (self.size..).zip(self.paths()) {
            write_random(&root.join(path), self.size, seed)?;
        }
        Ok(())
    }
}

/// Makes one file of random bytes.
pub fn write_random(path: &Path, size: u64, seed: u64) -> Result<()> {
    let random = Random::seeded(seed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for _ in 0..size / 8 {
        file.write_all(&random.next().to_le_bytes())?;
    }
    let rest = usize::try_from(size % 8)?;
    file.write_all(&random.next().to_le_bytes()[..rest])?;
    file.into_inner()?;
    Ok(())
}
