// SPDX-License-Identifier: Apache-2.0
//! Whether the process serves: a list of what is not yet (or no longer) there.
//!
//! A store that is down does not belong here: what is resident can still be read, and taking the
//! process out of a load balancer would make that worse.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What still has to happen before the process is ready. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

impl Readiness {
    /// Not ready until each of `parts` was named in [`Readiness::set_ready`].
    #[must_use]
    pub fn waiting_for(parts: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new(parts.iter().copied().collect())))
    }

    /// `part` serves now.
    pub fn set_ready(&self, part: &'static str) {
        self.missing_parts().remove(part);
    }

    /// `part` does not serve any more.
    pub fn set_missing(&self, part: &'static str) {
        self.missing_parts().insert(part);
    }

    /// Why the process is not ready, a sentence; `None` when it is.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let missing: Vec<&str> = self.missing_parts().iter().copied().collect();
        (!missing.is_empty()).then(|| format!("waiting for: {}", missing.join(", ")))
    }

    fn missing_parts(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
