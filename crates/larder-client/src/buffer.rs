// SPDX-License-Identifier: Apache-2.0
//! Buffers that resident pages are read into, used again and again.
//!
//! A fresh 256 KiB allocation costs page faults that show in the CPU per GB; a used one is warm.
//! Each buffer in use holds a lease of the memory budget.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use larder_core::{Lease, PAGE_SIZE};

/// Bytes of a large buffer: four pages, a good size for one write to a socket.
pub(crate) const BUFFER_SIZE: usize = 4 * PAGE_SIZE as usize;
/// Bytes of a small buffer: one page, for small reads and for when memory is short.
pub(crate) const SMALL_BUFFER_SIZE: usize = PAGE_SIZE as usize;

/// A bounded stack of idle buffers.
#[derive(Debug, Clone)]
pub(crate) struct BufferPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    idle: Mutex<Idle>,
    idle_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

impl Idle {
    fn stack(&mut self, size: usize) -> &mut Vec<Box<[u8]>> {
        if size == SMALL_BUFFER_SIZE { &mut self.small } else { &mut self.large }
    }
}

/// A buffer taken from the pool; goes back when dropped, together with its lease.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Option<Box<[u8]>>,
    length: usize,
    pool: Arc<Pool>,
    lease: Lease,
}

impl BufferPool {
    /// Keeps at most a sixteenth of the budget idle.
    pub(crate) fn new(budget: u64) -> Self {
        let idle_max = usize::try_from(budget / 16).unwrap_or(usize::MAX) / BUFFER_SIZE;
        Self(Arc::new(Pool { idle: Mutex::default(), idle_max: idle_max.clamp(4, 1024) }))
    }

    /// The memory that a buffer for `length` bytes takes: what its lease must cover.
    pub(crate) fn size_for(length: usize) -> usize {
        if length <= SMALL_BUFFER_SIZE { SMALL_BUFFER_SIZE } else { BUFFER_SIZE }
    }

    /// A buffer of `length` bytes (at most [`BUFFER_SIZE`]), whose content is not defined.
    pub(crate) fn take(&self, length: usize, lease: Lease) -> Buffer {
        assert!(length <= BUFFER_SIZE, "a piece is never longer than a buffer");
        let size = Self::size_for(length);
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).stack(size).pop();
        let bytes = idle.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Buffer { bytes: Some(bytes), length, pool: Arc::clone(&self.0), lease }
    }
}

impl Buffer {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes.as_mut().expect("taken only by drop")[..self.length]
    }

    /// The bytes as a shared slice that gives buffer and lease back when the last part is gone.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes.as_ref().expect("taken only by drop")[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = idle.stack(bytes.len());
        if stack.len() < self.pool.idle_max {
            stack.push(bytes);
        }
        let _held_until_now = &self.lease;
    }
}
