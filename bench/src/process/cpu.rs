// SPDX-License-Identifier: Apache-2.0
//! CPU seconds of a process, all its threads, living and ended.

use anyhow::{Context, Result};

/// User plus system time so far, in seconds (the kernel reports steps of 10 ms).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let ticks = parse_ticks(&text).context("/proc/PID/stat is not as expected")?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of one process stay far below 2^52")]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15, counted behind the name, which may hold blanks and parentheses.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 9 0 0 0 250 50 7 7 20 0 1 0 99 1 1";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks("12 (x"), None);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
