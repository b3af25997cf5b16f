// SPDX-License-Identifier: Apache-2.0
//! Puts into a page store that is full, each evicting what came before, against the disk's own
//! write rate: the same bytes by `pwrite` over a file that has its blocks already.
//!
//! Neither side syncs while it writes; both wait at the end of a round until the file system has
//! written all of it, and that belongs to the time. The index is the real one, on its own files.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use larder_core::{ByteSize, Clock, ContentId, Metrics, PAGE_SIZE, PageIndex, Random, crc32c};
use larder_meta::MetaStore;
use larder_pages::{Class, DirectoryOptions, NewPage, Options, PageStore, PutOutcome};
use larder_worker::ResidencyIndex;
use rustix::fs::{FallocateFlags, fallocate, syncfs};

use crate::{
    measure::plan::{Effort, Plan},
    report::row::{Bound, Row},
};

const RATE_FLOOR: f64 = 0.9;
const PAUSE_CEILING_MS: f64 = 50.0;
/// The length of each content that is put: four segments.
const CONTENT: u64 = 64 << 20;
/// Bytes put and not yet answered at most; the page store refuses above 64 MiB.
const UNDER_WAY_MAX: u64 = 32 << 20;
/// Different pages that are put, again and again under other names.
const POOL: usize = 1024;
/// Bytes of one `pwrite` of the reference.
const WRITE: usize = 1 << 20;

/// What one round of one side gave.
#[derive(Debug, Clone, Copy)]
struct Written {
    bytes: u64,
    wall: Duration,
    /// The longest that one call took.
    call: Duration,
    /// The longest time in which nothing was done.
    pause: Duration,
}

pub(super) fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let capacity: u64 = match plan.effort {
        Effort::Quick => 1 << 30,
        Effort::Full => 4 << 30,
    };
    let folder = plan.scratch_folder()?;
    let mut side = Filling::start(folder.path(), capacity)?;
    let disk = Disk::start(folder.path(), capacity)?;
    // Until the store is full and has evicted for the first time.
    side.round(capacity)?;
    side.round(capacity / 4)?;
    let row =
        |figure| Row { bench: "pages", case: "put, cache full".into(), figure, ..Row::default() };
    let mut rate = Row { bound: Some(Bound::AtLeast(RATE_FLOOR)), ..row("MB / s, synced") };
    let mut call = Row { bound: Some(Bound::AtMost(PAUSE_CEILING_MS)), ..row("longest put, ms") };
    let mut pause = row("longest time without a page kept, ms");
    let mut disk_pause = row("longest pwrite of the reference, ms");
    for round in 0..plan.rounds() {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let written = side.round(capacity)?;
                rate.larder.push(megabytes_per_s(&written));
                call.larder.push(written.call.as_secs_f64() * 1e3);
                pause.larder.push(written.pause.as_secs_f64() * 1e3);
            } else {
                let written = disk.round(capacity)?;
                rate.reference.push(megabytes_per_s(&written));
                disk_pause.larder.push(written.call.as_secs_f64() * 1e3);
            }
        }
    }
    side.store.close()?;
    Ok(vec![rate, call, pause, disk_pause])
}

/// Pages with their checksums, ready to be put.
fn pool() -> Vec<(Bytes, u32)> {
    let pages = (0..POOL).map(|seed| {
        let random = Random::seeded(seed as u64);
        let words = (0..PAGE_SIZE / 8).flat_map(|_| random.next().to_le_bytes());
        let bytes: Bytes = words.collect();
        let sum = crc32c(&bytes);
        (bytes, sum)
    });
    pages.collect()
}

/// A page store that is filled and filled.
struct Filling {
    store: Arc<PageStore>,
    metrics: Arc<Metrics>,
    root: File,
    capacity: u64,
    pool: Vec<(Bytes, u32)>,
    contents: u64,
    gate: Arc<Gate>,
}

impl Filling {
    fn start(folder: &Path, capacity: u64) -> Result<Self> {
        let meta = MetaStore::open(larder_meta::Options::new(folder.join("meta")))?;
        let path = folder.join("cache");
        let directory = DirectoryOptions { path: path.clone(), capacity: ByteSize(capacity) };
        let metrics = Arc::new(Metrics::new());
        let options = Options { directories: vec![directory], ..Options::default() };
        let index = Arc::new(ResidencyIndex::new(meta));
        let store = PageStore::open(options, index, Arc::clone(&metrics))?;
        let root = File::open(&path)?;
        let (pool, gate) = (pool(), Arc::default());
        Ok(Self { store, metrics, root, capacity, pool, contents: 0, gate })
    }

    /// Puts at least `bytes`, in whole contents, and waits for the disk.
    fn round(&mut self, bytes: u64) -> Result<Written> {
        let (clock, evicted) = (Clock::system(), self.metrics.pages_evicted.get());
        self.gate.begin(&clock);
        let (mut put, mut call) = (0, Duration::ZERO);
        while put < bytes {
            for index in 0..CONTENT / PAGE_SIZE {
                self.gate.enter()?;
                let page = self.page(PageIndex(u32::try_from(index)?));
                let (gate, timer) = (Arc::clone(&self.gate), clock.clone());
                let start = clock.elapsed();
                self.store.put(page, move |outcome| gate.leave(outcome, timer.elapsed()));
                call = call.max(clock.elapsed() - start);
            }
            self.contents += 1;
            put += CONTENT;
        }
        let pause = self.gate.finish()?;
        syncfs(&self.root)?;
        let wall = clock.elapsed();
        let used: u64 = self.store.usage().iter().map(|disk| disk.resident.0).sum();
        if used > self.capacity {
            bail!("{used} bytes are resident where {} are allowed", self.capacity);
        }
        let full = self.contents * CONTENT > 2 * self.capacity;
        if full && self.metrics.pages_evicted.get() == evicted {
            bail!("nothing was evicted, so the cache was not full");
        }
        Ok(Written { bytes: put, wall, call, pause })
    }

    fn page(&self, index: PageIndex) -> NewPage {
        let (bytes, checksum) = self.pool[index.0 as usize % POOL].clone();
        // Any distinct name does; the page store spreads contents by it.
        let random = Random::seeded(self.contents);
        let content = ContentId(u128::from(random.next()) << 64 | u128::from(random.next()));
        let (bytes, class) = (bytes.into(), Class::NONE);
        NewPage { content, length: CONTENT, index, bytes, checksum, class, hold: None }
    }
}

/// Lets so many bytes be under way and no more, and notes when something ended.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<Passing>,
    left: Condvar,
    not_kept: AtomicU64,
}

#[derive(Debug, Default)]
struct Passing {
    under_way: u64,
    last: Duration,
    pause: Duration,
}

impl Gate {
    /// Longer than any disk that still works.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn begin(&self, clock: &Clock) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Passing { last: clock.elapsed(), ..Passing::default() };
    }

    /// Waits until another page may be put.
    fn enter(&self) -> Result<()> {
        self.wait_until_at_most(UNDER_WAY_MAX - PAGE_SIZE)?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).under_way += PAGE_SIZE;
        Ok(())
    }

    fn leave(&self, outcome: PutOutcome, now: Duration) {
        if outcome != PutOutcome::Kept {
            self.not_kept.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way -= PAGE_SIZE;
        state.pause = state.pause.max(now.saturating_sub(state.last));
        state.last = state.last.max(now);
        drop(state);
        self.left.notify_all();
    }

    /// Waits for the last page; the longest time without one.
    fn finish(&self) -> Result<Duration> {
        self.wait_until_at_most(0)?;
        let lost = self.not_kept.swap(0, Ordering::Relaxed);
        if lost > 0 {
            bail!("{lost} pages were not kept: then a rate of puts means nothing");
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).pause)
    }

    fn wait_until_at_most(&self, bytes: u64) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.left.wait_timeout_while(state, Self::PATIENCE, |state| state.under_way > bytes);
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!("the page store answered no put for {:?}", Self::PATIENCE);
        }
        Ok(())
    }
}

/// The reference: a file whose blocks are there already.
struct Disk {
    file: File,
    bytes: Vec<u8>,
}

impl Disk {
    fn start(folder: &Path, capacity: u64) -> Result<Self> {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(folder.join("reference"))?;
        fallocate(&file, FallocateFlags::empty(), 0, capacity)
            .context("the reference's file could not be allocated")?;
        let random = Random::seeded(1);
        let bytes = (0..WRITE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        let disk = Self { file, bytes };
        // Blocks that were never written are zeroed by the file system at the first write.
        disk.round(capacity)?;
        Ok(disk)
    }

    fn round(&self, bytes: u64) -> Result<Written> {
        let clock = Clock::system();
        let mut call = Duration::ZERO;
        for offset in (0..bytes).step_by(WRITE) {
            let start = clock.elapsed();
            self.file.write_all_at(&self.bytes, offset)?;
            call = call.max(clock.elapsed() - start);
        }
        syncfs(&self.file)?;
        Ok(Written { bytes, wall: clock.elapsed(), call, pause: call })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn megabytes_per_s(written: &Written) -> f64 {
    written.bytes as f64 / 1e6 / written.wall.as_secs_f64()
}
