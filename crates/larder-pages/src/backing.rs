// SPDX-License-Identifier: Apache-2.0
//! Backing files: one sparse file per content, each resident page at its own offset.
//!
//! Only this file and `disk` touch the file system. A file is set to the content's full length
//! before the first write, so that no file system allocates ahead of the end, and a file that is
//! wholly resident is an exact copy of the content.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, IoSlice},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use larder_core::{ContentId, PAGE_SIZE};
use rustix::{
    fs::{Advice, FallocateFlags, OFlags, SeekFrom, fadvise, fallocate, seek},
    io::{Errno, pwritev},
};

/// The largest block of a disk.
const ALIGNMENT: usize = 4096;

/// Fails as a disk would, when a test says so: `return(ENOSPC)` and the like.
macro_rules! fail_io {
    ($name:expr) => {
        fail::fail_point!($name, |errno: Option<String>| Err(match errno.as_deref() {
            Some("ENOSPC") => rustix::io::Errno::NOSPC,
            Some("EROFS") => rustix::io::Errno::ROFS,
            Some("EMFILE") => rustix::io::Errno::MFILE,
            _ => rustix::io::Errno::IO,
        }
        .into()));
    };
}
pub(crate) use fail_io;

/// Where the pages of `content` lie in the directory at `root`.
pub(crate) fn path(root: &Path, content: ContentId) -> PathBuf {
    let name = content.to_string();
    let (fan, rest) = name.split_at(2);
    root.join("pages").join(fan).join(rest)
}

/// The content whose backing file is `pages/fan/rest`; `None` for any other name.
pub(crate) fn content_of(fan: &OsStr, rest: &OsStr) -> Option<ContentId> {
    let name = format!("{}{}", fan.to_str()?, rest.to_str()?);
    let content = ContentId(u128::from_str_radix(&name, 16).ok()?);
    (content.to_string() == name && fan.len() == 2).then_some(content)
}

/// Opens a backing file for readers.
pub(crate) fn open_for_reading(root: &Path, content: ContentId) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path(root, content))
}

/// Memory that a medium can be read into past the page cache: it begins at a block.
pub(crate) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(crate) fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, length }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// Reads what lies on the medium rather than in the page cache, and leaves the page cache as it
/// is. `offset` begins a block, `buffer` is whole blocks of an [`AlignedBuffer`]. Returns how much
/// there was before the end of the file.
pub(crate) fn read_medium(path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let open = |flags: OFlags| {
        let flags = (OFlags::NOFOLLOW | flags).bits() as i32;
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let direct = open(OFlags::DIRECT);
    let read = direct.and_then(|file| read_to_end(&file, offset, buffer));
    match read {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
        read => return read,
    }
    // This file system can't: then at least what is read is the first to leave memory again.
    let file = open(OFlags::empty())?;
    let _ = fadvise(&file, 0, None, Advice::NoReuse);
    read_to_end(&file, offset, buffer)
}

fn read_to_end(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // Only the end of the file cuts a block, and behind it nothing can be asked directly.
        if !got.is_multiple_of(ALIGNMENT) {
            break;
        }
    }
    Ok(got)
}

/// Lets the page cache forget bytes that it need not write.
pub(crate) fn forget_cached(path: &Path, ranges: &[Range<u64>]) {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return };
    let block = ALIGNMENT as u64;
    for range in ranges {
        let start = range.start / block * block;
        let length = NonZeroU64::new(range.end.next_multiple_of(block) - start);
        // Where that fails a page is judged by what is in memory, as readers do.
        let _ = fadvise(&file, start, length, Advice::DontNeed);
    }
}

/// Opens a backing file that exists, to change it.
pub(crate) fn open_for_writing(root: &Path, content: ContentId) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path(root, content))
}

/// Opens a backing file for a content of `length` bytes, making it if it is missing.
pub(crate) fn create(root: &Path, content: ContentId, length: u64) -> io::Result<File> {
    fail_io!("pages::create");
    let path = path(root, content);
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
    };
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()?
        }
        opened => opened?,
    };
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    Ok(file)
}

/// Writes `parts` one after the other from `offset` on, in as few calls as it takes.
pub(crate) fn write(file: &File, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
    fail_io!("pages::fill");
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = match pwritev(file, rest, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        offset += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Marks a file that was handed out whole. It means nothing else on a regular file, and it stays
/// when the process ends.
const LENT: u32 = 0o1000;

/// Whether the file was ever handed out whole: somebody may have it mapped, and a mapping goes on
/// when the file is closed. Such a file is never punched, only unlinked.
pub(crate) fn is_lent(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.mode() & LENT != 0)
}

/// Notes that the file is handed out whole.
pub(crate) fn lend(file: &File) -> io::Result<()> {
    // Only once, for it changes the time by which a checked file is known again.
    if is_lent(file)? {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(0o600 | LENT))
}

/// Gives the blocks of these pages back to the file system.
pub(crate) fn punch(file: &File, pages: Range<u32>) -> io::Result<()> {
    punch_bytes(file, u64::from(pages.start) * PAGE_SIZE..u64::from(pages.end) * PAGE_SIZE)
}

/// Gives the blocks of these bytes back to the file system.
pub(crate) fn punch_bytes(file: &File, bytes: Range<u64>) -> io::Result<()> {
    fail_io!("pages::punch");
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fallocate(file, how, bytes.start, bytes.end - bytes.start) {
            Err(Errno::INTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}

/// Unlinks a backing file; one that is gone already is fine.
pub(crate) fn unlink(root: &Path, content: ContentId) -> io::Result<()> {
    fail_io!("pages::unlink");
    match fs::remove_file(path(root, content)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The byte ranges of `file` that have blocks.
pub(crate) fn data(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(found),
            Err(errno) => return Err(errno.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(Errno::NXIO) => return Ok(found),
            Err(errno) => return Err(errno.into()),
        };
        found.push(start..end);
        at = end;
    }
}
