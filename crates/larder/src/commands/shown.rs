// SPDX-License-Identifier: Apache-2.0
//! How values look to people.

use std::time::Duration;

use larder_client::message::RuleReport;
use larder_core::{ByteSize, Freshness, Priority, UnixMillis};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `2026-01-31T12:00:00Z`.
pub(super) fn instant(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} ms", at.0))
}

/// `250ms`, `12s`, `5m 3s`, `2h 1m`, `3d 4h`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// An amount of money in whatever currency prices are, `-` where there are none.
pub(super) fn cost(cost: Option<f64>) -> String {
    match cost {
        None => "-".to_owned(),
        Some(cost) if cost.abs() >= 1.0 || cost == 0.0 => format!("{cost:.2}"),
        Some(cost) => format!("{cost:.6}"),
    }
}

/// A share of a whole, `-` where there is no whole.
pub(super) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
}

/// The rule of a mount as the configuration has it.
pub(super) fn freshness(rule: Freshness) -> String {
    match rule {
        Freshness::Immutable => "immutable".to_owned(),
        Freshness::MaxAge(age) => duration(age),
        Freshness::Always => "always".to_owned(),
    }
}

/// `/lake/hot: pin 10 GiB, priority high`.
pub(super) fn rule(rule: &RuleReport) -> String {
    format!("{}: {}", rule.path, rule_settings(rule))
}

/// `pin 10 GiB, priority high, ttl 7d 0h, quota 20 GiB, quota 5 files`.
pub(super) fn rule_settings(rule: &RuleReport) -> String {
    if !rule.cache {
        return "never cached".to_owned();
    }
    let size = |name: &str, bytes: Option<u64>| bytes.map(|b| format!("{name} {}", ByteSize(b)));
    let said = [
        size("pin", rule.pin_bytes),
        (rule.priority != Priority::Normal).then(|| format!("priority {}", rule.priority)),
        rule.ttl_s.map(|ttl| format!("ttl {}", duration(Duration::from_secs(ttl)))),
        size("quota", rule.quota_bytes),
        rule.quota_files.map(|files| format!("quota {files} files")),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() { "nothing special".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(instant(UnixMillis(1_700_000_000_999)), "2023-11-14T22:13:20Z");
        assert_eq!(duration(Duration::from_millis(250)), "250ms");
        assert_eq!(duration(Duration::from_secs(183)), "3m 3s");
        assert_eq!(duration(Duration::from_secs(100_000)), "1d 3h");
        let costs = [None, Some(0.0), Some(-12.345), Some(0.000_42)].map(cost);
        assert_eq!(costs, ["-", "0.00", "-12.35", "0.000420"]);
        assert_eq!([percent(None), percent(Some(0.2345))], ["-", "23.4%"]);
        let mut told = RuleReport {
            path: "/lake/hot".into(),
            cache: true,
            pin_bytes: Some(10 << 30),
            priority: Priority::High,
            ttl_s: Some(90),
            quota_bytes: None,
            quota_files: Some(5),
            resident_bytes: 0,
            resident_files: 0,
        };
        assert_eq!(rule(&told), "/lake/hot: pin 10 GiB, priority high, ttl 1m 30s, quota 5 files");
        told.cache = false;
        assert_eq!(rule_settings(&told), "never cached");
    }
}
