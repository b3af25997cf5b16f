// SPDX-License-Identifier: Apache-2.0
//! Rules that say which request is hurt and how.
//!
//! Rules are looked at in order and the first that fires is the one that counts. A rule counts
//! every request that fits its method and path, and fires from the `nth` on, `times` times.

use std::sync::{Mutex, PoisonError};

use http::Method;
use serde::{Deserialize, Serialize};

/// A match and what happens to the requests it picks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests; all of them when left out.
    #[serde(rename = "match", default)]
    pub picks: Pick,
    /// What happens to them.
    pub action: Action,
}

/// Which requests a rule picks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pick {
    /// The method, upper case; any when left out.
    pub method: Option<String>,
    /// A part of the raw path and query; any when left out.
    pub path_contains: Option<String>,
    /// The first fitting request that is picked, counted from 1.
    pub nth: u64,
    /// How many are picked from there on; all when left out.
    pub times: Option<u64>,
}

impl Default for Pick {
    fn default() -> Self {
        Self { method: None, path_contains: None, nth: 1, times: None }
    }
}

/// What happens to a picked request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Goes to the origin this much later.
    Delay {
        /// Milliseconds, on top of the delay of the proxy.
        ms: u64,
    },
    /// Is answered by the proxy; the origin never sees it.
    Status {
        /// The HTTP status.
        code: u16,
        /// The reply's body.
        #[serde(default)]
        body: String,
        /// Seconds for a `Retry-After` header.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The reply's body breaks off after so many bytes by a reset of the connection.
    CutAfter {
        /// Body bytes that still pass.
        bytes: u64,
    },
    /// The reply's body stops after so many bytes, and goes on after a while.
    StallAfter {
        /// Body bytes that pass before.
        bytes: u64,
        /// Milliseconds until it goes on.
        ms: u64,
    },
    /// The reply's body flows at this rate.
    Slow {
        /// Bytes per second of this one reply.
        bytes_per_s: u64,
    },
    /// The connection is closed without any reply; the origin never sees the request.
    Drop,
    /// The reply promises its whole length and the connection is closed in order after less.
    Truncate {
        /// Body bytes that still pass.
        bytes: u64,
    },
    /// The reply's Content-Range names a range one byte further than what was asked.
    WrongRange,
    /// The reply tells a length that is so many bytes too short, and ends there.
    WrongLength {
        /// Bytes at the end that the reply knows nothing of.
        less: u64,
    },
    /// The origin is asked for the whole where a part was wanted. The request goes on without its
    /// signature, which holds the range: the object must be public.
    WholeForRange,
    /// The reply has another entity tag and other bytes.
    OtherVersion,
}

/// A rule and how often it was met.
#[derive(Debug, Clone, Serialize)]
pub struct RuleCount {
    /// The rule as it was given.
    #[serde(flatten)]
    pub rule: Rule,
    /// Requests that fitted its method and path.
    pub fitted: u64,
    /// Requests it hurt.
    pub fired: u64,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<RuleCount>>);

impl Faults {
    /// Replaces all rules.
    pub fn set(&self, rules: Vec<Rule>) {
        let fresh = rules.into_iter().map(|rule| RuleCount { rule, fitted: 0, fired: 0 });
        *self.lock() = fresh.collect();
    }

    /// The rules with their counts.
    #[must_use]
    pub fn list(&self) -> Vec<RuleCount> {
        self.lock().clone()
    }

    /// Counts a request and gives what shall happen to it.
    #[must_use]
    pub fn pick(&self, method: &Method, path: &str) -> Option<Action> {
        let mut rules = self.lock();
        for counted in rules.iter_mut() {
            let picks = &counted.rule.picks;
            let fits = picks.method.as_deref().is_none_or(|wanted| wanted == method.as_str())
                && picks.path_contains.as_deref().is_none_or(|part| path.contains(part));
            if !fits {
                continue;
            }
            counted.fitted += 1;
            let spent = picks.times.is_some_and(|times| counted.fired >= times);
            if counted.fitted >= picks.nth && !spent {
                counted.fired += 1;
                return Some(counted.rule.action.clone());
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RuleCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nth_and_times_pick_exactly_those_requests() {
        let rules = r#"[{"match": {"method": "GET", "path_contains": "a+b", "nth": 2, "times": 2},
            "action": "drop"}, {"action": {"status": {"code": 503, "retry_after": 1}}}]"#;
        let faults = Faults::default();
        faults.set(serde_json::from_str(rules).unwrap());
        let dropped: Vec<bool> =
            (0..5).map(|_| faults.pick(&Method::GET, "/x/a+b?q") == Some(Action::Drop)).collect();
        assert_eq!(dropped, [false, true, true, false, false]);
        let other = faults.pick(&Method::HEAD, "/x/a+b");
        assert!(matches!(other, Some(Action::Status { code: 503, .. })));
        assert_eq!(faults.list().iter().map(|rule| rule.fired).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        for wrong in [
            r#"[{"action": "explode"}]"#,
            r#"[{"match": {"verb": "GET"}, "action": "drop"}]"#,
            r#"[{"action": {"cut_after": {"byte": 1}}}]"#,
        ] {
            assert!(serde_json::from_str::<Vec<Rule>>(wrong).is_err(), "{wrong}");
        }
    }
}
