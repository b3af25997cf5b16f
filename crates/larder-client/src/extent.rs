// SPDX-License-Identifier: Apache-2.0
//! Reading resident pages: positioned reads, each page compared with its checksum.
//!
//! On an async thread a read is tried without blocking first (`RWF_NOWAIT`): bytes in the page
//! cache never change thread, and only what must come from the disk goes to the blocking pool.

use std::{fs::File, io::IoSliceMut, os::unix::fs::FileExt, sync::Arc};

use larder_core::{ByteRange, Error, Extent, PageIndex, Result};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{buffer::Buffer, part::Run};

/// What became of a piece of an extent.
#[derive(Debug)]
pub(crate) enum Verified {
    /// Every page is what it should be.
    Good,
    /// These pages are not, or could not be read.
    Bad(Vec<PageIndex>),
}

/// Reads the whole pages `pages` (within `extent.range`) into `buffer`, without blocking the
/// thread when they have to come from the disk.
pub(crate) async fn load(
    extent: &Extent,
    pages: ByteRange,
    mut buffer: Buffer,
) -> Result<(Buffer, Verified)> {
    let offset = extent.offset + (pages.start - extent.range.start);
    let mut filled = 0;
    while filled < buffer.as_ref().len() {
        let slice = &mut buffer.as_mut_slice()[filled..];
        let mut slices = [IoSliceMut::new(slice)];
        let at = offset + filled as u64;
        match preadv2(&extent.file, &mut slices, at, ReadWriteFlags::NOWAIT) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) => {
                (buffer, filled) = load_blocking(&extent.file, buffer, filled, offset).await?;
                break;
            }
        }
    }
    let verdict = Run::of(extent, None).verify(pages, &buffer.as_ref()[..filled]);
    Ok((buffer, verdict))
}

async fn load_blocking(
    file: &Arc<File>,
    mut buffer: Buffer,
    filled: usize,
    offset: u64,
) -> Result<(Buffer, usize)> {
    let file = Arc::clone(file);
    let task = tokio::task::spawn_blocking(move || {
        let filled = read_to_end(&file, buffer.as_mut_slice(), filled, offset);
        (buffer, filled)
    });
    task.await.map_err(|error| Error::internal("a disk read was abandoned").with_source(error))
}

/// Reads until `into` is full, the file ends or the disk fails; answers how far it came. A short
/// read is not an error here: the pages it leaves out fail their check and are fetched again.
pub(crate) fn read_to_end(file: &File, into: &mut [u8], mut filled: usize, offset: u64) -> usize {
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "a resident page could not be read");
                break;
            }
        }
    }
    filled
}
