// SPDX-License-Identifier: Apache-2.0
//! Listings: one request to the store per page, kept while the mount's freshness rule allows.
//!
//! What a listing tells (length, version, time of each key) is learnt as a status, so a walk
//! through a directory costs one request per thousand files.

use std::sync::{Arc, atomic::Ordering};

use larder_cluster::wire::message::{ListEntry, ListPage, ListReply, ListRequest, ListStart};
use larder_core::{ErrorKind, Freshness, Path, Result, UnixMillis};
use larder_meta::Fact;
use larder_ufs::{
    priority::{Class, Priority},
    under_storage as ufs,
};
use quick_cache::{Weighter, sync::Cache};

use crate::{Worker, mount::Mount, single::SingleFlight};

/// Keys and prefixes in all cached pages together.
const CACHED_ENTRIES_MAX: u64 = 200_000;

/// A request and the mount's generation it was made in.
type ListKey = (u64, ListRequest);

/// A page and when the store was asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    page: Arc<ListPage>,
    checked: UnixMillis,
}

#[derive(Debug, Clone)]
struct ByEntries;

impl Weighter<ListKey, Listed> for ByEntries {
    fn weight(&self, _key: &ListKey, listed: &Listed) -> u64 {
        1 + (listed.page.entries.len() + listed.page.prefixes.len()) as u64
    }
}

/// Pages of listings by request.
#[derive(Debug)]
pub(crate) struct ListCache {
    pages: Cache<ListKey, Listed, ByEntries>,
    flights: SingleFlight<ListKey, Listed>,
}

impl ListCache {
    pub(crate) fn new() -> Self {
        let pages = Cache::with_weighter(4_096, CACHED_ENTRIES_MAX, ByEntries);
        Self { pages, flights: SingleFlight::new() }
    }
}

impl Worker {
    pub(crate) async fn answer_list(&self, request: ListRequest) -> Result<ListReply> {
        let mount = self.mounts.get(&request.mount)?;
        let key = (mount.generation.load(Ordering::SeqCst), request);
        let cached = self.listings.pages.get(&key);
        if let Some(listed) = cached.as_ref().filter(|listed| self.is_fresh(&mount, listed)) {
            return Ok(self.reply(listed));
        }
        let work = |priority| self.shared().ask_list(Arc::clone(&mount), key.clone(), priority);
        // A job's listings too: they are one request for a thousand files.
        let class = Class::Foreground;
        let result = if mount.record.freshness == Freshness::Always {
            work(Priority::new(class)).await
        } else {
            self.listings.flights.run((key.clone(), class), work).await
        };
        match (result, cached) {
            (Ok(listed), _) => Ok(self.reply(&listed)),
            (Err(error), Some(listed)) if self.bridged(&mount, &listed, error.kind()) => {
                Ok(self.reply(&listed))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn reply(&self, listed: &Listed) -> ListReply {
        let age = self.clock.now().since(listed.checked);
        ListReply { page: Arc::clone(&listed.page), age }
    }

    fn bridged(&self, mount: &Mount, listed: &Listed, kind: ErrorKind) -> bool {
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted)
            && mount.bridges(self.clock.now().since(listed.checked))
    }

    fn is_fresh(&self, mount: &Mount, listed: &Listed) -> bool {
        mount.record.freshness.allows_absence(self.clock.now().since(listed.checked))
    }

    async fn ask_list(
        self: Arc<Self>,
        mount: Arc<Mount>,
        key: ListKey,
        priority: Priority,
    ) -> Result<Listed> {
        // Another caller's answer may have come since this one looked.
        if let Some(listed) = self.listings.pages.get(&key)
            && self.is_fresh(&mount, &listed)
        {
            return Ok(listed);
        }
        let request = key.1.clone();
        let checked = self.clock.now();
        let asked = ufs::ListRequest {
            prefix: request.prefix,
            delimiter: request.delimiter,
            start: match request.start {
                ListStart::Beginning => ufs::ListStart::Beginning,
                ListStart::After(key) => ufs::ListStart::After(key),
                ListStart::Token(token) => ufs::ListStart::Token(token),
            },
            max: request.max.clamp(1, 1_000),
        };
        let page = mount.note(mount.storage.with(&priority).list(&asked).await)?;
        for entry in &page.entries {
            let path = Path::new(mount.record.name.clone(), entry.key.clone());
            self.learn(&path, Fact::Present(entry.status.clone()), checked);
        }
        let entries = page.entries.into_iter();
        let entries = entries.map(|entry| ListEntry { key: entry.key, status: entry.status });
        let page =
            ListPage { entries: entries.collect(), prefixes: page.prefixes, next: page.next };
        let listed = Listed { page: Arc::new(page), checked };
        self.listings.pages.insert(key, listed.clone());
        Ok(listed)
    }
}
