// SPDX-License-Identifier: Apache-2.0
//! Listing, page by page.
//!
//! The walk behind a page is kept for a while under the page's token, so that a directory of a
//! million names is read once and not for each page. The token also tells where to start anew,
//! for when the walk is no longer there: after a restart, or on a second use of the token.
//! A delimiter other than the slash walks all and rolls up.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder_core::{Error, Key, Result};

use crate::{ListEntry, ListPage, ListRequest, ListStart};

use super::{
    root::Root,
    walk::{Depth, From, Item, Walk},
};

/// Walks kept at most; the oldest goes first.
const WALKS_MAX: usize = 8;
/// Names that one kept walk holds at most.
const NAMES_MAX: usize = 2_000_000;

/// Lists, and remembers walks that are not at their end.
#[derive(Debug, Default)]
pub(super) struct Lister(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    walks: VecDeque<(u64, Paused)>,
}

/// A walk between two pages.
#[derive(Debug)]
struct Paused {
    prefix: String,
    delimiter: Option<String>,
    walk: Walk,
    /// Taken from the walk, but not given yet.
    held: Item,
    /// The last group that was given.
    group: Option<String>,
}

impl Lister {
    pub(super) fn page(&self, root: &Root, request: &ListRequest) -> Result<ListPage> {
        let root = root.open()?;
        let delimiter = request.delimiter.clone().filter(|text| !text.is_empty());
        let mut roll = match self.resumed(request, &delimiter)? {
            Some(paused) => {
                Roll { held: Some(paused.held), walk: paused.walk, group: paused.group }
            }
            None => Roll::new(&root, request, &delimiter)?,
        };
        let mut page = ListPage::default();
        let max = request.max.clamp(1, 1000) as usize;
        while let Some(item) = roll.next(&root, &request.prefix, delimiter.as_deref())? {
            if page.entries.len() + page.prefixes.len() == max {
                page.next = Some(self.keep(roll, item, &page, (request, delimiter)));
                break;
            }
            match item {
                Item::File { key, print } => {
                    page.entries.push(ListEntry { key: Key::new(&key)?, status: print.listed() });
                }
                Item::Directory(prefix) => page.prefixes.push(prefix),
            }
        }
        Ok(page)
    }

    fn resumed(&self, request: &ListRequest, delimiter: &Option<String>) -> Result<Option<Paused>> {
        let ListStart::Token(token) = &request.start else { return Ok(None) };
        let (id, _) = parse_token(token)?;
        let mut kept = self.kept();
        let at = kept.walks.iter().position(|(known, paused)| {
            *known == id && paused.prefix == request.prefix && paused.delimiter == *delimiter
        });
        Ok(at.and_then(|at| kept.walks.remove(at)).map(|(_, paused)| paused))
    }

    /// Remembers the walk if there is room, and makes the token.
    fn keep(
        &self,
        roll: Roll,
        held: Item,
        page: &ListPage,
        (request, delimiter): (&ListRequest, Option<String>),
    ) -> String {
        let key = page.entries.last().map_or("", |entry| entry.key.as_str());
        let group = page.prefixes.last().map_or("", String::as_str);
        let last = if group > key { format!("p{group}") } else { format!("k{key}") };
        let mut kept = self.kept();
        kept.count += 1;
        let id = kept.count;
        let Roll { mut walk, group, .. } = roll;
        if walk.names() <= NAMES_MAX {
            walk.rest();
            if kept.walks.len() == WALKS_MAX {
                kept.walks.pop_front();
            }
            let prefix = request.prefix.clone();
            kept.walks.push_back((id, Paused { prefix, delimiter, walk, held, group }));
        }
        format!("{id:x}:{last}")
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A walk whose keys are rolled up by a delimiter.
struct Roll {
    walk: Walk,
    held: Option<Item>,
    group: Option<String>,
}

impl Roll {
    fn new(root: &OwnedFd, request: &ListRequest, delimiter: &Option<String>) -> Result<Self> {
        let from = match &request.start {
            ListStart::Beginning => None,
            ListStart::After(key) => Some(From::After(key.clone())),
            ListStart::Token(token) => Some(parse_token(token)?.1),
        };
        let depth = if delimiter.as_deref() == Some("/") { Depth::One } else { Depth::All };
        let walk = Walk::new(root, &request.prefix, depth, from)?;
        Ok(Self { walk, held: None, group: None })
    }

    fn next(
        &mut self,
        root: &OwnedFd,
        prefix: &str,
        delimiter: Option<&str>,
    ) -> Result<Option<Item>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        while let Some(item) = self.walk.next(root)? {
            // A directory that is not entered is a group by itself.
            let Item::File { key, .. } = &item else { return Ok(Some(item)) };
            let Some(delimiter) = delimiter else { return Ok(Some(item)) };
            let behind = &key[prefix.len()..];
            let Some(at) = behind.find(delimiter) else { return Ok(Some(item)) };
            let group = &key[..prefix.len() + at + delimiter.len()];
            if self.group.as_deref() != Some(group) {
                self.group = Some(group.to_owned());
                return Ok(Some(Item::Directory(group.to_owned())));
            }
        }
        Ok(None)
    }
}

/// The walk's number, and where to start when that walk is gone.
fn parse_token(token: &str) -> Result<(u64, From)> {
    let parsed = token.split_once(':').and_then(|(id, last)| {
        let id = u64::from_str_radix(id, 16).ok()?;
        match last.split_at_checked(1)? {
            ("k", key) => Some((id, From::After(key.to_owned()))),
            ("p", group) => Some((id, From::Behind(group.to_owned()))),
            _ => None,
        }
    });
    parsed.ok_or_else(|| Error::invalid("the continuation token is not one of ours"))
}
