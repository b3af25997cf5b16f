// SPDX-License-Identifier: Apache-2.0
//! Files of random bytes, the same in every run.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Result;
use larder_core::Random;

/// Files of one size.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Bytes of each.
    pub size: u64,
    /// How many.
    pub count: usize,
}

impl Set {
    /// What the set is called, in tables and as a directory: exact, so that no two sets meet.
    #[must_use]
    pub fn name(&self) -> String {
        match self.size {
            size if size.is_multiple_of(1 << 20) => format!("{}MiB", size >> 20),
            size if size.is_multiple_of(1 << 10) => format!("{}KiB", size >> 10),
            size => format!("{size}B"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_sizes_have_their_own_names_and_files_their_own_bytes() {
        let names = [65_535, 65_536, 65_537, 1 << 20].map(|size| Set { size, count: 1 }.name());
        assert_eq!(names, ["65535B", "64KiB", "65537B", "1MiB"]);
        let folder = tempfile::tempdir().unwrap();
        let set = Set { size: 1001, count: 2 };
        set.write(folder.path()).unwrap();
        let files: Vec<Vec<u8>> =
            set.paths().map(|path| fs::read(folder.path().join(path)).unwrap()).collect();
        assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), [1001, 1001]);
        assert_ne!(files[0], files[1]);
    }
}
