// SPDX-License-Identifier: Apache-2.0
//! Directories over a store that has only keys: what a tree-shaped face (FUSE, the CLI) sees.
//!
//! A directory exists when a key starts with its name and a slash. Where both `x` and `x/…`
//! exist, the directory is what the tree shows, for else nothing below it could be reached; the
//! file stays readable by its key. Names a file system can't hold (empty, `.`, `..`, above 255
//! bytes, with a NUL) are left out of the tree. `docs/semantics.md` promises these answers.

use std::time::Duration;

use larder_cluster::wire::message::{ListPage, ListReply, ListRequest, ListStart, StatRequest};
use larder_core::{Error, ErrorKind, Key, MountName, Path, Result, Status};

use crate::Filesystem;

/// Entries asked for per page: what S3 gives at most.
const PAGE_ENTRIES: u32 = 1_000;
/// The longest name a Linux file system holds.
const NAME_LENGTH_MAX: usize = 255;

/// What a name in the tree stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file with this status.
    File(Status),
    /// A directory.
    Directory,
}

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// One path component.
    pub name: String,
    /// What it is.
    pub node: Node,
}

/// What a name stands for, and how long ago the store said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub node: Node,
    /// The age of this knowledge.
    pub age: Duration,
}

/// Some entries of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectoryPage {
    /// The entries, in byte order of their keys; a name appears once in all pages of a listing.
    pub entries: Vec<DirectoryEntry>,
    /// The token for the next page, if there is one.
    pub next: Option<String>,
    /// How long ago the store said so.
    pub age: Duration,
}

impl Filesystem {
    /// What `name` in `directory` is. `directory` is a key that is empty or ends with a slash.
    ///
    /// One listing of the directory answers for all of its names while it is fresh; only in a
    /// directory of more than a thousand entries is the name asked for by itself.
    ///
    /// # Errors
    /// `NotFound` when there is no such name; else what the store answered.
    pub async fn lookup(&self, directory: &Path, name: &str) -> Result<Node> {
        Ok(self.find(directory, name).await?.node)
    }

    /// The same with the age of the answer, for faces whose callers cache it.
    ///
    /// # Errors
    /// As [`Filesystem::lookup`].
    pub async fn find(&self, directory: &Path, name: &str) -> Result<Found> {
        if !is_name(name) {
            return Err(not_found(directory, name));
        }
        let reply = self.directory_listing(directory, ListStart::Beginning).await?;
        let wanted = format!("{}{name}", directory.key);
        if let Some(node) = find(&reply.page, &wanted) {
            return Ok(Found { node, age: reply.age });
        }
        if reply.page.next.is_none() {
            return Err(not_found(directory, name));
        }
        self.lookup_alone(directory, &wanted).await
    }

    /// One page of a directory's entries; `token` is where the page before ended.
    ///
    /// # Errors
    /// What the store answered. A directory that does not exist has no entries.
    pub async fn entries(&self, directory: &Path, token: Option<String>) -> Result<DirectoryPage> {
        let start = token.map_or(ListStart::Beginning, ListStart::Token);
        let reply = self.directory_listing(directory, start).await?;
        let shadowed = self.shadowed_later(directory, &reply.page).await?;
        let mut page = to_page(&reply.page, directory.key.as_str(), &shadowed);
        page.age = reply.age;
        Ok(page)
    }

    /// Keys of a page whose directory of the same name comes on a later page. The next page, which
    /// is asked for anyway by who reads on, decides for nearly all; only where more than a page
    /// lies between is a name asked for by itself.
    async fn shadowed_later(&self, directory: &Path, page: &ListPage) -> Result<Vec<String>> {
        let (Some(token), undecided) = (&page.next, undecided(page)) else { return Ok(Vec::new()) };
        if undecided.is_empty() {
            return Ok(Vec::new());
        }
        let next = self.directory_listing(directory, ListStart::Token(token.clone())).await?.page;
        let mut shadowed = Vec::new();
        for key in undecided {
            let as_directory = format!("{key}/");
            let found = next.prefixes.binary_search(&as_directory).is_ok();
            if found || (!reaches(&next, &as_directory) && self.is_below(directory, key).await?) {
                shadowed.push(key.to_owned());
            }
        }
        Ok(shadowed)
    }

    /// Whether there is a key below `key` as a directory.
    async fn is_below(&self, directory: &Path, key: &str) -> Result<bool> {
        let reply = self.list(below(directory, key)).await?;
        Ok(!reply.page.entries.is_empty())
    }

    async fn directory_listing(&self, directory: &Path, start: ListStart) -> Result<ListReply> {
        self.list(ListRequest {
            mount: directory.mount.clone(),
            prefix: directory.key.to_string(),
            delimiter: Some("/".into()),
            start,
            max: PAGE_ENTRIES,
        })
        .await
    }

    /// A name in a large directory: is there something below it, is there a file?
    async fn lookup_alone(&self, directory: &Path, wanted: &str) -> Result<Found> {
        let below = below(directory, wanted);
        let path = Path::new(directory.mount.clone(), Key::new(wanted)?);
        let stat = StatRequest { path, attributes: false };
        let (below, file) = tokio::join!(self.list(below), self.stat(stat));
        let below = below?;
        if !below.page.entries.is_empty() {
            return Ok(Found { node: Node::Directory, age: below.age });
        }
        file.map(|reply| Found { node: Node::File(reply.status), age: reply.age })
    }
}

/// The path of a directory's child: `Directory` keys end with a slash.
///
/// # Errors
/// `Invalid` when the key becomes longer than a store allows.
pub fn child(directory: &Path, name: &str, node: &Node) -> Result<Path> {
    let slash = if *node == Node::Directory { "/" } else { "" };
    let key = Key::new(&format!("{}{name}{slash}", directory.key))?;
    Ok(Path::new(directory.mount.clone(), key))
}

/// The root directory of a mount.
#[must_use]
pub fn root(mount: MountName) -> Path {
    Path::new(mount, Key::new("").expect("the empty key is legal"))
}

fn not_found(directory: &Path, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {directory}{name}"))
}

/// Asks for the first key below `key` as a directory.
fn below(directory: &Path, key: &str) -> ListRequest {
    ListRequest {
        mount: directory.mount.clone(),
        prefix: format!("{key}/"),
        delimiter: None,
        start: ListStart::Beginning,
        max: 1,
    }
}

/// Whether a page tells if this prefix exists: it is the last one, or goes on behind it.
fn reaches(page: &ListPage, as_directory: &str) -> bool {
    page.next.is_none() || last(page).is_some_and(|last| last > as_directory)
}

/// The last key or prefix of a page.
fn last(page: &ListPage) -> Option<&str> {
    let prefix = page.prefixes.last().map(String::as_str);
    prefix.max(page.entries.last().map(|entry| entry.key.as_str()))
}

/// Keys of a page for which only a later page tells whether they are directories too. Each is the
/// beginning of the page's last key, so there are never more than a name has bytes.
fn undecided(page: &ListPage) -> Vec<&str> {
    let Some(last) = last(page) else { return Vec::new() };
    let keys = page.entries.iter().map(|entry| entry.key.as_str());
    keys.filter(|key| last.starts_with(key) && !reaches(page, &format!("{key}/"))).collect()
}

/// Whether a path component can stand in a Linux directory.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_LENGTH_MAX && !name.contains(['/', '\0'])
}

fn find(page: &ListPage, wanted: &str) -> Option<Node> {
    let as_directory = format!("{wanted}/");
    if page.prefixes.binary_search(&as_directory).is_ok() {
        return Some(Node::Directory);
    }
    let found = page.entries.binary_search_by(|entry| entry.key.as_str().cmp(wanted)).ok()?;
    // A directory that starts with this name may lie on a later page: `x-1 … x-999` sort before
    // `x/`. Only a complete page, or one that reaches behind `x/`, can rule it out.
    reaches(page, &as_directory).then(|| Node::File(page.entries[found].status.clone()))
}

/// Merges keys and prefixes in byte order, leaves out markers and unholdable names, and lets a
/// directory win over a file of the same name, also where it comes on a later page.
fn to_page(page: &ListPage, prefix: &str, shadowed_later: &[String]) -> DirectoryPage {
    let directories = page.prefixes.iter().filter_map(|full| {
        let name = full.strip_prefix(prefix)?.strip_suffix('/')?;
        is_name(name).then_some((full.as_str(), name, Node::Directory))
    });
    let files = page.entries.iter().filter_map(|entry| {
        let name = entry.key.as_str().strip_prefix(prefix)?;
        let shadowed = page.prefixes.binary_search(&format!("{}/", entry.key)).is_ok();
        let shadowed = shadowed || shadowed_later.iter().any(|key| key == entry.key.as_str());
        let visible = is_name(name) && !shadowed;
        visible.then(|| (entry.key.as_str(), name, Node::File(entry.status.clone())))
    });
    let mut all: Vec<(&str, &str, Node)> = directories.chain(files).collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    let entries = all
        .into_iter()
        .map(|(_, name, node)| DirectoryEntry { name: name.to_owned(), node })
        .collect();
    DirectoryPage { entries, next: page.next.clone(), age: Duration::ZERO }
}
