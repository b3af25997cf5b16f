// SPDX-License-Identifier: Apache-2.0
//! CPU seconds of a process, all its threads, living and ended.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

/// User plus system time so far, in seconds (the kernel reports steps of 10 ms).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(seconds(Ticks::of(&format!("/proc/{pid}/stat"))?.own))
}

/// The same of all children of this process that have ended and were waited for.
pub fn cpu_seconds_of_children() -> Result<f64> {
    Ok(seconds(Ticks::of("/proc/self/stat")?.children))
}

/// The same of the living threads of a process, by name, the greatest first.
pub fn cpu_seconds_by_thread(pid: u32) -> Result<Vec<(String, f64)>> {
    let mut by_name = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path().join("stat");
        // A thread may end while the list is read.
        let Ok(ticks) = Ticks::of(&path.display().to_string()) else { continue };
        *by_name.entry(ticks.name).or_default() += ticks.own;
    }
    let mut sorted: Vec<(String, u64)> = by_name.into_iter().collect();
    sorted.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
    Ok(sorted.into_iter().map(|(name, ticks)| (name, seconds(ticks))).collect())
}

/// What a stat file says.
#[derive(Debug, PartialEq, Eq)]
struct Ticks {
    name: String,
    own: u64,
    children: u64,
}

impl Ticks {
    fn of(path: &str) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{path} is gone"))?;
        Self::parse(&text).with_context(|| format!("{path} is not as expected"))
    }

    /// Fields 14 to 17, counted behind the name, which may hold blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (front, fields) = stat.rsplit_once(')')?;
        let (_, name) = front.split_once('(')?;
        let fields = fields.split_ascii_whitespace().skip(11).take(4);
        let numbers: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = numbers?[..] else { return None };
        let (own, children) = (user + system, children_user + children_system);
        Some(Self { name: name.to_owned(), own, children })
    }
}

#[expect(clippy::cast_precision_loss, reason = "ticks of one process stay far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 9 0 0 0 250 50 7 8 20 0 1 0 99 1 1";
        let ticks = Ticks { name: "a) b (c".into(), own: 300, children: 15 };
        assert_eq!(Ticks::parse(stat), Some(ticks));
        assert_eq!(Ticks::parse("12 (x"), None);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(!cpu_seconds_by_thread(std::process::id()).unwrap().is_empty());
    }
}
