// SPDX-License-Identifier: Apache-2.0
//! The rules of the house that a machine can hold: one file per kind of rule, each a pure look
//! at the tree that gives findings. A rule is shown to fail by a small bad tree in its tests.

mod arrow;
mod dependency;
mod finding;
mod leftover;
mod name;
mod promise;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use anyhow::Result;

pub(crate) use finding::Finding;
use tree::Tree;

/// What may stay as it is for now, as (path, rule). This list may only shrink.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// All findings in the tree below `root`, by path and line.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = Vec::new();
    arrow::check(&tree, &mut findings)?;
    dependency::check(&tree, &mut findings)?;
    name::check(&tree, &mut findings);
    source::check(&tree, &mut findings);
    leftover::check(&tree, &mut findings);
    promise::check(&tree, &mut findings);
    findings.retain(|finding| !EXCEPTIONS.contains(&(finding.path.as_str(), finding.rule)));
    findings.sort();
    Ok(findings)
}
