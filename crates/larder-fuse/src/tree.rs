// SPDX-License-Identifier: Apache-2.0
//! The tree as the kernel walks it: inodes it knows, files and directories programs have open,
//! and what an operation on them gives. Knows no request or reply.

use std::{ffi::OsStr, fs::File, io, sync::Arc, time::Duration};

use fuser::{BackingId, FileAttr, INodeNo};
use larder_client::{DirectoryEntry, Handle, LocalFile, Node, directory};
use larder_core::{Error, Freshness, Key, Path, Result};

use crate::{
    attribute::{Common, UNCHANGING},
    buffer::{Buffer, BufferPool},
    fact::Facts,
    inode::{Inode, InodeTable, ROOT},
    listing::{DOTS, Listing, Window},
    namespace::{Namespace, Resolved},
    open_table::OpenTable,
    passthrough::{Backing, Ways},
};

/// The longest name a Linux file system holds.
pub(crate) const NAME_LENGTH_MAX: usize = 255;

/// The whole tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) namespace: Namespace,
    pub(crate) common: Common,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) inodes: InodeTable,
    pub(crate) files: OpenTable<OpenFile>,
    pub(crate) ways: Ways,
    pub(crate) listings: OpenTable<Listing>,
}

/// A file that a program has open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    handle: Handle,
    inode: u64,
}

/// A file on its way to being open: the kernel has not been told yet.
#[derive(Debug)]
pub(crate) struct Opening {
    file: OpenFile,
    local: Option<LocalFile>,
}

/// Who will read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bypass {
    /// The kernel by itself, if it can.
    Wanted,
    /// The kernel comes here for each read.
    Unwanted,
}

impl Tree {
    /// Looks a name up; the caller enters the result when it tells the kernel.
    pub(crate) async fn lookup(&self, parent: u64, name: &OsStr) -> Result<Resolved> {
        let parent = self.inode(parent)?;
        // Keys are UTF-8, so no key can have another name.
        let name = name.to_str().ok_or_else(|| Error::not_found("a name that is not UTF-8"))?;
        self.namespace.resolve(&parent, name).await
    }

    /// Counts that the kernel is told of `inode`; answers its attributes.
    pub(crate) fn enter(&self, inode: &Inode) -> FileAttr {
        self.common.attributes(self.inodes.enter(inode), inode)
    }

    pub(crate) fn forget(&self, number: u64, count: u64) {
        self.inodes.forget(number, count);
    }

    pub(crate) fn attributes(&self, number: u64) -> Result<FileAttr> {
        Ok(self.common.attributes(number, &*self.inode(number)?))
    }

    /// Opens a file, and looks for a local one that the kernel could read by itself.
    pub(crate) async fn open(&self, number: u64, bypass: Bypass) -> Result<Opening> {
        let inode = self.inode(number)?;
        let handle = self.namespace.open(&inode).await?;
        let local = if bypass == Bypass::Wanted && self.ways.is_undecided(number) {
            self.namespace.filesystem().local_file(&handle).await
        } else {
            None
        };
        Ok(Opening { file: OpenFile { handle, inode: number }, local })
    }

    /// Ends an opening just before the kernel is told: the number of the open file, and what the
    /// kernel reads it from if it reads by itself.
    pub(crate) fn opened(
        &self,
        opening: Opening,
        give: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> (u64, Option<Arc<Backing>>) {
        let Opening { file, local } = opening;
        let backing = self.ways.enter(file.inode, local, give);
        (self.files.insert(file), backing)
    }

    /// Counts an open file that the kernel reads by itself, which may be closed by then.
    pub(crate) fn count_passthrough(
        self: &Arc<Self>,
        number: u64,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (tree, file) = (Arc::clone(self), self.files.get(number));
        async move {
            if let Ok(file) = file {
                tree.namespace.filesystem().count_local(&file.handle).await;
            }
        }
    }

    /// The kernel has released an open file.
    pub(crate) fn release(&self, number: u64) {
        if let Some(file) = self.files.remove(number) {
            self.ways.leave(file.inode);
        }
    }

    /// Reads from an open file.
    pub(crate) async fn read(&self, file: u64, offset: u64, size: u32) -> Result<Buffer> {
        let file = self.files.get(file)?;
        let mut buffer = Arc::clone(&self.buffers).take(size as usize).await;
        let filesystem = self.namespace.filesystem();
        let length = filesystem.read_into(&file.handle, offset, buffer.as_mut_slice()).await?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The directory to list for an inode; `None` is the root.
    pub(crate) fn directory(&self, number: u64) -> Result<Option<Path>> {
        match &*self.inode(number)? {
            Inode::Root => Ok(None),
            Inode::Directory(path) => Ok(Some(path.clone())),
            Inode::File(path, _) => Err(Error::not_a_directory(format!("{path} is a file"))),
        }
    }

    /// The entries of an open directory around `position`.
    pub(crate) async fn list(self: Arc<Self>, listing: u64, position: u64) -> Result<Entries> {
        let listing = self.listings.get(listing)?;
        let filesystem = self.namespace.filesystem();
        let window = listing.window(filesystem, position.max(DOTS)).await?;
        let freshness = match listing.directory() {
            Some(directory) => self.namespace.freshness(&directory.mount)?,
            None => Freshness::Always,
        };
        let age = window.age(filesystem.clock());
        let directory = listing.directory().cloned();
        Ok(Entries { tree: self, directory, window, freshness, age })
    }

    /// What is known about an inode.
    pub(crate) async fn facts(&self, number: u64) -> Result<Facts> {
        let inode = self.inode(number)?;
        let (Inode::Directory(path) | Inode::File(path, _)) = &*inode else {
            return Ok(Facts::default());
        };
        let explanation = self.namespace.filesystem().explain(path).await?;
        Ok(Facts::new(&inode, explanation))
    }

    fn inode(&self, number: u64) -> Result<Arc<Inode>> {
        let inode = self.inodes.get(number);
        inode.ok_or_else(|| Error::stale("the kernel asks for an inode it has forgotten"))
    }
}

/// Part of a directory, ready to be told to the kernel.
#[derive(Debug)]
pub(crate) struct Entries {
    tree: Arc<Tree>,
    /// Whose entries; `None` is the root.
    directory: Option<Path>,
    window: Arc<Window>,
    freshness: Freshness,
    age: Duration,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The position behind it.
    pub(crate) behind: u64,
    /// Its attributes, under the number it would have.
    pub(crate) attributes: FileAttr,
    pub(crate) believed: Duration,
    /// What it is; `None` for the dots, which the kernel does not look up.
    inode: Option<Inode>,
}

impl Entries {
    /// The entries from `position` on.
    pub(crate) fn from(&self, position: u64) -> impl Iterator<Item = Entry> {
        let this =
            self.directory.as_ref().map_or(Inode::Root, |path| Inode::Directory(path.clone()));
        let parent = self.directory.as_ref().map_or(Inode::Root, parent);
        let dots = [(".", this), ("..", parent)].into_iter().zip(1..);
        let dots = dots.skip(usize::try_from(position).unwrap_or(usize::MAX));
        let dots = dots.map(|((name, inode), behind)| self.dot(name, &inode, behind));
        let rest = self.window.from(position.max(DOTS));
        dots.chain(rest.filter_map(|(behind, entry)| self.entry(behind, entry)))
    }

    /// Counts that the kernel is told of an entry; answers its attributes.
    pub(crate) fn enter(&self, entry: &Entry) -> FileAttr {
        match &entry.inode {
            Some(inode) => self.tree.enter(inode),
            None => entry.attributes,
        }
    }

    /// Takes back that the kernel was told, since the entry had no room.
    pub(crate) fn forget(&self, entry: &Entry, number: u64) {
        if entry.inode.is_some() && number != ROOT {
            self.tree.forget(number, 1);
        }
    }

    fn dot(&self, name: &str, inode: &Inode, behind: u64) -> Entry {
        let attributes = self.tree.common.attributes(inode.number(), inode);
        Entry { name: name.to_owned(), behind, attributes, believed: UNCHANGING, inode: None }
    }

    /// `None` for a name whose key would be longer than a store allows.
    fn entry(&self, behind: u64, listed: &DirectoryEntry) -> Option<Entry> {
        let path = match &self.directory {
            Some(directory) => directory::child(directory, &listed.name, &listed.node).ok()?,
            None => directory::root(larder_core::MountName::new(&listed.name).ok()?),
        };
        let inode = match &listed.node {
            Node::Directory => Inode::Directory(path),
            Node::File(status) => Inode::File(path, status.clone()),
        };
        let attributes: FileAttr = self.tree.common.attributes(inode.number(), &inode);
        debug_assert_ne!(attributes.ino, INodeNo(0), "the kernel takes zero for none");
        let believed = self.tree.namespace.believed(self.freshness, &inode, self.age);
        let name = listed.name.clone();
        Some(Entry { name, behind, attributes, believed, inode: Some(inode) })
    }
}

/// The directory above this one.
fn parent(path: &Path) -> Inode {
    let Some(bare) = path.key.as_str().strip_suffix('/') else { return Inode::Root };
    let above = bare.rfind('/').map_or("", |slash| &bare[..=slash]);
    let key = Key::new(above).expect("a part of a legal key that ends at a slash");
    Inode::Directory(Path::new(path.mount.clone(), key))
}
