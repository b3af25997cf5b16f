// SPDX-License-Identifier: Apache-2.0
//! The kernel's requests, one function per operation: take it apart, hand the work to the
//! [`Desk`], reply with what came of it.
//!
//! The mount is read-only, so the kernel refuses to write by itself; the functions at the end
//! answer the same should somebody remount it writable.

use std::{ffi::OsStr, io, sync::Arc, time::SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use larder_core::{PAGE_SIZE, Result};
use rustix::fs::OFlags;

use crate::{
    answer::{Desk, Operation},
    attribute::UNCHANGING,
    buffer::READ_MAX,
    errno::Code,
    fact::{Facts, PREFIX},
    listing::Listing,
    tree::{Bypass, NAME_LENGTH_MAX, Tree},
};

/// Requests of the kernel that nobody waits for yet (read-ahead), at once.
const BACKGROUND_MAX: u16 = 64;

const LOOKUP: Operation = Operation::task("lookup");
const GETATTR: Operation = Operation::task("getattr");
const OPEN: Operation = Operation::task("open");
const PASSTHROUGH: Operation = Operation::task("passthrough");
const READ: Operation = Operation::thread("read");
const OPENDIR: Operation = Operation::task("opendir");
const READDIR: Operation = Operation::task("readdir");
const READDIRPLUS: Operation = Operation::task("readdirplus");
const GETXATTR: Operation = Operation::task("getxattr");
const LISTXATTR: Operation = Operation::task("listxattr");
const WRITE: Operation = Operation::task("write");

/// Answers the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) tree: Arc<Tree>,
    pub(crate) desk: Arc<Desk>,
}

impl Kernel {
    fn read_only(&self) -> Errno {
        self.desk.count(WRITE, "EROFS");
        Errno::EROFS
    }

    fn facts(
        &self,
        (operation, ino): (Operation, INodeNo),
        reply: impl FnOnce(Result<Facts, Code>) + Send + 'static,
    ) {
        let tree = Arc::clone(&self.tree);
        let work = async move { tree.facts(ino.0).await };
        self.desk.answer(operation, work, reply);
    }
}

impl Kernel {
    fn init_passthrough(&self, config: &mut KernelConfig) {
        let ways = &self.tree.ways;
        if ways.obstacle().is_some() {
            return;
        }
        // Depth 1: backings on plain file systems, and the mount can still lie below an overlay.
        let can = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok();
        if !can {
            ways.obstruct("the kernel can't; it takes Linux 6.9 with FUSE passthrough");
        }
    }
}

impl Filesystem for Kernel {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // `max_write` also sets how many pages a read may have.
        let length = u32::try_from(READ_MAX).expect("a read is small");
        let _ = config.set_max_write(length);
        let _ = config.set_max_background(BACKGROUND_MAX);
        for wish in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            if let Err(missing) = config.add_capabilities(wish) {
                tracing::debug!(?missing, "this kernel's fuse lacks a capability");
            }
        }
        self.init_passthrough(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name.len() > NAME_LENGTH_MAX {
            self.desk.count(LOOKUP, "ENAMETOOLONG");
            return reply.error(Errno::ENAMETOOLONG);
        }
        let tree = Arc::clone(&self.tree);
        let name = name.to_owned();
        let work = async move {
            let resolved = tree.lookup(parent.0, &name).await?;
            Ok((tree, resolved))
        };
        self.desk.answer(LOOKUP, work, |result| match result {
            Ok((tree, resolved)) => {
                let attributes = tree.enter(&resolved.inode);
                let (attr_ttl, name_ttl) = (UNCHANGING, resolved.believed);
                reply.entry_with_ttls(&attr_ttl, &name_ttl, &attributes, Generation(0));
            }
            Err(code) => reply.error(code.errno),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.tree.forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.desk.conclude(GETATTR, self.tree.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&UNCHANGING, &attributes),
            Err(code) => reply.error(code.errno),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(self.read_only());
        }
        // With O_DIRECT the kernel would go to the disk each time, and refuse odd offsets.
        let direct = OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::DIRECT);
        let bypass = if direct { Bypass::Unwanted } else { Bypass::Wanted };
        let (tree, desk) = (Arc::clone(&self.tree), Arc::clone(&self.desk));
        let work = async move { Ok((Arc::clone(&tree), tree.open(ino.0, bypass).await?)) };
        self.desk.answer(OPEN, work, move |result| match result {
            Ok((tree, opening)) => {
                let (number, backing) = tree.opened(opening, |file| reply.open_backing(file));
                let (number, flags) = (FileHandle(number), FopenFlags::FOPEN_NOFLUSH);
                match backing {
                    Some(backing) => {
                        desk.count(PASSTHROUGH, "ok");
                        desk.behind(tree.count_passthrough(number.0));
                        reply.opened_passthrough(number, flags, &backing.id);
                    }
                    // An inode is one version, so what the kernel holds of it is always right.
                    None => reply.opened(number, flags | FopenFlags::FOPEN_KEEP_CACHE),
                }
            }
            Err(code) => reply.error(code.errno),
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let tree = Arc::clone(&self.tree);
        let work = async move { tree.read(fh.0, offset, size).await };
        self.desk.answer(READ, work, |result| match result {
            Ok(buffer) => reply.data(buffer.as_slice()),
            Err(code) => reply.error(code.errno),
        });
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.tree.release(fh.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let listing = self.tree.directory(ino.0).map(Listing::new);
        match self.desk.conclude(OPENDIR, listing) {
            Ok(listing) => {
                let number = self.tree.listings.insert(listing);
                reply.opened(FileHandle(number), FopenFlags::empty());
            }
            Err(code) => reply.error(code.errno),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let tree = Arc::clone(&self.tree);
        let work = async move { tree.list(fh.0, offset).await };
        self.desk.answer(READDIR, work, move |result| match result {
            Ok(entries) => {
                for entry in entries.from(offset) {
                    let kind = entry.attributes.kind;
                    if reply.add(entry.attributes.ino, entry.behind, kind, &entry.name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(code) => reply.error(code.errno),
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let tree = Arc::clone(&self.tree);
        let work = async move { tree.list(fh.0, offset).await };
        self.desk.answer(READDIRPLUS, work, move |result| match result {
            Ok(entries) => {
                for entry in entries.from(offset) {
                    let told = entries.enter(&entry);
                    let (name, ttl) = (&entry.name, &entry.believed);
                    let ino = told.ino;
                    if reply.add(ino, entry.behind, name, ttl, &told, Generation(0)) {
                        entries.forget(&entry, ino.0);
                        break;
                    }
                }
                reply.ok();
            }
            Err(code) => reply.error(code.errno),
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _last_use_may_be_elsewhere = self.tree.listings.remove(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    /// The size of a store is not known, so all counts are zero: `df` leaves such a mount out.
    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let block = u32::try_from(PAGE_SIZE).expect("a page is small");
        let names = u32::try_from(NAME_LENGTH_MAX).expect("a name is short");
        reply.statfs(0, 0, 0, 0, 0, block, names, block);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned);
        let Some(name) = name else { return reply.error(Errno::NO_XATTR) };
        self.facts((GETXATTR, ino), move |result| match result {
            Ok(facts) => match facts.get(&name) {
                Some(value) => sized(reply, size, value),
                None => reply.error(Errno::NO_XATTR),
            },
            Err(code) => reply.error(code.errno),
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.facts((LISTXATTR, ino), move |result| match result {
            Ok(facts) => sized(reply, size, &facts.names()),
            Err(code) => reply.error(code.errno),
        });
    }

    /// Asked for only if the kernel does not check permissions itself, which it does.
    fn access(&self, _: &Request, _: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) {
            return reply.error(self.read_only());
        }
        reply.ok();
    }

    fn readlink(&self, _req: &Request, _ino: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    /// `ENOSYS` tells the kernel to find data and holes by itself from now on.
    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    // Runtimes ask each file they open whether it is a terminal.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(self.read_only());
    }

    fn mknod(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(self.read_only());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.read_only());
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.read_only());
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.read_only());
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        reply.error(self.read_only());
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(self.read_only());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(self.read_only());
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(self.read_only());
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(self.read_only());
    }

    fn setxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.read_only());
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(self.read_only());
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.read_only());
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(self.read_only());
    }
}

/// A value as the extended attribute calls want it: its length when `size` is zero, `ERANGE`
/// when it does not fit.
fn sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
