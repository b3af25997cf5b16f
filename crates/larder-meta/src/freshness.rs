// SPDX-License-Identifier: Apache-2.0
//! Whether a known fact may be used without asking the store. Pure: the caller brings the time.

use std::time::Duration;

use larder_core::{Freshness, UnixMillis};

use crate::{Fact, Known};

/// What a mount's freshness rule says of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be used as it is.
    Fresh,
    /// The store has to be asked first.
    Expired,
}

/// Judges `known` by `rule` at the time `now`; also tells its age.
#[must_use]
pub fn judge(known: &Known, rule: Freshness, now: UnixMillis) -> (Verdict, Duration) {
    let age = now.since(known.checked);
    let fresh = match known.fact {
        Fact::Present(_) => rule.allows(age),
        Fact::Absent => rule.allows_absence(age),
    };
    (if fresh { Verdict::Fresh } else { Verdict::Expired }, age)
}

#[cfg(test)]
mod tests {
    use larder_core::{Status, Version};

    use super::*;

    #[test]
    fn absence_ages_even_where_files_never_change() {
        let status = Status {
            length: 1,
            version: Version::new("v"),
            modified: UnixMillis(0),
            attributes: None,
        };
        let checked = UnixMillis(1_000);
        let present = Known { fact: Fact::Present(status), checked };
        let absent = Known { fact: Fact::Absent, checked };
        let rule = Freshness::MaxAge(Duration::from_secs(5));
        let verdict = |known, rule, now| judge(known, rule, UnixMillis(now)).0;

        assert_eq!(verdict(&present, rule, 6_000), Verdict::Fresh);
        assert_eq!(verdict(&present, rule, 6_001), Verdict::Expired);
        assert_eq!(verdict(&absent, rule, 6_001), Verdict::Expired);
        assert_eq!(verdict(&present, Freshness::Always, 1_000), Verdict::Expired);
        assert_eq!(verdict(&present, Freshness::Immutable, u64::MAX), Verdict::Fresh);
        assert_eq!(verdict(&absent, Freshness::Immutable, 61_000), Verdict::Fresh);
        assert_eq!(verdict(&absent, Freshness::Immutable, 61_001), Verdict::Expired);
        let (_, age) = judge(&present, rule, UnixMillis(500));
        assert_eq!(age, Duration::ZERO, "a clock that stepped back makes nothing old");
    }
}
