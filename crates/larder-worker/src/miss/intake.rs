// SPDX-License-Identifier: Apache-2.0
//! From the store's chunks to runs for the readers and pages for the page store.
//!
//! A large chunk is handed on as it came, without a copy, and its pages are slices of it. A small
//! one is copied into a buffer of one page, for a chunk may keep more memory alive than it is
//! long. So is every chunk while half of the memory budget is taken: then what a slow reader
//! holds back is a page at most.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use larder_core::{Lease, MemoryBudget, PAGE_SIZE, PageIndex};
use larder_pages::PageBytes;

use super::fetch::Run;

/// A chunk of at least this many bytes is handed on without a copy.
const UNCOPIED_MIN: usize = 32 << 10;

/// Turns chunks into runs whose memory is leased.
pub(super) struct Intake<'a> {
    budget: &'a MemoryBudget,
    /// What is left of the buffer that small chunks are copied into.
    buffer: BytesMut,
    room: usize,
    lease: Option<Arc<Lease>>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(budget: &'a MemoryBudget) -> Self {
        Self { budget, buffer: BytesMut::new(), room: 0, lease: None }
    }

    /// Leases memory for the next bytes, so that none are taken from the store without.
    pub(super) async fn ready(&mut self) -> Arc<Lease> {
        if let Some(lease) = self.lease.as_ref().filter(|_| self.room > 0) {
            return Arc::clone(lease);
        }
        // The former buffer's share belongs to those who still hold its runs.
        self.lease = None;
        let lease = Arc::new(self.budget.acquire(PAGE_SIZE).await);
        self.lease = Some(Arc::clone(&lease));
        self.buffer = BytesMut::new();
        self.room = PAGE_SIZE as usize;
        lease
    }

    /// Gives back what no run holds: a fetch that waits for its readers keeps no memory for itself.
    pub(super) fn release(&mut self) {
        self.lease = None;
        self.room = 0;
        self.buffer = BytesMut::new();
    }

    /// Takes as much of a chunk as there is memory for, at least a byte.
    pub(super) fn take(&mut self, chunk: &mut Bytes, start: u64, lease: Arc<Lease>) -> Run {
        let plenty = self.budget.used() <= self.budget.total() / 2;
        if plenty
            && chunk.len() >= UNCOPIED_MIN
            && let Some(lease) = self.budget.try_acquire(chunk.len() as u64)
        {
            return Run { start, bytes: std::mem::take(chunk), lease: Arc::new(lease) };
        }
        let count = chunk.len().min(self.room);
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(self.room);
        }
        self.buffer.extend_from_slice(&chunk.split_to(count));
        self.room -= count;
        Run { start, bytes: self.buffer.split().freeze(), lease }
    }
}

/// A page that is whole, and the memory it holds.
pub(super) struct WholePage {
    pub(super) index: PageIndex,
    pub(super) bytes: PageBytes,
    pub(super) leases: Vec<Arc<Lease>>,
}

/// Cuts runs into pages.
pub(super) struct Pages {
    /// Where the last page ends, which may be shorter.
    end: u64,
    reached: u64,
    bytes: PageBytes,
    leases: Vec<Arc<Lease>>,
}

impl Pages {
    /// Pages from `start`, where one begins, to `end`.
    pub(super) fn new(start: u64, end: u64) -> Self {
        Self { end, reached: start, bytes: PageBytes::default(), leases: Vec::new() }
    }

    /// Adds a run, up to the end of the page it begins in; answers the page if it is whole now,
    /// and leaves what is behind it in the run.
    pub(super) fn add(&mut self, run: &mut Run) -> Option<WholePage> {
        let index = PageIndex::at(self.reached);
        let page_end = index.range(self.end).end;
        let left = usize::try_from(page_end - self.reached).expect("a page fits in memory");
        let part = run.bytes.split_to(run.bytes.len().min(left));
        run.start += part.len() as u64;
        self.reached = run.start;
        self.bytes.push(part);
        self.leases.push(Arc::clone(&run.lease));
        if self.reached < page_end {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        Some(WholePage { index, bytes, leases: std::mem::take(&mut self.leases) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = PAGE_SIZE as usize;

    /// Feeds chunks of these lengths; answers the bytes of all runs and those of all pages.
    async fn feed(budget: &MemoryBudget, bytes: &[u8], mut lengths: Vec<usize>) -> [Vec<u8>; 2] {
        let (mut runs, mut whole) = (Vec::new(), Vec::new());
        let mut intake = Intake::new(budget);
        let mut pages = Pages::new(0, bytes.len() as u64);
        let (mut rest, mut position) = (bytes, 0);
        lengths.push(bytes.len());
        for length in lengths {
            let (chunk, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            let mut chunk = Bytes::copy_from_slice(chunk);
            while !chunk.is_empty() {
                let lease = intake.ready().await;
                let mut run = intake.take(&mut chunk, position, lease);
                position = run.end();
                runs.extend_from_slice(&run.bytes);
                while !run.bytes.is_empty() {
                    if let Some(page) = pages.add(&mut run) {
                        assert_eq!(page.index.start(), whole.len() as u64);
                        assert_eq!(
                            page.bytes.checksum(),
                            larder_core::crc32c(
                                &bytes[whole.len()..(whole.len() + PAGE).min(bytes.len())]
                            )
                        );
                        page.bytes.parts().for_each(|part| whole.extend_from_slice(part));
                    }
                }
            }
        }
        [runs, whole]
    }

    #[tokio::test]
    async fn chunks_of_any_size_become_the_same_runs_and_pages() {
        let bytes: Vec<u8> = (0..5 * PAGE + 777).map(|at| (at % 251) as u8).collect();
        let budget = MemoryBudget::new(8 << 20);
        for lengths in [vec![], vec![1], vec![PAGE], vec![PAGE - 1, 2, 3 * PAGE], vec![9000; 30]] {
            assert_eq!(feed(&budget, &bytes, lengths).await, [bytes.clone(), bytes.clone()]);
        }
        assert_eq!(budget.used(), 0, "all is given back");
    }

    #[tokio::test]
    async fn a_large_chunk_is_not_copied_while_there_is_memory() {
        let budget = MemoryBudget::new(1 << 20);
        let chunk = Bytes::from(vec![7; 3 * PAGE]);
        let mut intake = Intake::new(&budget);
        let lease = intake.ready().await;
        let run = intake.take(&mut chunk.clone(), 0, lease);
        assert_eq!(run.bytes.as_ptr(), chunk.as_ptr());
        assert_eq!(budget.used(), 4 * PAGE_SIZE, "the chunk and the page that is ready");
        intake.release();
        assert_eq!(budget.used(), 3 * PAGE_SIZE, "the chunk alone");
        let _others = budget.try_acquire(8 * PAGE_SIZE).expect("there is room");
        let lease = intake.ready().await;
        let run = intake.take(&mut chunk.clone(), 0, lease);
        assert_eq!(run.bytes.len(), PAGE, "one page at a time when memory is short");
        assert_ne!(run.bytes.as_ptr(), chunk.as_ptr());
    }
}
