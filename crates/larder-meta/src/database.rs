// SPDX-License-Identifier: Apache-2.0
//! The B-trees on disk: one for statuses, one for residency, one about the file itself.
//!
//! Read transactions live inside one function and never around a caller's code, because an open
//! one keeps freed pages from being used again. Writes come from the writer thread alone.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    ops::{Bound, ControlFlow},
    path::Path,
};

use heed::{Env, MdbError, RwTxn, types::Bytes};
use larder_core::Error;

use crate::{
    directory::Directory,
    environment::{self, ReadAhead},
    overlay::{Change, Table},
};

/// The layout of the whole file; another one is not read.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
const CLEAN_KEY: &[u8] = b"clean";

type Tree = heed::Database<Bytes, Bytes>;

/// The open trees.
#[derive(Debug)]
pub(crate) struct Database {
    env: Env,
    statuses: Tree,
    residency: Tree,
    about: Tree,
}

/// Why a file could not be opened.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// A newer Larder wrote it, in this format.
    Newer(u32),
    /// It is not a database, or a broken one.
    Damaged(heed::Error),
    /// It was written in a format nobody reads any more.
    Outdated,
    /// The machine refused.
    Failed(heed::Error),
}

/// Whether the last run ended by closing the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRun {
    Closed,
    Crashed,
}

impl Database {
    /// Opens or creates the trees and marks them as in use.
    pub(crate) fn open(
        directory: &Directory,
        map_bytes: usize,
    ) -> Result<(Self, LastRun), Unusable> {
        let ahead = read_ahead(directory.data_bytes());
        let env = environment::open(directory.path(), map_bytes, ahead)?;
        cover_last_page(&env, &directory.data())?;
        env.clear_stale_readers()?;
        let mut txn = env.write_txn()?;
        let about: Tree = env.create_database(&mut txn, Some("about"))?;
        let fresh = about.is_empty(&txn)?;
        if !fresh {
            check_format(about.get(&txn, FORMAT_KEY)?)?;
        }
        let statuses: Tree = env.create_database(&mut txn, Some("statuses"))?;
        let residency: Tree = env.create_database(&mut txn, Some("residency"))?;
        for tree in [statuses, residency] {
            // Walks both edges of the tree, so that damage near the root shows now.
            tree.first(&txn)?;
            tree.last(&txn)?;
        }
        let clean = fresh || about.get(&txn, CLEAN_KEY)? == Some(&[1]);
        about.put(&mut txn, FORMAT_KEY, &FORMAT.to_le_bytes())?;
        about.put(&mut txn, CLEAN_KEY, &[0])?;
        txn.commit()?;
        let last_run = if clean { LastRun::Closed } else { LastRun::Crashed };
        Ok((Self { env, statuses, residency, about }, last_run))
    }

    /// Gives the record under `key` to `read`, inside a read transaction.
    pub(crate) fn get<R>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> heed::Result<Option<R>> {
        let txn = self.env.read_txn()?;
        Ok(self.tree(table).get(&txn, key)?.map(read))
    }

    /// Gives the records from `start` on to `visit`, in order, until it breaks.
    pub(crate) fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> heed::Result<()> {
        let txn = self.env.read_txn()?;
        for entry in self.tree(table).range(&txn, &(start, Bound::Unbounded))? {
            let (key, record) = entry?;
            if visit(key, record).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Records of a table, as committed.
    pub(crate) fn len(&self, table: Table) -> heed::Result<u64> {
        let txn = self.env.read_txn()?;
        self.tree(table).len(&txn)
    }

    /// Makes `changes` in synced transactions of at most `step` changes each.
    pub(crate) fn apply(
        &self,
        table: Table,
        changes: &BTreeMap<Vec<u8>, Change>,
        step: usize,
    ) -> heed::Result<()> {
        let tree = self.tree(table);
        self.in_steps(changes, step, |txn, key, change| match change {
            Change::Put(record) => tree.put(txn, key, record),
            Change::Remove => tree.delete(txn, key).map(drop),
        })
    }

    /// Forgets every key of `changes`: what a batch that could not be written falls back to, so
    /// that nothing older than it is believed.
    pub(crate) fn forget(
        &self,
        table: Table,
        changes: &BTreeMap<Vec<u8>, Change>,
        step: usize,
    ) -> heed::Result<()> {
        let tree = self.tree(table);
        self.in_steps(changes, step, |txn, key, _| tree.delete(txn, key).map(drop))
    }

    /// Writes down that all is written.
    pub(crate) fn mark_clean(&self) -> heed::Result<()> {
        let mut txn = self.env.write_txn()?;
        self.about.put(&mut txn, CLEAN_KEY, &[1])?;
        txn.commit()
    }

    fn in_steps(
        &self,
        changes: &BTreeMap<Vec<u8>, Change>,
        step: usize,
        mut make: impl FnMut(&mut RwTxn<'_>, &[u8], &Change) -> heed::Result<()>,
    ) -> heed::Result<()> {
        let mut left = changes.iter().peekable();
        while left.peek().is_some() {
            let mut txn = self.env.write_txn()?;
            for (key, change) in left.by_ref().take(step.max(1)) {
                make(&mut txn, key, change)?;
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn tree(&self, table: Table) -> &Tree {
        match table {
            Table::Statuses => &self.statuses,
            Table::Residency => &self.residency,
        }
    }
}

/// Turns an error of the engine into one for people.
pub(crate) fn told(doing: &str, error: heed::Error) -> Error {
    let make = if is_damage(&error) { Error::corrupt } else { Error::unavailable };
    make(format!("{doing} failed")).with_source(error)
}

/// Whether the file itself is at fault.
pub(crate) fn is_damage(error: &heed::Error) -> bool {
    use MdbError::{Corrupted, Incompatible, Invalid, PageNotFound, Panic, VersionMismatch};
    match error {
        heed::Error::Mdb(
            Corrupted | Incompatible | Invalid | PageNotFound | Panic | VersionMismatch,
        ) => true,
        heed::Error::Mdb(_)
        | heed::Error::Io(_)
        | heed::Error::Encoding(_)
        | heed::Error::Decoding(_)
        | heed::Error::EnvAlreadyOpened => false,
    }
}

impl From<heed::Error> for Unusable {
    fn from(error: heed::Error) -> Self {
        if is_damage(&error) { Self::Damaged(error) } else { Self::Failed(error) }
    }
}

fn check_format(record: Option<&[u8]>) -> Result<(), Unusable> {
    let number = record.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match number {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(Unusable::Newer(newer)),
        _ => Err(Unusable::Outdated),
    }
}

/// Touching a mapped page behind the end of the file would end the process. A file that was cut
/// short is filled with zeros, which the engine takes for damage and reports.
fn cover_last_page(env: &Env, data: &Path) -> heed::Result<()> {
    let pages = env.info().last_page_number as u64 + 1;
    let needed = pages * u64::from(env.stat().page_size);
    let file = OpenOptions::new().write(true).open(data)?;
    if file.metadata()?.len() < needed {
        file.set_len(needed)?;
    }
    Ok(())
}

fn read_ahead(data_bytes: u64) -> ReadAhead {
    let memory = rustix::system::sysinfo();
    let total = memory.totalram.saturating_mul(u64::from(memory.mem_unit));
    if data_bytes > total / 2 { ReadAhead::Off } else { ReadAhead::Kernel }
}
