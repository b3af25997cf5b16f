// SPDX-License-Identifier: Apache-2.0
//! Third-party dependencies: each named once, in the root manifest, with a line in
//! `docs/dependencies.md` that says why; and no line there for what is gone.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Finding, tree::Tree};

const PAGE: &str = "docs/dependencies.md";
const ROOT: &str = "Cargo.toml";
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Compares the root manifest with the page, and the crates' manifests with the root.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let Some(root) = tree.file(ROOT) else { return Ok(()) };
    let manifest: Table = root.text.parse().context(ROOT)?;
    let named: Vec<&str> = third_party(&manifest);
    let page = tree.file(PAGE).map_or("", |file| file.text.as_str());
    let explained: Vec<&str> = page.lines().filter_map(row_name).collect();
    for name in &named {
        if !explained.contains(name) {
            let sentence = format!("'{name}' has no line in {PAGE} that says why");
            findings.push(Finding::new(ROOT, "dependency", sentence));
        }
    }
    for name in explained {
        if !named.contains(&name) {
            let sentence = format!("'{name}' is no dependency any more; delete its line");
            findings.push(Finding::new(PAGE, "dependency", sentence));
        }
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest: Table = file.text.parse().with_context(|| file.path.clone())?;
        for name in versioned(&manifest) {
            let sentence = format!("'{name}' names its own version; take it from the workspace");
            findings.push(Finding::new(&file.path, "dependency", sentence));
        }
    }
    Ok(())
}

/// The dependencies of the workspace that are not our own crates.
fn third_party(manifest: &Table) -> Vec<&str> {
    let table = manifest.get("workspace").and_then(|w| w.get("dependencies")?.as_table());
    let all = table.into_iter().flatten();
    all.filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name.as_str()).collect()
}

/// The dependencies of one crate that do not come from the workspace.
fn versioned(manifest: &Table) -> Vec<&str> {
    let sections = SECTIONS.iter().filter_map(|section| manifest.get(*section)?.as_table());
    let inherited =
        |value: &Value| value.get("workspace").is_some_and(|w| w.as_bool() == Some(true));
    sections.flatten().filter(|(_, v)| !inherited(v)).map(|(name, _)| name.as_str()).collect()
}

/// The name in a row of the page: ``| `name` | …``.
fn row_name(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)
}
