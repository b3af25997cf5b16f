// SPDX-License-Identifier: Apache-2.0
//! What was put and is not yet on disk. Readers look here first.
//!
//! Two generations: `gathering` takes new changes, `writing` is the batch the writer has in
//! hand. A change leaves the overlay only after its transaction is committed, so a reader that
//! looks here first and opens its transaction after finds every change in one of the two places.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Which tree a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Statuses,
    Residency,
}

/// What is to become of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Vec<u8>),
    Remove,
}

/// One generation of changes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    statuses: BTreeMap<Vec<u8>, Change>,
    residency: BTreeMap<Vec<u8>, Change>,
    bytes: usize,
}

/// Memory one change takes beside its key and record: tree node, two vectors.
const CHANGE_BYTES: usize = 96;

impl Batch {
    pub(crate) fn table(&self, table: Table) -> &BTreeMap<Vec<u8>, Change> {
        match table {
            Table::Statuses => &self.statuses,
            Table::Residency => &self.residency,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.statuses.len() + self.residency.len()
    }

    fn insert(&mut self, table: Table, key: Vec<u8>, change: Change) {
        let tree = match table {
            Table::Statuses => &mut self.statuses,
            Table::Residency => &mut self.residency,
        };
        let key_bytes = key.len();
        self.bytes += change.bytes();
        match tree.insert(key, change) {
            Some(replaced) => self.bytes -= replaced.bytes(),
            None => self.bytes += key_bytes + CHANGE_BYTES,
        }
    }
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(record) => record.len(),
            Self::Remove => 0,
        }
    }
}

/// Both generations.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    gathering: Batch,
    writing: Arc<Batch>,
}

impl Overlay {
    /// What is known of `key` here; `None` sends the reader to the disk.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Change> {
        let newest = self.gathering.table(table).get(key);
        newest.or_else(|| self.writing.table(table).get(key))
    }

    pub(crate) fn insert(&mut self, table: Table, key: Vec<u8>, change: Change) {
        self.gathering.insert(table, key, change);
    }

    /// Changes that wait for the writer.
    pub(crate) fn gathered(&self) -> usize {
        self.gathering.len()
    }

    /// All changes not known to be on disk.
    pub(crate) fn len(&self) -> usize {
        self.gathering.len() + self.writing.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.gathering.bytes + self.writing.bytes
    }

    /// Hands all that was gathered to the writer.
    pub(crate) fn take(&mut self) -> Arc<Batch> {
        self.writing = Arc::new(std::mem::take(&mut self.gathering));
        Arc::clone(&self.writing)
    }

    /// The batch last taken is on disk, or given up.
    pub(crate) fn written(&mut self) {
        self.writing = Arc::default();
    }

    /// How many more statuses there are with these changes than without; exact when no change
    /// replaces a record on disk.
    pub(crate) fn status_balance(&self) -> i64 {
        let batches = [&self.gathering, &*self.writing];
        let changes = batches.iter().flat_map(|batch| batch.statuses.values());
        changes.map(|change| if *change == Change::Remove { -1 } else { 1 }).sum()
    }

    /// The changes from `start` on whose keys start with `prefix`, up to and with the `puts`th
    /// put: what lies behind that one cannot be among the first `puts` records.
    pub(crate) fn window(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        prefix: &[u8],
        puts: usize,
    ) -> BTreeMap<Vec<u8>, Change> {
        let range = (start, Bound::Unbounded);
        let mut newer = self.gathering.table(table).range::<[u8], _>(range).peekable();
        let mut older = self.writing.table(table).range::<[u8], _>(range).peekable();
        let mut window = BTreeMap::new();
        let mut found = 0;
        while found < puts {
            let from_older = match (newer.peek(), older.peek()) {
                (None, None) => break,
                (Some((new, _)), Some((old, _))) if new == old => {
                    older.next();
                    false
                }
                (Some((new, _)), Some((old, _))) => old < new,
                (newest, _) => newest.is_none(),
            };
            let next = if from_older { older.next() } else { newer.next() };
            let Some((key, change)) = next.filter(|(key, _)| key.starts_with(prefix)) else {
                break;
            };
            found += usize::from(*change != Change::Remove);
            window.insert(key.clone(), change.clone());
        }
        window
    }
}
