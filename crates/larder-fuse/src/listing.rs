// SPDX-License-Identifier: Apache-2.0
//! An open directory: its entries in pages, each asked for when the reader comes to it.
//!
//! A position is the number of entries before it and stands for the same entry as long as the
//! directory is open and only read forward. At most one page is held, however large the
//! directory; a reader who goes back behind it makes the listing start again.
//!
//! The page is an immutable snapshot that is swapped whole; the lock is held for a pointer copy.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_client::{DirectoryEntry, DirectoryPage, Filesystem, Node};
use larder_core::{Clock, Path, Result};

/// `.` and `..` stand before the first entry of the first page.
pub(crate) const DOTS: u64 = 2;

/// A directory that a program has open.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory; `None` is the root.
    directory: Option<Path>,
    window: Mutex<Option<Arc<Window>>>,
}

/// One page and where it lies.
#[derive(Debug)]
pub(crate) struct Window {
    /// The position of the first entry.
    pub(crate) start: u64,
    pub(crate) page: DirectoryPage,
    /// When it was asked for, on the clock's monotonic scale.
    fetched: Duration,
}

impl Window {
    /// How long ago the store said so.
    pub(crate) fn age(&self, clock: &Clock) -> Duration {
        self.page.age + clock.elapsed().saturating_sub(self.fetched)
    }

    fn end(&self) -> u64 {
        self.start + self.page.entries.len() as u64
    }

    /// The entries from `position` on, each with the position behind it.
    pub(crate) fn from(&self, position: u64) -> impl Iterator<Item = (u64, &DirectoryEntry)> {
        let skip = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let first = self.start + 1;
        let numbered = self.page.entries.iter().enumerate().skip(skip);
        numbered.map(move |(index, entry)| (first + index as u64, entry))
    }
}

impl Listing {
    pub(crate) fn new(directory: Option<Path>) -> Self {
        Self { directory, window: Mutex::default() }
    }

    /// The directory; `None` is the root.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_ref()
    }

    /// The page that holds `position`; one without entries from there on means the end.
    ///
    /// # Errors
    /// What the store answered to the listing.
    pub(crate) async fn window(
        &self,
        filesystem: &Filesystem,
        position: u64,
    ) -> Result<Arc<Window>> {
        let held = self.window.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The first position means a fresh look at the directory, as rewinddir(3) promises.
        let held = held.filter(|held| position > DOTS && held.start <= position);
        let mut window = match held {
            Some(window) => window,
            None => Arc::new(self.fetch(filesystem, DOTS, None).await?),
        };
        while position >= window.end()
            && let Some(token) = window.page.next.clone()
        {
            window = Arc::new(self.fetch(filesystem, window.end(), Some(token)).await?);
        }
        let kept = Some(Arc::clone(&window));
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(window)
    }

    async fn fetch(
        &self,
        filesystem: &Filesystem,
        start: u64,
        token: Option<String>,
    ) -> Result<Window> {
        let fetched = filesystem.clock().elapsed();
        let page = match &self.directory {
            Some(directory) => filesystem.entries(directory, token).await?,
            None => mounts(filesystem),
        };
        Ok(Window { start, page, fetched })
    }
}

/// The root's entries.
fn mounts(filesystem: &Filesystem) -> DirectoryPage {
    let mounts = filesystem.mounts();
    let entry = |name: &str| DirectoryEntry { name: name.to_owned(), node: Node::Directory };
    let entries = mounts.iter().map(|record| entry(record.name.as_str())).collect();
    DirectoryPage { entries, ..DirectoryPage::default() }
}
