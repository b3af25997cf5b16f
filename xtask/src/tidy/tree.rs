// SPDX-License-Identifier: Apache-2.0
//! The tree as tidy sees it: every text file of the project, read once, paths from the root.
//!
//! Build output, installed tools and version control are left out; so is what is not UTF-8.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// What is not the project's own text; in a worktree of git, `.git` is a file.
const FOREIGN: [&str; 6] = ["target", ".git", ".tools", ".run", "__pycache__", ".pytest_cache"];
/// A file above this is data, not text that people read.
const BYTES_MAX: u64 = 2 << 20;

/// One text file.
#[derive(Debug)]
pub(crate) struct File {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl File {
    /// Whether its name ends like this.
    pub(crate) fn ends(&self, extension: &str) -> bool {
        self.path.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'))
    }
}

/// All text files, by path.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The files.
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads everything below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let place = root.join(&folder);
            for entry in fs::read_dir(&place).with_context(|| place.display().to_string())? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path =
                    if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                let kind = entry.file_type()?;
                if FOREIGN.contains(&name.as_str()) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file()
                    && entry.metadata()?.len() <= BYTES_MAX
                    && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
                {
                    files.push(File { path, text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.ends("rs"))
    }
}
