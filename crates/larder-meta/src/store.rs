// SPDX-License-Identifier: Apache-2.0
//! The front door: statuses by path, residency records by key, flush and close.
//!
//! A put returns at once and is seen by every read that follows; within the flush interval it is
//! on disk. A crash of the process or the machine loses at most what came after, never the
//! store. All calls may block for a page fault, a put also (bounded) for a slow disk.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use larder_core::{Error, Key, MountName, Path, Result};

use crate::{
    Known,
    database::{Database, LastRun, Unusable, told},
    directory::Directory,
    key,
    overlay::{Change, Table},
    record,
    writer::{self, Shared},
};

/// Residency records read in one transaction while all are visited.
const VISIT_STEP: usize = 4_096;

/// Where the store lies, and its limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory of its own on a local disk.
    pub directory: PathBuf,
    /// How long a change may stay in memory only.
    pub flush_interval: Duration,
    /// How many changes are gathered at most before they are written.
    pub batch_records: usize,
    /// Memory for changes that are not yet on disk; beyond it a put waits.
    pub overlay_bytes_max: usize,
    /// The size the store can grow to: address space, not disk or memory.
    pub map_bytes: usize,
}

impl Options {
    /// The usual limits: one second or 4,096 changes, 64 MiB of them, 64 GiB of map.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            flush_interval: Duration::from_secs(1),
            batch_records: 4_096,
            overlay_bytes_max: 64 << 20,
            map_bytes: 64 << 30,
        }
    }
}

/// What [`MetaStore::for_each_residency`] shows each key and record to.
pub type Visit<'a> = dyn FnMut([u8; 20], &[u8]) -> Result<()> + 'a;

/// The metadata store of one worker.
#[derive(Debug)]
pub struct MetaStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    last_run: LastRun,
}

impl MetaStore {
    /// Opens or creates the store and starts its writer thread. A damaged file is moved aside
    /// with a warning and the store starts empty.
    ///
    /// # Errors
    /// `AlreadyExists` when another process holds the directory, `Unsupported` on a network file
    /// system or for a file of a newer Larder, `Unavailable` when the disk refuses.
    pub fn open(options: Options) -> Result<Arc<Self>> {
        let directory = Directory::claim(&options.directory)?;
        let (database, last_run) = open_database(&directory, options.map_bytes)?;
        let shared = Arc::new(Shared::new(database, directory, &options));
        let writer = Mutex::new(Some(writer::spawn(Arc::clone(&shared))?));
        Ok(Arc::new(Self { shared, writer, last_run }))
    }

    /// What is known of a path. A record that cannot be read is as good as none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn status(&self, path: &Path) -> Result<Option<Known>> {
        let key = key::of_path(path);
        let decode = |bytes: &[u8]| decoded(&key, bytes);
        Ok(self.get(Table::Statuses, &key, decode)?.flatten())
    }

    /// Keeps what is known of a path. A status without attributes keeps those known before of
    /// the same version; of two puts of one path at once, one's attributes may be lost to the
    /// other, which costs one request.
    ///
    /// # Errors
    /// When it was not kept: `Exhausted` for a disk that can't keep up, `Unavailable` when closed.
    pub fn put_status(&self, path: &Path, known: Known) -> Result<()> {
        // A disk that cannot tell what was known before is no reason to forget what is known now.
        let before = if known.may_gain() { self.status(path).unwrap_or(None) } else { None };
        let known = match before {
            Some(before) => known.merged(before),
            None => known,
        };
        let put = Change::Put(record::encode(&known));
        self.shared.change(Table::Statuses, key::of_path(path), put)
    }

    /// Forgets what is known of a path.
    ///
    /// # Errors
    /// As [`MetaStore::put_status`].
    pub fn remove_status(&self, path: &Path) -> Result<()> {
        self.shared.change(Table::Statuses, key::of_path(path), Change::Remove)
    }

    /// What is known of the keys of `mount` that start with the raw `prefix`, in byte order,
    /// behind `after`, at most `limit`. Fewer than that means there are no more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn statuses(
        &self,
        mount: &MountName,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Known)>> {
        let prefix = key::of_prefix(mount, prefix);
        let mut last = after.map(|after| key::of_prefix(mount, after.as_str()));
        let mut found = Vec::new();
        while found.len() < limit {
            let wanted = limit - found.len();
            let records = self.scan(Table::Statuses, &prefix, last.as_deref(), wanted)?;
            let is_end = records.len() < wanted;
            last = records.last_key_value().map(|(key, _)| key.clone());
            for (bytes, record) in records {
                let Some(known) = decoded(&bytes, &record) else { continue };
                let Some(key) = key::raw_key(&bytes) else { continue };
                found.push((key, known));
            }
            if is_end {
                break;
            }
        }
        Ok(found)
    }

    /// How many statuses there are, about: a change that is not yet on disk counts as a new one.
    #[must_use]
    pub fn count(&self) -> u64 {
        let balance = self.shared.in_overlay(|overlay| overlay.status_balance()).unwrap_or(0);
        let on_disk = self.shared.database.len(Table::Statuses).unwrap_or(0);
        on_disk.saturating_add_signed(balance)
    }

    /// Changes that were given up because the disk would not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped()
    }

    /// The residency record under `key`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn residency(&self, key: &[u8; 20]) -> Result<Option<Vec<u8>>> {
        self.get(Table::Residency, key, <[u8]>::to_vec)
    }

    /// Keeps a residency record.
    ///
    /// # Errors
    /// As [`MetaStore::put_status`].
    pub fn put_residency(&self, key: [u8; 20], record: Vec<u8>) -> Result<()> {
        self.shared.change(Table::Residency, key.to_vec(), Change::Put(record))
    }

    /// Forgets a residency record.
    ///
    /// # Errors
    /// As [`MetaStore::put_status`].
    pub fn remove_residency(&self, key: &[u8; 20]) -> Result<()> {
        self.shared.change(Table::Residency, key.to_vec(), Change::Remove)
    }

    /// Shows every residency record to `visit`, in key order. Records that change meanwhile may
    /// be seen as they were or as they are; `visit` may call this store.
    ///
    /// # Errors
    /// When the disk fails, or `visit` does.
    pub fn for_each_residency(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut last: Option<Vec<u8>> = None;
        loop {
            let records = self.scan(Table::Residency, &[], last.as_deref(), VISIT_STEP)?;
            let is_end = records.len() < VISIT_STEP;
            for (key, record) in &records {
                match <[u8; 20]>::try_from(key.as_slice()) {
                    Ok(key) => visit(key, record)?,
                    Err(_) => tracing::warn!(bytes = key.len(), "passed over a strange key"),
                }
            }
            if is_end {
                return Ok(());
            }
            last = records.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// Waits until all that was put before is on disk; at most ten seconds.
    ///
    /// # Errors
    /// When something put since the last flush was not kept, or the disk did not answer in time.
    pub fn flush(&self) -> Result<()> {
        self.shared.flush()
    }

    /// Takes no more changes, writes what there is, and marks the store as closed.
    ///
    /// # Errors
    /// As [`MetaStore::flush`].
    pub fn close(&self) -> Result<()> {
        self.shared.close();
        self.shared.flush()?;
        let marked = self.shared.database.mark_clean();
        marked.map_err(|error| self.shared.failed("closing the metadata store", error))
    }

    /// Whether the run before this one closed the store (or there was none).
    #[must_use]
    pub fn opened_clean(&self) -> bool {
        self.last_run == LastRun::Closed
    }

    fn get<R>(&self, table: Table, key: &[u8], read: impl Fn(&[u8]) -> R) -> Result<Option<R>> {
        let pending = self.shared.in_overlay(|overlay| {
            overlay.get(table, key).map(|change| match change {
                Change::Put(record) => Some(read(record)),
                Change::Remove => None,
            })
        });
        if let Some(Some(answer)) = pending {
            return Ok(answer);
        }
        let found = self.shared.database.get(table, key, read);
        found.map_err(|error| self.shared.failed("reading metadata", error))
    }

    /// The first `limit` records behind `after` whose keys start with `prefix`, overlay and disk
    /// together.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            // The engine knows no empty keys, not even to start at.
            _ if prefix.is_empty() => Bound::Unbounded,
            _ => Bound::Included(prefix),
        };
        let window =
            |overlay: &crate::overlay::Overlay| overlay.window(table, start, prefix, limit);
        let changes = self.shared.in_overlay(window).unwrap_or_default();
        let mut found = BTreeMap::new();
        let scanned = self.shared.database.scan(table, start, |key, record| {
            if found.len() >= limit || !key.starts_with(prefix) {
                return ControlFlow::Break(());
            }
            if !changes.contains_key(key) {
                found.insert(key.to_vec(), record.to_vec());
            }
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| self.shared.failed("reading metadata", error))?;
        for (key, change) in changes {
            if let Change::Put(record) = change {
                found.insert(key, record);
            }
        }
        while found.len() > limit {
            found.pop_last();
        }
        Ok(found)
    }
}

impl Drop for MetaStore {
    fn drop(&mut self) {
        self.shared.stop();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the metadata store's writer ended with a panic");
        }
    }
}

fn decoded(key: &[u8], bytes: &[u8]) -> Option<Known> {
    let known = record::decode(bytes);
    if known.is_none() {
        let key = String::from_utf8_lossy(key);
        tracing::warn!(%key, bytes = bytes.len(), "passed over a status that can't be read");
    }
    known
}

fn open_database(directory: &Directory, map_bytes: usize) -> Result<(Database, LastRun)> {
    let path = directory.path().display();
    // The engine wants whole pages, whatever their size here.
    let map_bytes = map_bytes.next_multiple_of(1 << 16);
    if directory.is_condemned() {
        tracing::warn!(directory = %path, "metadata was found damaged before; starting empty");
        directory.set_aside()?;
    }
    let why = match Database::open(directory, map_bytes) {
        Ok(opened) => return Ok(opened),
        Err(Unusable::Newer(format)) => {
            return Err(Error::unsupported(format!(
                "the metadata in {path} has format {format}, from a newer Larder; run that one, \
                 or remove the directory, it is only a cache"
            )));
        }
        Err(Unusable::Failed(error)) => {
            return Err(told(&format!("opening the metadata in {path}"), error));
        }
        Err(Unusable::Damaged(error)) => error.to_string(),
        Err(Unusable::Outdated) => "a format no longer read".to_owned(),
    };
    tracing::warn!(directory = %path, why, "metadata can't be read; starting empty");
    directory.set_aside()?;
    let opened = Database::open(directory, map_bytes);
    opened.map_err(|error| {
        Error::unavailable(format!("no metadata store could be made in {path}: {error:?}"))
    })
}
