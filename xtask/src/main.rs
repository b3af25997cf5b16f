// SPDX-License-Identifier: Apache-2.0
//! Chores of the house that are more than one shell line: `cargo xtask tidy` checks what the
//! compiler and clippy do not, `cargo xtask config-docs` keeps `docs/config.md` true to the code.
//!
//! It knows the tree only as files; it links nothing of Larder, so that it builds in seconds.

mod config_docs;
mod tidy;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask tidy | config-docs [--check]";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments name; false when it found something wrong.
fn run() -> Result<bool> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => {
            let findings = tidy::check(&root())?;
            for finding in &findings {
                eprintln!("{finding}");
            }
            match findings.len() {
                0 => println!("tidy: nothing to say"),
                count => eprintln!("tidy: {count} findings"),
            }
            Ok(findings.is_empty())
        }
        ["config-docs"] => config_docs::write(&root()),
        ["config-docs", "--check"] => config_docs::check(&root()),
        _ => bail!(USAGE),
    }
}

/// The folder of the workspace: the parent of this crate's.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies below the root").to_owned()
}
