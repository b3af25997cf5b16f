// SPDX-License-Identifier: Apache-2.0
//! Buffers for read replies, used again and again: a fresh one costs page faults and zeroing.
//!
//! Not counted against the memory budget: at most [`READS_WAITING_MAX`] of them wait for a store
//! and one is with each kernel thread, so they are bounded by themselves.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest read the kernel is told to send.
pub(crate) const READ_MAX: usize = 1 << 20;
/// Reads that wait for a store with a buffer in hand; more wait without.
const READS_WAITING_MAX: usize = 64;
/// Buffers kept for the next read.
const IDLE_MAX: usize = 16;

/// Where buffers come from and go back to.
#[derive(Debug)]
pub(crate) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
    permits: Arc<Semaphore>,
}

/// A buffer that goes back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Arc<BufferPool>,
    _permit: OwnedSemaphorePermit,
}

impl BufferPool {
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(READS_WAITING_MAX + threads));
        Arc::new(Self { idle: Mutex::default(), permits })
    }

    /// A buffer of `length` bytes whose content is not defined; waits while too many are out.
    pub(crate) async fn take(self: Arc<Self>, length: usize) -> Buffer {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = idle.unwrap_or_else(|| vec![0; READ_MAX]);
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        Buffer { bytes, length, pool: self, _permit: permit }
    }
}

impl Buffer {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Cuts it to what was read.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}
