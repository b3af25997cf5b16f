// SPDX-License-Identifier: Apache-2.0
//! From a name to an inode, and from an inode to an open file of the same version.
//!
//! Names come from listings and opens from statuses; each has its own age, so for a while they
//! may disagree about the version of a file. The status decides, since it is what an open gets:
//! a path where the two were seen to disagree is remembered as *disputed*, and while it is, a
//! look-up asks for its status too. Without that, the kernel would be sent back and forth between
//! a name of one version and an open of another.
//!
//! One lock, held for a map operation.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_client::{Filesystem, Handle, Node, directory, message::StatRequest};
use larder_core::{Error, Freshness, MountName, Path, Result, Status};

use crate::{
    attribute::{MOUNT_BELIEVED, name_believed},
    inode::Inode,
};

/// Disputed paths remembered; beyond that all are forgotten, which costs a second try each.
const DISPUTED_MAX: usize = 4096;

/// An inode, and how long the kernel may believe that a name leads to it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) inode: Inode,
    pub(crate) believed: Duration,
}

/// Larder's name space as a tree of inodes.
#[derive(Debug)]
pub(crate) struct Namespace {
    filesystem: Arc<Filesystem>,
    disputed: Mutex<HashSet<Path>>,
}

impl Namespace {
    pub(crate) fn new(filesystem: Arc<Filesystem>) -> Self {
        Self { filesystem, disputed: Mutex::default() }
    }

    pub(crate) fn filesystem(&self) -> &Arc<Filesystem> {
        &self.filesystem
    }

    /// What `name` in `parent` is.
    pub(crate) async fn resolve(&self, parent: &Inode, name: &str) -> Result<Resolved> {
        match parent {
            Inode::Root => self.resolve_mount(name),
            Inode::Directory(directory) => self.resolve_below(directory, name).await,
            Inode::File(path, _) => {
                Err(Error::not_a_directory(format!("{path} is a file, not a directory")))
            }
        }
    }

    fn resolve_mount(&self, name: &str) -> Result<Resolved> {
        let nothing = |_| Error::not_found(format!("there is no mount '{name}'"));
        let mount = MountName::new(name).map_err(nothing)?;
        self.filesystem.mount(&mount)?;
        let inode = Inode::Directory(directory::root(mount));
        Ok(Resolved { inode, believed: MOUNT_BELIEVED })
    }

    async fn resolve_below(&self, parent: &Path, name: &str) -> Result<Resolved> {
        let freshness = self.freshness(&parent.mount)?;
        let found = self.filesystem.find(parent, name).await?;
        let path = directory::child(parent, name, &found.node)?;
        let (inode, age) = match found.node {
            Node::Directory => (Inode::Directory(path), found.age),
            Node::File(listed) => {
                let (status, age) = self.settle(&path, listed, found.age).await?;
                (Inode::File(path, status), age)
            }
        };
        let believed = name_believed(freshness, &inode, age);
        Ok(Resolved { inode, believed })
    }

    /// The status a file is looked up with: what its listing says, unless that is disputed.
    async fn settle(
        &self,
        path: &Path,
        listed: Status,
        age: Duration,
    ) -> Result<(Status, Duration)> {
        if !self.lock().contains(path) {
            return Ok((listed, age));
        }
        let request = StatRequest { path: path.clone(), attributes: false };
        let reply = self.filesystem.stat(request).await?;
        if reply.status.version == listed.version {
            self.lock().remove(path);
        }
        Ok((reply.status, reply.age))
    }

    /// Opens the version that `inode` stands for.
    ///
    /// # Errors
    /// `Stale` when the mount's freshness rule leads to another version; the kernel then looks
    /// the name up again and finds that one.
    pub(crate) async fn open(&self, inode: &Inode) -> Result<Handle> {
        let Inode::File(path, status) = inode else {
            return Err(Error::is_a_directory("a directory can't be opened as a file"));
        };
        let handle = self.filesystem.open(path).await?;
        if handle.status().version == status.version {
            return Ok(handle);
        }
        let mut disputed = self.lock();
        if disputed.len() >= DISPUTED_MAX {
            disputed.clear();
        }
        disputed.insert(path.clone());
        Err(Error::stale(format!("{path} was overwritten since its name was looked up")))
    }

    /// How long the kernel may believe a name from a listing of this age.
    pub(crate) fn believed(&self, freshness: Freshness, inode: &Inode, age: Duration) -> Duration {
        match inode {
            Inode::File(path, _) if self.lock().contains(path) => Duration::ZERO,
            Inode::Root | Inode::Directory(_) | Inode::File(..) => {
                name_believed(freshness, inode, age)
            }
        }
    }

    /// The freshness rule of a mount.
    pub(crate) fn freshness(&self, mount: &MountName) -> Result<Freshness> {
        Ok(self.filesystem.mount(mount)?.freshness)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Path>> {
        self.disputed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
