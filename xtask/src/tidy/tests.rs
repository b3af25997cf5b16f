// SPDX-License-Identifier: Apache-2.0
//! Each rule shown to fail on a small bad tree, and a good tree shown to pass.

use std::fs;

use super::{EXCEPTIONS, check};

const GOOD_SOURCE: &str = "// SPDX-License-Identifier: Apache-2.0\n//! A good file.\n";
const PAGES: &str = "[package]\nname = \"larder-pages\"\n";

/// The findings in a tree of these files, as `path rule`.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("below the scratch folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let found = check(folder.path()).expect("readable");
    found.iter().map(|finding| format!("{} {}", finding.path, finding.rule)).collect()
}

fn source(body: &str) -> String {
    format!("{GOOD_SOURCE}{body}")
}

/// A function of so many lines.
fn function(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2))
}

#[test]
fn a_good_tree_has_no_findings() {
    let long_tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(600));
    let files = [
        ("Cargo.toml", "[workspace.dependencies]\nlarder-core = { path = \"x\" }\nbytes = \"1\"\n"),
        ("docs/dependencies.md", "| `bytes` | shared buffers |\n"),
        (
            "crates/larder-pages/Cargo.toml",
            "[package]\nname = \"larder-pages\"\n[dependencies]\n\
          larder-core.workspace = true\nbytes = { workspace = true }\n",
        ),
        ("crates/larder-pages/src/lib.rs", &source(&function(70))),
        ("crates/larder-pages/src/tested.rs", &source(&long_tests)),
        ("crates/larder-pages/tests/it/main.rs", &source(&"// line\n".repeat(600))),
        ("target/common.rs", "dirty"),
    ];
    assert_eq!(findings(&files), Vec::<String>::new());
}

#[test]
fn the_exceptions_only_shrink() {
    assert_eq!(EXCEPTIONS.len(), 0);
}

#[test]
fn wrong_arrows_are_found_in_every_section() {
    for section in
        ["dependencies", "dev-dependencies", "build-dependencies", "target.x.dependencies"]
    {
        let manifest = format!("{PAGES}[{section}]\nlarder-ufs.workspace = true\n");
        let found = findings(&[("crates/larder-pages/Cargo.toml", &manifest)]);
        assert_eq!(found, ["crates/larder-pages/Cargo.toml arrow"], "{section}");
    }
    let renamed =
        format!("{PAGES}[dependencies]\nufs = {{ package = \"larder-ufs\", workspace = true }}\n");
    let found = findings(&[("crates/larder-pages/Cargo.toml", &renamed)]);
    assert_eq!(found, ["crates/larder-pages/Cargo.toml arrow"]);
}

#[test]
fn an_unknown_crate_and_a_misnamed_folder_are_found() {
    let found = findings(&[("crates/larder-new/Cargo.toml", "[package]\nname = \"larder-new\"\n")]);
    assert_eq!(found, ["crates/larder-new/Cargo.toml arrow"]);
    let found = findings(&[("crates/pages/Cargo.toml", PAGES)]);
    assert_eq!(found, ["crates/pages/Cargo.toml folder"]);
}

#[test]
fn dependencies_need_a_reason_and_one_version() {
    let root = "[workspace.dependencies]\nbytes = \"1\"\n";
    assert_eq!(findings(&[("Cargo.toml", root)]), ["Cargo.toml dependency"]);
    let found = findings(&[
        ("Cargo.toml", "[workspace.dependencies]\n"),
        ("docs/dependencies.md", "| `bytes` | gone |\n"),
    ]);
    assert_eq!(found, ["docs/dependencies.md dependency"]);
    let manifest = format!("{PAGES}[dependencies]\nbytes = \"1\"\n");
    let found = findings(&[
        ("Cargo.toml", root),
        ("docs/dependencies.md", "| `bytes` | buffers |\n"),
        ("crates/larder-pages/Cargo.toml", &manifest),
    ]);
    assert_eq!(found, ["crates/larder-pages/Cargo.toml dependency"]);
}

#[test]
fn empty_names_are_found() {
    assert_eq!(findings(&[("a/common/x.txt", "")]), ["a/common/x.txt name"]);
    assert_eq!(findings(&[("a/utils.rs", GOOD_SOURCE)]), ["a/utils.rs name"]);
    assert_eq!(findings(&[("a/base_line.rs", GOOD_SOURCE)]), Vec::<String>::new());
}

#[test]
fn a_file_opens_with_licence_and_doc() {
    assert_eq!(findings(&[("a.rs", "//! Doc.\n//! More.\n")]), ["a.rs licence"]);
    let bare = "// SPDX-License-Identifier: Apache-2.0\nfn a() {}\n";
    assert_eq!(findings(&[("a.rs", bare)]), ["a.rs module-doc"]);
}

#[test]
fn length_is_bounded() {
    assert_eq!(findings(&[("a.rs", &source(&"// x\n".repeat(499)))]), ["a.rs file-length"]);
    assert_eq!(findings(&[("a.rs", &source(&function(71)))]), ["a.rs function-length"]);
    let method = format!("struct A;\nimpl A {{\n{}}}\n", function(71));
    assert_eq!(findings(&[("a.rs", &source(&method))]), ["a.rs function-length"]);
    let long_line = format!("// {}\n", "ü".repeat(98));
    assert_eq!(findings(&[("a.rs", &source(&long_line))]), ["a.rs columns"]);
    assert_eq!(findings(&[("a.rs", &source("fn (\n"))]), ["a.rs syntax"]);
}

#[test]
fn a_test_module_counts_only_at_the_end_and_with_a_body() {
    let inside =
        format!("#[cfg(test)]\nmod tests {{\n{}}}\nfn last() {{}}\n", "// x\n".repeat(500));
    assert_eq!(findings(&[("a.rs", &source(&inside))]), ["a.rs file-length"]);
    let other = format!("#[cfg(unix)]\nmod tests {{\n{}}}\n", "// x\n".repeat(500));
    assert_eq!(findings(&[("a.rs", &source(&other))]), ["a.rs file-length"]);
}

#[test]
fn leftovers_are_found() {
    let lines = [
        concat!("to", "do!()"),
        concat!("db", "g!(x)"),
        concat!("// TO", "DO: later"),
        concat!("FIX", "ME"),
        concat!("see /ro", "ot/x"),
        concat!("see /ho", "me/me/x"),
        concat!("https://pypi.", "org/simple"),
    ];
    for line in lines {
        assert_eq!(findings(&[("a.md", line)]), ["a.md leftover"], "{line}");
    }
    assert_eq!(findings(&[("a.sh", "mktemp name.XXXXXX")]), Vec::<String>::new());
}

#[test]
fn promises_name_tests_that_exist() {
    let test = ("tests/t.py", "def test_it(larder):\n    pass\n");
    let page = |row: &str| format!("| promise | test |\n|---|---|\n{row}\n");
    let found = |row: &str| findings(&[("docs/semantics.md", &page(row)), test]);
    assert_eq!(found("| So it is. | `tests/t.py::test_it` |"), Vec::<String>::new());
    for row in [
        "| So it is. | `tests/t.py::test_other` |",
        "| So it is. | `tests/u.py::test_it` |",
        "| So it is. | we hope |",
    ] {
        assert_eq!(found(row), ["docs/semantics.md promise"], "{row}");
    }
    let faults = page("| a reset | `tests/t.py::test_other` |");
    let found = findings(&[("docs/reliability.md", &faults), test]);
    assert_eq!(found, ["docs/reliability.md promise"]);
}
