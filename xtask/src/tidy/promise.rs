// SPDX-License-Identifier: Apache-2.0
//! Promises to users: every row of a table in these pages names a test, and the test it names
//! exists.

use super::{
    Finding,
    tree::{File, Tree},
};

const PAGES: [&str; 2] = ["docs/semantics.md", "docs/reliability.md"];

/// Looks up every test that the pages name, as `` `path::name` `` in the last column.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for page in PAGES.iter().filter_map(|path| tree.file(path)) {
        check_page(tree, page, findings);
    }
}

fn check_page(tree: &Tree, page: &File, findings: &mut Vec<Finding>) {
    for (index, line) in page.text.lines().enumerate() {
        let Some(cell) = last_cell(line) else { continue };
        let wrong = match cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
            None => Some("names no test that holds it".to_owned()),
            Some(test) if exists(tree, test) => None,
            Some(test) => Some(format!("there is no test `{test}`")),
        };
        let found =
            wrong.map(|sentence| Finding::new(&page.path, "promise", sentence).at(index + 1));
        findings.extend(found);
    }
}

/// The last cell of a row, unless the row is a head or the line below it.
fn last_cell(line: &str) -> Option<&str> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cell = row.rsplit('|').next()?.trim();
    (cell != "test" && !cell.starts_with("---")).then_some(cell)
}

fn exists(tree: &Tree, test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let heads = [format!("def {name}("), format!("fn {name}(")];
    tree.file(path).is_some_and(|file| heads.iter().any(|head| file.text.contains(head)))
}
