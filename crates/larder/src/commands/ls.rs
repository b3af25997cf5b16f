// SPDX-License-Identifier: Apache-2.0
//! `larder ls PATH`: raw keys below a prefix, page by page, so a bucket of any size is listed in
//! constant memory.

use std::path::Path as Directory;

use larder_client::message::{ListEntry, ListPage};
use larder_core::Path;
use larder_http::{StatAnswer, StatusDocument};
use serde::Serialize;

use super::{Format, shown};
use crate::{arguments::Ls, control::Control, exit::Failure, output};

/// One line of `ls --json`.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

pub(super) async fn run(state: &Directory, options: &Ls, format: Format) -> Result<(), Failure> {
    if options.path.trim_matches('/').is_empty() {
        return mounts(state, format).await;
    }
    let path: Path = options.path.parse()?;
    let listing = Listing { state, options, format, mount: &path };
    let key = path.key.as_str();
    let prefix =
        if key.is_empty() || key.ends_with('/') { key.to_owned() } else { format!("{key}/") };
    let found = listing.all_below(&prefix).await?;
    if found == 0 && !key.is_empty() && !key.ends_with('/') {
        // Not a directory: the file itself, or the error that there is none.
        let control = Control::connect(state).await?;
        let answer: StatAnswer = control.get("/v1/stat", &[("path", &options.path)]).await?;
        return listing.entry(&ListEntry { key: path.key.clone(), status: answer.status }, "");
    }
    Ok(())
}

async fn mounts(state: &Directory, format: Format) -> Result<(), Failure> {
    let status: StatusDocument = Control::connect(state).await?.get("/v1/status", &[]).await?;
    for mount in &status.mounts {
        match format {
            Format::Json => output::json(mount)?,
            Format::Text => output::line(&format!("{}/", mount.name))?,
        }
    }
    Ok(())
}

struct Listing<'a> {
    state: &'a Directory,
    options: &'a Ls,
    format: Format,
    mount: &'a Path,
}

impl Listing<'_> {
    /// Prints everything below `prefix`; how many lines that were.
    async fn all_below(&self, prefix: &str) -> Result<usize, Failure> {
        let path = format!("/{}/{prefix}", self.mount.mount);
        let mut token: Option<String> = None;
        let mut count = 0;
        loop {
            let delimiter = if self.options.recursive { "" } else { "/" };
            let mut query = vec![("path", path.as_str()), ("delimiter", delimiter)];
            query.extend(token.as_deref().map(|token| ("token", token)));
            let control = Control::connect(self.state).await?;
            let page: ListPage = control.get("/v1/list", &query).await?;
            self.page(&page, prefix)?;
            count += page.entries.len() + page.prefixes.len();
            token = page.next;
            if token.is_none() {
                return Ok(count);
            }
        }
    }

    /// Prints keys and prefixes merged in byte order.
    fn page(&self, page: &ListPage, prefix: &str) -> Result<(), Failure> {
        let mut prefixes = page.prefixes.iter().peekable();
        for entry in &page.entries {
            while let Some(first) = prefixes.next_if(|first| first.as_str() < entry.key.as_str()) {
                self.directory(first, prefix)?;
            }
            self.entry(entry, prefix)?;
        }
        prefixes.try_for_each(|rest| self.directory(rest, prefix))
    }

    fn directory(&self, key: &str, prefix: &str) -> Result<(), Failure> {
        let name = key.strip_prefix(prefix).unwrap_or(key);
        if self.format == Format::Json {
            let path = format!("/{}/{key}", self.mount.mount);
            let kind = "directory";
            return output::json(&Line { path, kind, length: None, modified: None, version: None });
        }
        if self.options.long {
            return output::line(&format!("{:>14}  {:20}  {name}", "-", "-"));
        }
        output::line(name)
    }

    fn entry(&self, entry: &ListEntry, prefix: &str) -> Result<(), Failure> {
        let (key, status) = (entry.key.as_str(), &entry.status);
        let name = key.strip_prefix(prefix).filter(|name| !name.is_empty()).unwrap_or(key);
        if self.format == Format::Json {
            return output::json(&Line {
                path: format!("/{}/{key}", self.mount.mount),
                kind: "file",
                length: Some(status.length),
                modified: Some(shown::instant(status.modified)),
                version: Some(status.version.as_str()),
            });
        }
        if self.options.long {
            let modified = shown::instant(status.modified);
            return output::line(&format!("{:>14}  {modified:20}  {name}", status.length));
        }
        output::line(name)
    }
}
