// SPDX-License-Identifier: Apache-2.0
//! How much memory this process may use: what its control groups (v1 and v2) and the machine
//! allow, whichever is least.

use std::{fs, path::Path};

use larder_core::ByteSize;

/// The default budget is this part of the limit.
const BUDGET_PART: u64 = 4;
/// But never less than this.
const BUDGET_MIN: u64 = 64 << 20;

/// A limit and who sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// Bytes.
    pub(crate) limit: ByteSize,
    /// `the control group …` or `the machine`.
    pub(crate) set_by: String,
}

/// What holds for this process.
pub(crate) fn memory_limit() -> MemoryLimit {
    limit_below(Path::new("/"))
}

/// The memory budget where none is configured.
pub(crate) fn default_budget(limit: &MemoryLimit) -> ByteSize {
    ByteSize((limit.limit.0 / BUDGET_PART).max(BUDGET_MIN))
}

/// The same as [`memory_limit`] with another root, for tests.
fn limit_below(root: &Path) -> MemoryLimit {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let machine = MemoryLimit {
        limit: ByteSize(total_of_machine(&read("proc/meminfo"))),
        set_by: "the machine".to_owned(),
    };
    let groups = read("proc/self/cgroup");
    let limits = groups.lines().flat_map(|line| limits_of(root, line));
    limits.chain([machine]).min_by_key(|limit| limit.limit).expect("the machine is always there")
}

/// Limits of a group and of all groups above it; each may be the least.
fn limits_of(root: &Path, line: &str) -> Vec<MemoryLimit> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(group.trim_start_matches('/'));
    let limit_at = |ancestor: &Path| {
        let path = root.join(mount).join(ancestor).join(file);
        let limit = fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()?;
        let set_by = format!("the control group /{}", ancestor.display());
        Some(MemoryLimit { limit: ByteSize(limit), set_by })
    };
    // Inside a container the group's own path does not exist; the root of the mount is it then.
    group.ancestors().filter_map(limit_at).collect()
}

fn total_of_machine(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    // Without /proc something small is assumed rather than everything.
    kib.map_or(1 << 30, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> MemoryLimit {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("not the root")).expect("made");
            fs::write(path, text).expect("written");
        }
        limit_below(root.path())
    }

    #[test]
    fn the_least_limit_holds() {
        let meminfo = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:       8388608 kB\n");
        assert_eq!(machine(&[meminfo]).limit, ByteSize(8 << 30));
        let v2 = machine(&[
            meminfo,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ]);
        assert_eq!(v2.limit, ByteSize(1 << 30));
        assert_eq!(v2.set_by, "the control group /a");
        let v1 = machine(&[
            meminfo,
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "536870912"),
        ]);
        assert_eq!(v1.limit, ByteSize(512 << 20));
        assert_eq!(default_budget(&v1), ByteSize(128 << 20));
        assert_eq!(default_budget(&MemoryLimit { limit: ByteSize(1), ..v1 }), ByteSize(64 << 20));
    }
}
