// SPDX-License-Identifier: Apache-2.0
//! Names that say nothing: a room is named by what it holds.

use super::{Finding, tree::Tree};

const BANNED: [&str; 10] =
    ["common", "util", "utils", "helper", "helpers", "type", "types", "base", "misc", "shared"];

/// Looks at every folder and file name.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if BANNED.contains(&stem) {
                let sentence = format!("'{stem}' says nothing; name it by what it holds");
                findings.push(Finding::new(&file.path, "name", sentence));
            }
        }
    }
}
