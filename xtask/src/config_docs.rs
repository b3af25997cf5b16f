// SPDX-License-Identifier: Apache-2.0
//! `docs/config.md` is what `larder config docs` prints; this writes it or finds the drift.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

const PAGE: &str = "docs/config.md";

/// Writes the page anew.
pub(crate) fn write(root: &Path) -> Result<bool> {
    fs::write(root.join(PAGE), generated(root)?).context(PAGE)?;
    println!("{PAGE} is written");
    Ok(true)
}

/// Whether the page is what the code says; tells the first line that is not.
pub(crate) fn check(root: &Path) -> Result<bool> {
    let wanted = generated(root)?;
    let found = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    match drift(&wanted, &found) {
        None => {
            println!("{PAGE} is what the code says");
            Ok(true)
        }
        Some(line) => {
            eprintln!("{PAGE}:{line}: differs from the code; run `cargo xtask config-docs`");
            Ok(false)
        }
    }
}

/// The first line, counted from 1, in which the two differ.
fn drift(wanted: &str, found: &str) -> Option<usize> {
    if wanted == found {
        return None;
    }
    let same = wanted.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

/// What the binary says of its own settings.
fn generated(root: &Path) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--package", "larder", "--bin", "larder", "--"])
        .args(["config", "docs"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("running `larder config docs`")?;
    ensure!(output.status.success(), "`larder config docs` ended with {}", output.status);
    let page = String::from_utf8(output.stdout).context("`larder config docs` is not UTF-8")?;
    ensure!(!page.trim().is_empty(), "`larder config docs` printed nothing");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_names_the_first_line() {
        assert_eq!(drift("a\nb\n", "a\nb\n"), None);
        assert_eq!(drift("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(drift("a\nb\n", ""), Some(1));
        assert_eq!(drift("a\n", "a\nb\n"), Some(2));
    }
}
