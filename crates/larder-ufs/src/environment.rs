// SPDX-License-Identifier: Apache-2.0
//! The seam through which environment variables enter: a snapshot taken once, so that a test can
//! give its own and nothing changes under a running mount.

use std::{collections::HashMap, fmt, path::PathBuf};

/// Environment variables and the home directory. Values are secrets until proven otherwise, so
/// `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
    home: Option<PathBuf>,
}

impl Environment {
    /// What this process was started with; variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables, home: std::env::home_dir() }
    }

    /// Exactly these variables and no home directory; for tests.
    #[must_use]
    pub fn fixed<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { variables: variables.into_iter().map(owned).collect(), home: None }
    }

    /// The first of `names` that is set to something.
    #[must_use]
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        let set = |name: &&str| self.variables.get(*name).filter(|value| !value.is_empty());
        names.iter().find_map(set).map(String::as_str)
    }

    /// All variables.
    pub(crate) fn variables(&self) -> &HashMap<String, String> {
        &self.variables
    }

    /// The home directory.
    pub(crate) fn home(&self) -> Option<&PathBuf> {
        self.home.as_ref()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
