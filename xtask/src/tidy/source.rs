// SPDX-License-Identifier: Apache-2.0
//! The shape of a Rust file: its licence line and module doc, its length without tests, the
//! length of its lines and of its functions.
//!
//! Tests do not count in a file's length: files below a `tests` folder or named `tests.rs`, and a
//! `#[cfg(test)]` module at the end of a file. They are held to the other rules.

use proc_macro2::Span;
use syn::{
    Attribute, Block, ImplItemFn, Item, ItemFn, Signature, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    Finding,
    tree::{File, Tree},
};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0";

/// Looks at every Rust file.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        head(file, findings);
        columns(file, findings);
        match syn::parse_file(&file.text) {
            Ok(parsed) => {
                length(file, &parsed, findings);
                functions(file, &parsed, findings);
            }
            Err(error) => {
                let found = Finding::new(&file.path, "syntax", format!("does not parse: {error}"));
                findings.push(found.at(error.span().start().line));
            }
        }
    }
}

/// The licence line first, then the module doc.
fn head(file: &File, findings: &mut Vec<Finding>) {
    let mut lines = file.text.lines();
    if lines.next() != Some(LICENCE) {
        let sentence = format!("the first line is not `{LICENCE}`");
        findings.push(Finding::new(&file.path, "licence", sentence).at(1));
    }
    let says = |line: &str| line.strip_prefix("//!").is_some_and(|doc| !doc.trim().is_empty());
    if !lines.find(|line| !line.trim().is_empty()).is_some_and(says) {
        let sentence = "no `//!` that says what it is and why, right behind the licence";
        findings.push(Finding::new(&file.path, "module-doc", sentence).at(2));
    }
}

fn columns(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let sentence = format!("{columns} columns; at most {COLUMNS_MAX}");
            findings.push(Finding::new(&file.path, "columns", sentence).at(index + 1));
        }
    }
}

fn length(file: &File, parsed: &syn::File, findings: &mut Vec<Finding>) {
    let is_tests = file.path.starts_with("tests/")
        || file.path.contains("/tests/")
        || file.path.ends_with("/tests.rs");
    if is_tests {
        return;
    }
    let tests = parsed.items.last().map_or(0, test_module_lines);
    let lines = file.text.lines().count() - tests;
    if lines > FILE_LINES_MAX {
        let sentence = format!("{lines} lines without tests; at most {FILE_LINES_MAX}");
        findings.push(Finding::new(&file.path, "file-length", sentence));
    }
}

/// The lines of `item` if it is a test module with a body.
fn test_module_lines(item: &Item) -> usize {
    let Item::Mod(module) = item else { return 0 };
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    if module.content.is_none() || !module.attrs.iter().any(is_test) {
        return 0;
    }
    lines(module.span(), module.span())
}

fn functions(file: &File, parsed: &syn::File, findings: &mut Vec<Finding>) {
    let mut measure = Measure { path: &file.path, findings };
    measure.visit_file(parsed);
}

/// Walks a file and notes functions that are too long.
struct Measure<'a> {
    path: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Measure<'_> {
    fn function(&mut self, signature: &Signature, body: &Block) {
        let lines = lines(signature.span(), body.span());
        if lines > FUNCTION_LINES_MAX {
            let name = &signature.ident;
            let sentence = format!("`{name}` has {lines} lines; at most {FUNCTION_LINES_MAX}");
            let found = Finding::new(self.path, "function-length", sentence);
            self.findings.push(found.at(signature.span().start().line));
        }
    }
}

impl<'ast> Visit<'ast> for Measure<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Lines from the first of `from` to the last of `to`.
fn lines(from: Span, to: Span) -> usize {
    to.end().line + 1 - from.start().line
}
