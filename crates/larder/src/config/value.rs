// SPDX-License-Identifier: Apache-2.0
//! Values as people write them: durations with a unit, freshness rules, prices, log levels.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use larder_core::{Error, Freshness};
use larder_worker::RulePath;
use serde::{Deserialize, Deserializer, de};

/// A duration: `60s`, `5m`, `1h`, `2d`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HumanDuration(pub(crate) Duration);

/// Units with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for HumanDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid(format!(
                "'{text}' is not a duration; write a whole number with a unit: 250ms, 60s, 5m, \
                 1h or 2d"
            ))
        };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let known = UNITS.iter().find(|(name, _)| *name == unit.trim());
        let millis = number.checked_mul(known.ok_or_else(wrong)?.1).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// Where a face listens: an IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.trim().parse().map(Self).map_err(|_| {
            Error::invalid(format!(
                "'{text}' is not an IP address with a port; write 127.0.0.1:9710, or 0.0.0.0:9710 \
                 to listen on every address"
            ))
        })
    }
}

/// The freshness rule of a mount: a duration, `immutable` or `always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) Freshness);

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "immutable" => Ok(Self(Freshness::Immutable)),
            "always" => Ok(Self(Freshness::Always)),
            other => {
                let wrong = |error: Error| {
                    Error::invalid(format!("{}; or 'immutable', or 'always'", error.message()))
                };
                let HumanDuration(age) = other.parse().map_err(wrong)?;
                Ok(Self(Freshness::MaxAge(age)))
            }
        }
    }
}

/// What something costs, in any currency: `0.09`, `5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Price(pub(crate) f64);

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let price = f64::deserialize(deserializer)?;
        if price.is_finite() && price >= 0.0 {
            return Ok(Self(price));
        }
        Err(de::Error::custom(format!("{price} is not a price; write a number from 0 on")))
    }
}

/// What a rule is for: a path of Larder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(pub(crate) RulePath);

impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self)
    }
}

/// How much is logged: a level or a filter of `tracing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) String);

impl FromStr for LogLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let directive = |part: &str| levels.contains(&part.rsplit('=').next().unwrap_or(part));
        if !text.split(',').all(|part| directive(part.trim())) {
            return Err(Error::invalid(format!(
                "'{text}' is not a log level; use error, warn, info, debug, trace or a filter \
                 such as info,larder_worker=debug"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::invalid(format!("'{text}' is not a log format; use text or json"))),
        }
    }
}

/// Deserialises a text by its `FromStr`, so that the error is the sentence written there.
struct Parsed<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = Error>> de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error: Error| E::custom(error.message()))
    }
}

/// `Type: "what it expects"`.
macro_rules! deserialize_by_from_str {
    ($($kind:ident: $expected:literal),* $(,)?) => {
        $(impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parsed(std::marker::PhantomData, $expected))
            }
        })*
    };
}

deserialize_by_from_str! {
    Listen: "an address in quotes, such as \"127.0.0.1:9710\"",
    HumanDuration: "a duration in quotes, such as \"60s\"",
    Rule: "a duration in quotes such as \"60s\", \"immutable\" or \"always\"",
    Prefix: "a path in quotes, such as \"/lake/hot\"",
    LogLevel: "a log level in quotes",
    LogFormat: "\"text\" or \"json\"",
}
