// SPDX-License-Identifier: Apache-2.0
//! Which crate may use which, dev-dependencies included, and that a folder is named as its crate.
//!
//! The table is that of ARCHITECTURE.md; a new arrow changes both in one commit.

use anyhow::{Context, Result};
use toml::Table;

use super::{Finding, tree::Tree};

/// What a crate of the workspace may use of the workspace.
const ARROWS: [(&str, &[&str]); 13] = [
    ("larder-core", &[]),
    ("larder-ufs", &["larder-core"]),
    ("larder-pages", &["larder-core"]),
    ("larder-meta", &["larder-core"]),
    ("larder-cluster", &["larder-core"]),
    ("larder-client", &["larder-core", "larder-cluster", "larder-ufs"]),
    (
        "larder-worker",
        &["larder-core", "larder-ufs", "larder-pages", "larder-meta", "larder-cluster"],
    ),
    ("larder-fuse", &["larder-core", "larder-client"]),
    ("larder-s3", &["larder-core", "larder-client"]),
    ("larder-http", &["larder-core", "larder-client"]),
    ("larder", ROOMS),
    ("larder-bench", ROOMS),
    ("xtask", &[]),
];

/// Every library of the workspace.
const ROOMS: &[&str] = &[
    "larder-core",
    "larder-ufs",
    "larder-pages",
    "larder-meta",
    "larder-cluster",
    "larder-client",
    "larder-worker",
    "larder-fuse",
    "larder-s3",
    "larder-http",
];

/// What a face's tests may use beside that: they stand in for the worker, whose interface is there.
const FACE_TESTS: (&[&str], &str) =
    (&["larder-fuse", "larder-s3", "larder-http"], "larder-cluster");

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Compares every manifest with the table.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    for file in &tree.files {
        let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { continue };
        let manifest: Table = file.text.parse().with_context(|| file.path.clone())?;
        let Some(name) = package_name(&manifest) else {
            findings.push(Finding::new(&file.path, "arrow", "names no package"));
            continue;
        };
        if folder.strip_prefix("crates/").is_some_and(|folder| folder != name) {
            let sentence = format!("the folder holds the package '{name}'; name both the same");
            findings.push(Finding::new(&file.path, "folder", sentence));
        }
        let Some((_, may)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            let sentence =
                format!("'{name}' is not in the table of arrows (xtask, ARCHITECTURE.md)");
            findings.push(Finding::new(&file.path, "arrow", sentence));
            continue;
        };
        for used in ours(&manifest) {
            if !may.contains(&used.as_str()) {
                let sentence = format!("'{name}' may not use '{used}'");
                findings.push(Finding::new(&file.path, "arrow", sentence));
            }
        }
    }
    Ok(())
}

fn package_name(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

/// The crates of the workspace that a manifest names, in all sections and for all targets.
fn ours(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let tables = targets.into_iter().flat_map(|table| table.values());
    let tables = tables.filter_map(|target| target.as_table()).chain([manifest]);
    let stands_in = |used: &str| {
        let (faces, worker_interface) = FACE_TESTS;
        used == worker_interface && package_name(manifest).is_some_and(|name| faces.contains(&name))
    };
    let mut names = Vec::new();
    for table in tables {
        for kind in SECTIONS {
            let Some(section) = table.get(kind).and_then(|value| value.as_table()) else {
                continue;
            };
            // A dependency may be renamed: then `package` says what it is.
            let package = |value: &toml::Value| {
                value.get("package").and_then(|name| name.as_str()).map(str::to_owned)
            };
            let all =
                section.iter().map(|(key, value)| package(value).unwrap_or_else(|| key.clone()));
            let ours = all.filter(|name| ARROWS.iter().any(|(known, _)| known == name));
            names.extend(ours.filter(|name| !(kind == "dev-dependencies" && stands_in(name))));
        }
    }
    names
}
