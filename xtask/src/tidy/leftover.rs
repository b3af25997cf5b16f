// SPDX-License-Identifier: Apache-2.0
//! What must not be left behind in any text: unfinished places, and what names one machine or
//! the host a package was fetched from.

use super::{Finding, tree::Tree};

/// Searched as they are. Written in halves, so that this file does not find itself.
const TEXTS: [(&str, &str); 12] = [
    (concat!("to", "do!("), "unfinished"),
    (concat!("unimple", "mented!("), "unfinished"),
    (concat!("db", "g!("), "unfinished"),
    (concat!("/ro", "ot/"), "names a folder of one machine"),
    (concat!("/ho", "me/"), "names a folder of one machine"),
    (concat!("/wo", "rk/"), "names a folder of one machine"),
    (concat!("pypi.", "org"), "names a package host"),
    (concat!("python", "hosted.org"), "names a package host"),
    (concat!("static.", "crates.io"), "names a package host"),
    (concat!("index.", "crates.io"), "names a package host"),
    (concat!("npmjs.", "org"), "names a package host"),
    (concat!("deb.", "debian.org"), "names a package host"),
];

/// Searched as whole words.
const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Looks at every line but those of the lock file, which cargo writes.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path != "Cargo.lock") {
        for (index, line) in file.text.lines().enumerate() {
            for what in said(line) {
                findings.push(Finding::new(&file.path, "leftover", what).at(index + 1));
            }
        }
    }
}

fn said(line: &str) -> Vec<String> {
    let texts = TEXTS.iter().filter(|(text, _)| line.contains(text));
    let texts = texts.map(|(text, why)| format!("`{text}`: {why}"));
    let words = line.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| WORDS.contains(word));
    texts.chain(words.map(|word| format!("`{word}`: unfinished"))).collect()
}
