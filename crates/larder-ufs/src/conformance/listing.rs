// SPDX-License-Identifier: Apache-2.0
//! Listings against a model: all prefixes, delimiters, starts and page sizes on one set of keys.

use std::collections::BTreeSet;

use crate::{ListRequest, ListStart};

use super::suite::{Keys, Suite, equal, pattern};

/// Names whose order by bytes is not the order of a directory walk.
const NAMES: [&str; 16] = [
    "list/a-b",
    "list/a/b",
    "list/a/c/d",
    "list/a/c/e",
    "list/a0",
    "list/b",
    "list/c/1",
    "list/c/2",
    "list/c/3",
    "list/c!",
    "list/c0/x",
    "list/d e/f+g",
    "list/d/e",
    "list/ü/ö",
    "list/z-z-z",
    "list/z-z/y",
];

/// Names for stores that hold every key.
const RAW: [&str; 5] = ["list/a", "list/a/", "list/a//b", "list/c//", "list//x"];

pub(super) async fn check(suite: &Suite) -> Result<(), String> {
    let mut names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    if suite.capabilities.keys == Keys::Raw {
        names.extend(RAW.iter().map(|name| (*name).to_owned()));
    }
    for name in &names {
        suite.put(name, &pattern(name.len(), 9)).await?;
    }
    statuses(suite, &names).await?;
    for prefix in
        ["list/", "list/a", "list/a/", "list/c/", "list/d", "list/none", "list/c/1", "lis"]
    {
        for delimiter in [None, Some("/"), Some("-"), Some("/c")] {
            for max in [1, 2, 3, 1000] {
                pages(suite, &names, (prefix, delimiter, max)).await?;
            }
            for after in ["list/a", "list/a/", "list/a/c/d", "list/b", "list/c/2", "list/zzz", ""] {
                start(suite, &names, (prefix, delimiter, after)).await?;
            }
        }
    }
    again(suite, &names).await
}

/// Statuses in a listing are those that stat tells.
async fn statuses(suite: &Suite, names: &BTreeSet<String>) -> Result<(), String> {
    let page = list(suite, ("list/", None, 1000), ListStart::Beginning).await?;
    equal("keys listed", page.entries.len(), names.len())?;
    for entry in page.entries {
        let told = suite.store.stat(&entry.key).await.map_err(|error| error.to_string())?;
        let listed = (entry.status.length, entry.status.version, entry.status.modified);
        let what = format!("status of {} in the listing", entry.key);
        equal(what, listed, (told.length, told.version, told.modified))?;
    }
    Ok(())
}

type Shape<'a> = (&'a str, Option<&'a str>, u32);

/// The whole listing, in pages of `max`.
async fn pages(suite: &Suite, names: &BTreeSet<String>, shape: Shape<'_>) -> Result<(), String> {
    let promised = model(names, (shape.0, shape.1), "");
    let mut found = Vec::new();
    let mut start = ListStart::Beginning;
    for _ in 0..=promised.len() + 1 {
        let page = list(suite, shape, start).await?;
        let items = merged(suite, &page)?;
        if items.len() > shape.2 as usize {
            return Err(format!("list {shape:?}: a page has {} items", items.len()));
        }
        found.extend(items);
        match page.next {
            Some(token) => start = ListStart::Token(token),
            None => return equal(format_args!("list {shape:?}"), found, promised),
        }
    }
    Err(format!("list {shape:?}: more pages than items"))
}

/// The listing behind a key.
async fn start(
    suite: &Suite,
    names: &BTreeSet<String>,
    (prefix, delimiter, after): (&str, Option<&str>, &str),
) -> Result<(), String> {
    let mut promised = model(names, (prefix, delimiter), after);
    let key = format!("{}{after}", suite.prefix);
    let page = list(suite, (prefix, delimiter, 1000), ListStart::After(key)).await?;
    let what = format!("list {prefix:?} by {delimiter:?} after {after:?}");
    let mut found = merged(suite, &page)?;
    // Stores disagree on a common prefix in which the start lies; both answers are in order.
    found.retain(|name| !after.starts_with(name.as_str()));
    promised.retain(|name| !after.starts_with(name.as_str()));
    equal(what, found, promised)
}

/// A token can be used a second time.
async fn again(suite: &Suite, names: &BTreeSet<String>) -> Result<(), String> {
    let shape = ("list/", Some("/"), 2);
    let promised = model(names, (shape.0, shape.1), "");
    let first = list(suite, shape, ListStart::Beginning).await?;
    let token = first.next.ok_or("a listing in pages of 2 ended early")?;
    for _ in 0..2 {
        let page = list(suite, shape, ListStart::Token(token.clone())).await?;
        equal("a page asked for twice", merged(suite, &page)?, promised[2..4].to_vec())?;
    }
    Ok(())
}

async fn list(
    suite: &Suite,
    (prefix, delimiter, max): Shape<'_>,
    start: ListStart,
) -> Result<crate::ListPage, String> {
    let prefix = format!("{}{prefix}", suite.prefix);
    let delimiter = delimiter.map(str::to_owned);
    let request = ListRequest { prefix, delimiter, start, max };
    suite.store.list(&request).await.map_err(|error| format!("list {request:?}: {error}"))
}

/// Keys and prefixes of a page in one order, relative to the suite.
fn merged(suite: &Suite, page: &crate::ListPage) -> Result<Vec<String>, String> {
    let keys: Vec<&str> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
    let prefixes: Vec<&str> = page.prefixes.iter().map(String::as_str).collect();
    for names in [&keys, &prefixes] {
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(format!("a page is not in byte order: {names:?}"));
        }
    }
    let mut all: Vec<String> = Vec::new();
    for name in keys.into_iter().chain(prefixes) {
        let own = name.strip_prefix(suite.prefix.as_str());
        all.push(own.ok_or_else(|| format!("{name:?} is outside of the prefix"))?.to_owned());
    }
    all.sort();
    Ok(all)
}

/// What S3 promises for these names.
fn model(
    names: &BTreeSet<String>,
    (prefix, delimiter): (&str, Option<&str>),
    after: &str,
) -> Vec<String> {
    let matching = names.iter().filter(|name| name.starts_with(prefix) && name.as_str() > after);
    let items: BTreeSet<String> = matching
        .map(|name| {
            let cut = delimiter.and_then(|delimiter| {
                let at = name[prefix.len()..].find(delimiter)?;
                Some(prefix.len() + at + delimiter.len())
            });
            name[..cut.unwrap_or(name.len())].to_owned()
        })
        .collect();
    items.into_iter().collect()
}
