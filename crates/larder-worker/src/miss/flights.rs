// SPDX-License-Identifier: Apache-2.0
//! The table of fetches under way: for one page of one content there is one at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::{ByteRange, ContentId, PageIndex};
use larder_ufs::priority::{Class, Priority};

use super::fetch::{Attachment, Fetch};

/// All fetches under way, by content.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<ContentId, Vec<Arc<Fetch>>>>);

/// What came of looking for a fetch.
pub(crate) enum Joined {
    /// One is under way: follow it.
    Attached(Attachment),
    /// The page has become resident meanwhile.
    Resident,
    /// A new fetch is on the list: somebody must drive it.
    Started(Arc<Fetch>, Attachment),
}

/// What a reader that met a gap wants fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) content: ContentId,
    pub(crate) length: u64,
    /// Whole pages, the reader's among them.
    pub(crate) range: ByteRange,
    /// Where the reader stands.
    pub(crate) position: u64,
    /// Up to here the fetch may run although nobody reads.
    pub(crate) ahead_to: u64,
    /// Who reads.
    pub(crate) class: Class,
    /// What lies further ahead of a fetch than this is sooner here by a request of its own.
    pub(crate) far: u64,
}

impl Flights {
    fn table(&self) -> MutexGuard<'_, HashMap<ContentId, Vec<Arc<Fetch>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches to the fetch that brings the reader's page, or enters a new one that stops where
    /// the next begins. A fetch that would come there only after a long while is cut there.
    /// `resident` says, with the table held, whether the page has come since the reader looked: a
    /// fetch leaves the table only after its pages are where `resident` looks.
    pub(crate) fn join_or_start(&self, gap: Gap, resident: impl Fn() -> bool) -> Joined {
        let mut table = self.table();
        let page = PageIndex::at(gap.position);
        let fetches = table.entry(gap.content).or_default();
        if let Some(fetch) =
            fetches.iter().find(|fetch| fetch.length == gap.length && fetch.covers(page))
            && !(fetch.is_far_from(page.start(), gap.far) && fetch.cut(page.start()))
        {
            return Joined::Attached(fetch.attach(gap.position, gap.class));
        }
        if resident() {
            if fetches.is_empty() {
                table.remove(&gap.content);
            }
            return Joined::Resident;
        }
        let fetch = start(fetches, gap);
        let attachment = fetch.attach(gap.position, gap.class);
        Joined::Started(fetch, attachment)
    }

    /// Enters a fetch for a reader that will come to the first byte of the gap, as
    /// [`Flights::join_or_start`] does; `None` where another brings that or it is resident.
    pub(crate) fn hold(
        &self,
        gap: Gap,
        resident: impl Fn() -> bool,
    ) -> Option<(Arc<Fetch>, Attachment)> {
        let mut table = self.table();
        let page = PageIndex::at(gap.position);
        let covers = |fetch: &Arc<Fetch>| fetch.length == gap.length && fetch.covers(page);
        if table.get(&gap.content).is_some_and(|fetches| fetches.iter().any(covers)) || resident() {
            return None;
        }
        let fetch = start(table.entry(gap.content).or_default(), gap);
        let attachment = fetch.hold(gap.class);
        Some((fetch, attachment))
    }

    /// Enters a fetch whose bytes are already on their way. `None` when another brings its first
    /// page: then those bytes are not needed.
    pub(crate) fn adopt(
        &self,
        (content, length): (ContentId, u64),
        range: ByteRange,
        priority: Priority,
    ) -> Option<(Arc<Fetch>, Attachment)> {
        let mut table = self.table();
        let fetches = table.entry(content).or_default();
        let first = PageIndex::at(range.start);
        if fetches.iter().any(|fetch| fetch.length == length && fetch.covers(first)) {
            return None;
        }
        let class = priority.class();
        let fetch = Arc::new(Fetch::new((content, length), range, 0, priority));
        let attachment = fetch.attach(range.start, class);
        fetches.push(Arc::clone(&fetch));
        Some((fetch, attachment))
    }

    /// Takes a fetch off the table.
    pub(crate) fn remove(&self, fetch: &Arc<Fetch>) {
        let mut table = self.table();
        if let Some(fetches) = table.get_mut(&fetch.content) {
            fetches.retain(|other| !Arc::ptr_eq(other, fetch));
            if fetches.is_empty() {
                table.remove(&fetch.content);
            }
        }
    }

    /// Fetches under way for a content.
    pub(crate) fn count(&self, content: ContentId) -> u64 {
        self.table().get(&content).map_or(0, |fetches| fetches.len() as u64)
    }

    /// Waits until the page store has taken or refused what the fetches under way bring.
    pub(crate) async fn settled(&self, content: ContentId) {
        let fetches = self.table().get(&content).cloned().unwrap_or_default();
        for fetch in fetches {
            fetch.settled().await;
        }
    }
}

/// Enters a fetch for a gap, up to where the next one begins.
fn start(fetches: &mut Vec<Arc<Fetch>>, gap: Gap) -> Arc<Fetch> {
    let page = PageIndex::at(gap.position);
    let same = fetches.iter().filter(|fetch| fetch.length == gap.length);
    let next = same.filter_map(|fetch| fetch.next_covered(page)).min().unwrap_or(u64::MAX);
    // What lies before the reader's page is brought along if nobody else does that.
    let start = if fetches.is_empty() { gap.range.start } else { page.start() };
    let range = ByteRange::new(start, gap.range.end.min(next));
    let priority = Priority::new(gap.class);
    let fetch = Fetch::new((gap.content, gap.length), range, gap.ahead_to, priority);
    let fetch = Arc::new(fetch);
    fetches.push(Arc::clone(&fetch));
    fetch
}
