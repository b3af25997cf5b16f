// SPDX-License-Identifier: Apache-2.0
//! A control group of the memory controller (version 1) with a limit, for one process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const CONTROLLER: &str = "/sys/fs/cgroup/memory";

/// A group that is removed when dropped; its processes must have ended by then.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
}

/// What a group's members take now, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Memory of their own, not backed by files.
    pub own: u64,
    /// Page cache that is charged to them.
    pub cache: u64,
}

impl MemoryGroup {
    /// Makes a group that may take `limit` bytes.
    pub fn new(limit: u64) -> Result<Self> {
        let path = Path::new(CONTROLLER).join(format!("larder-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| {
            format!("a memory limit needs root and control groups of version 1 at {CONTROLLER}")
        })?;
        let group = Self { path };
        fs::write(group.path.join("memory.limit_in_bytes"), limit.to_string())?;
        Ok(group)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its members take now.
    pub fn taken(&self) -> Result<Taken> {
        let text = self.read("memory.stat")?;
        let (own, cache) = (value(&text, "rss"), value(&text, "cache"));
        own.zip(cache)
            .map(|(own, cache)| Taken { own, cache })
            .context("memory.stat is not as expected")
    }

    /// The most they ever took together, as the kernel counts it: their own and page cache.
    pub fn peak(&self) -> Result<u64> {
        Ok(self.read("memory.max_usage_in_bytes")?.trim().parse()?)
    }

    /// Processes that the kernel killed because the limit was reached.
    pub fn kills(&self) -> Result<u64> {
        let text = self.read("memory.oom_control")?;
        value(&text, "oom_kill").context("memory.oom_control does not count kills")
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("the control group {} stays: {error}", self.path.display());
        }
    }
}

/// The number behind `name` on a line of its own.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "cache 5\nrss 7\nrss_huge 9\ntotal_rss 11\n";
        assert_eq!((value(text, "rss"), value(text, "cache")), (Some(7), Some(5)));
        assert_eq!(value(text, "huge"), None);
    }
}
