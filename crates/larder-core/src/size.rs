// SPDX-License-Identifier: Apache-2.0
//! Sizes with units, as people write them in configuration and on the command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// A number of bytes. Reads `65536`, `64KiB`, `64K` (binary), `10GB` (decimal), `1.5TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// Each unit with its number of bytes; the first of each size is the one printed.
const UNITS: [(&str, u64); 16] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("P", 1 << 50),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid(format!(
                "'{text}' is not a size; write a number with a unit, such as 64KiB, 10GiB or 1.5TB"
            ))
        };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = trimmed.split_at(digits.unwrap_or(trimmed.len()));
        let unit = unit.trim();
        let scale = if unit.is_empty() {
            1
        } else {
            let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.ok_or_else(wrong)?.1
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(scale).map(Self).ok_or_else(wrong);
        }
        let fraction: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = fraction * scale as f64;
        if !bytes.is_finite() || bytes < 0.0 || bytes >= u64::MAX as f64 {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS[..6].iter().rev().find(|(_, scale)| self.0 >= *scale);
        let (name, scale) = binary.unwrap_or(&UNITS[0]);
        if self.0.is_multiple_of(*scale) {
            write!(f, "{} {name}", self.0 / scale)
        } else {
            write!(f, "{:.1} {name}", self.0 as f64 / *scale as f64)
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.to_string().replace(' ', ""))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_units() {
        let parse = |text: &str| text.parse::<ByteSize>().map(|size| size.0).ok();
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("64KiB"), Some(65536));
        assert_eq!(parse("64 k"), Some(65536));
        assert_eq!(parse("10GB"), Some(10_000_000_000));
        assert_eq!(parse("1.5MiB"), Some(1_572_864));
        for wrong in ["", "x", "10 parsecs", "-1", "99999999999PiB", "1.2.3K"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize(1 << 30).to_string(), "1 GiB");
    }
}
