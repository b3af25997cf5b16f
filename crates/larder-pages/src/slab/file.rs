// SPDX-License-Identifier: Apache-2.0
//! Slab files on disk: `DIR/slabs/NUMBER`, sparse, as long as the class says.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    class::{Class, ENTRY_BYTES, HEADER_BYTES},
    entry::{Entry, Header},
};
use crate::{
    backing::{self, fail_io},
    page_set::BLOCK,
};

pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("slabs")
}

pub(super) fn path(root: &Path, name: u64) -> PathBuf {
    folder(root).join(format!("{name:016x}"))
}

/// The slab whose file has this name; `None` for any other name.
pub(super) fn name_of(file: &OsStr) -> Option<u64> {
    let text = file.to_str()?;
    let name = u64::from_str_radix(text, 16).ok()?;
    (format!("{name:016x}") == text).then_some(name)
}

pub(super) fn open_for_reading(root: &Path, name: u64) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path(root, name))
}

pub(crate) fn open_for_writing(root: &Path, name: u64) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path(root, name))
}

/// Makes a slab in which nothing lies.
pub(crate) fn create(root: &Path, name: u64, header: &Header) -> io::Result<()> {
    fail_io!("pages::slab");
    let open = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path(root, name))
    };
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder(root))?;
            open()?
        }
        opened => opened?,
    };
    let written = file
        .set_len(header.class.file_bytes())
        .and_then(|()| file.write_all_at(&header.encode(), 0));
    // What cannot be made whole shall not stay; the next start would drop it too.
    written.inspect_err(|_| drop(fs::remove_file(path(root, name))))
}

/// What a slab says it is; `None` when it is none of ours.
pub(super) fn header(file: &File) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Header::parse(&bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every valid entry of a slab with its slot.
pub(super) fn entries(file: &File, header: &Header) -> io::Result<Vec<(u32, Entry)>> {
    let slots = header.class.slots();
    let mut bytes = vec![0; slots as usize * ENTRY_BYTES as usize];
    file.read_exact_at(&mut bytes, Class::entry_offset(0))?;
    let all = (0..).zip(bytes.chunks_exact(ENTRY_BYTES as usize));
    Ok(all.filter_map(|(slot, entry)| Some((slot, Entry::parse(entry, header, slot)?))).collect())
}

/// Writes entries of neighbouring slots, from `slot` on.
pub(crate) fn write_entries(file: &File, slot: u32, entries: &[u8]) -> io::Result<()> {
    fail_io!("pages::entry");
    file.write_all_at(entries, Class::entry_offset(slot))
}

/// Clears the entries of these slots, so that they name nothing after a restart.
pub(super) fn clear_entries(file: &File, slots: &Range<u32>) -> io::Result<()> {
    fail_io!("pages::clear");
    let zeros = vec![0; slots.len() * ENTRY_BYTES as usize];
    file.write_all_at(&zeros, Class::entry_offset(slots.start))
}

/// Gives these blocks back to the file system.
pub(super) fn punch(file: &File, blocks: &Range<u32>) -> io::Result<()> {
    backing::punch_bytes(file, u64::from(blocks.start) * BLOCK..u64::from(blocks.end) * BLOCK)
}

/// What the file takes on disk.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// The blocks that take room on disk.
pub(super) fn data_blocks(file: &File) -> io::Result<Vec<Range<u32>>> {
    // A slab has fewer blocks than 32 bits count.
    let block = |offset: u64| u32::try_from(offset).unwrap_or(u32::MAX);
    let data = backing::data(file)?.into_iter();
    Ok(data.map(|data| block(data.start / BLOCK)..block(data.end.div_ceil(BLOCK))).collect())
}

pub(crate) fn unlink(root: &Path, name: u64) -> io::Result<()> {
    fail_io!("pages::unlink");
    match fs::remove_file(path(root, name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
