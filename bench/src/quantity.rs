// SPDX-License-Identifier: Apache-2.0
//! Durations and rates as they are written on the command line: `20ms`, `2Gbit`, `250MB`.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result, bail};
use larder_core::ByteSize;

/// A duration with its unit: `250us`, `20ms`, `1.5s`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 =
        number.parse().with_context(|| format!("'{text}' is not a duration such as 20ms"))?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => bail!("'{text}' needs a unit: us, ms, s or m"),
    };
    Duration::try_from_secs_f64(seconds).with_context(|| format!("'{text}' is too long"))
}

/// Bytes per second, written in bits (`2Gbit`, `800Mbit`) or bytes (`250MB`, `1GiB`).
pub fn parse_rate(text: &str) -> Result<u64> {
    let text = text.trim().trim_end_matches("/s");
    let rate = match text.strip_suffix("bit") {
        Some(bits) => ByteSize::from_str(&format!("{bits}B"))?.0 / 8,
        None => ByteSize::from_str(text)?.0,
    };
    if rate == 0 {
        bail!("a rate of zero moves nothing: write for example 2Gbit, or leave the rate out");
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("20ms").unwrap(), Duration::from_millis(20));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        for wrong in ["", "20", "ms", "1h", "-1s", "1e400s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_bits_or_bytes() {
        assert_eq!(parse_rate("2Gbit").unwrap(), 250_000_000);
        assert_eq!(parse_rate("800Mbit/s").unwrap(), 100_000_000);
        assert_eq!(parse_rate("250MB/s").unwrap(), 250_000_000);
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("fast").is_err());
    }
}
