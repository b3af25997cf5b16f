// SPDX-License-Identifier: Apache-2.0
//! A walk over a directory tree in the byte order of full keys.
//!
//! A directory takes part in its parent's order as `name/`, because that is how the keys below it
//! begin: `a-b` comes before `a/x`. Between pages a walk sleeps without open descriptors, so that
//! it keeps no file system busy. What vanishes meanwhile is left out.

use std::os::fd::OwnedFd;

use larder_core::{Result, path::KEY_LENGTH_MAX};
use rustix::{
    fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, statat},
    io::Errno,
};

use super::root::{Print, TEMPORARY, failed, resolve};

/// Symbolic links to directories on one path at most.
const LINKS_MAX: usize = 8;

/// Whether directories are entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only the names of one directory.
    One,
    /// All below it.
    All,
}

/// What a walk meets.
#[derive(Debug)]
pub(super) enum Item {
    /// A regular file.
    File { key: String, print: Print },
    /// A directory that is not entered; ends with a slash.
    Directory(String),
}

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// With keys greater than this.
    After(String),
    /// Behind all keys that begin with this.
    Behind(String),
}

/// The walk.
#[derive(Debug)]
pub(super) struct Walk {
    depth: Depth,
    from: Option<From>,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// The directory's path below the root; empty or ending with a slash.
    path: String,
    open: Option<OwnedFd>,
    /// Device and inode, to notice a link back to a directory we are in.
    id: (u64, u64),
    links: usize,
    /// In reverse order: the next is the last.
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    /// With a slash at its end if it is a directory.
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    LinkedFile,
    Directory,
    LinkedDirectory,
}

impl Walk {
    /// A walk over keys that begin with `prefix`. A directory that does not exist has no keys.
    pub(super) fn new(
        root: &OwnedFd,
        prefix: &str,
        depth: Depth,
        from: Option<From>,
    ) -> Result<Self> {
        let (path, partial) = match prefix.rfind('/') {
            Some(slash) => prefix.split_at(slash + 1),
            None => ("", prefix),
        };
        let mut walk = Self { depth, from, levels: Vec::new() };
        let holdable = path.is_empty() || super::root::is_legal(path.trim_end_matches('/'));
        if holdable && !path.ends_with("//") {
            walk.enter(root, path.to_owned(), 0)?;
        }
        if let Some(level) = walk.levels.last_mut() {
            level.names.retain(|name| name.text.starts_with(partial));
        }
        Ok(walk)
    }

    /// Names held in memory.
    pub(super) fn names(&self) -> usize {
        self.levels.iter().map(|level| level.names.len()).sum()
    }

    /// Closes what is open until the next call.
    pub(super) fn rest(&mut self) {
        for level in &mut self.levels {
            level.open = None;
        }
    }

    /// The next item in order.
    pub(super) fn next(&mut self, root: &OwnedFd) -> Result<Option<Item>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let full = format!("{}{}", level.path, name.text);
            let links = level.links + usize::from(name.kind == Kind::LinkedDirectory);
            match name.kind {
                Kind::File | Kind::LinkedFile => {
                    if !self.wants_file(&full) {
                        continue;
                    }
                    if let Some(print) = self.print(root, &name, &full) {
                        return Ok(Some(Item::File { key: full, print }));
                    }
                }
                Kind::Directory | Kind::LinkedDirectory => match self.depth {
                    Depth::All if self.wants_inside(&full) => self.enter(root, full, links)?,
                    Depth::One if self.wants_prefix(root, &full)? => {
                        return Ok(Some(Item::Directory(full)));
                    }
                    _ => {}
                },
            }
        }
    }

    fn wants_file(&self, key: &str) -> bool {
        match &self.from {
            None => true,
            Some(From::After(after)) => key > after.as_str(),
            Some(From::Behind(group)) => key > group.as_str() && !key.starts_with(group.as_str()),
        }
    }

    fn wants_inside(&self, directory: &str) -> bool {
        match &self.from {
            None => true,
            Some(From::After(at)) => directory > at.as_str() || at.starts_with(directory),
            Some(From::Behind(group)) if directory.starts_with(group.as_str()) => false,
            Some(From::Behind(at)) => directory > at.as_str() || at.starts_with(directory),
        }
    }

    /// Whether a directory that is not entered holds keys behind the start.
    fn wants_prefix(&self, root: &OwnedFd, directory: &str) -> Result<bool> {
        match &self.from {
            Some(From::After(at)) if at.starts_with(directory) => {
                let mut inside = Walk::new(root, directory, Depth::All, self.from.clone())?;
                Ok(inside.next(root)?.is_some())
            }
            _ => Ok(self.wants_inside(directory)),
        }
    }

    /// Reads a directory and puts it on top. One that can't be entered has no keys, unless the
    /// reason is the file system itself.
    fn enter(&mut self, root: &OwnedFd, path: String, links: usize) -> Result<()> {
        if path.len() >= KEY_LENGTH_MAX || links > LINKS_MAX {
            return Ok(());
        }
        let Some(open) = open_directory(root, &path)? else { return Ok(()) };
        let stat = fstat(&open).map_err(|errno| failed(errno, &named(&path)))?;
        let id = (stat.st_dev, stat.st_ino);
        if self.levels.iter().any(|level| level.id == id) {
            return Ok(());
        }
        let names = read_names(root, &open, &path)?;
        self.levels.push(Level { path, open: Some(open), id, links, names });
        Ok(())
    }

    /// The print of a file in the current directory; `None` when it is gone or something else.
    fn print(&mut self, root: &OwnedFd, name: &Name, full: &str) -> Option<Print> {
        let stat = if name.kind == Kind::LinkedFile {
            stat_link(root, full)?
        } else {
            let level = self.levels.last_mut()?;
            if level.open.is_none() {
                level.open = open_directory(root, &level.path).ok()?;
            }
            statat(level.open.as_ref()?, &name.text, AtFlags::SYMLINK_NOFOLLOW).ok()?
        };
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (regular && full.len() <= KEY_LENGTH_MAX).then(|| Print::of(&stat))
    }
}

/// A directory as an error names it.
fn named(path: &str) -> String {
    match path {
        "" => "the mount's root directory".to_owned(),
        path => format!("the directory '{path}'"),
    }
}

fn open_directory(root: &OwnedFd, path: &str) -> Result<Option<OwnedFd>> {
    match resolve(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(open) => Ok(Some(open)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => {
            Ok(None)
        }
        Err(Errno::ACCESS | Errno::PERM) if !path.is_empty() => {
            tracing::warn!(directory = path, "a directory may not be listed and is left out");
            Ok(None)
        }
        Err(errno) => Err(failed(errno, &named(path))),
    }
}

fn stat_link(root: &OwnedFd, full: &str) -> Option<Stat> {
    let target = resolve(root, full.trim_end_matches('/'), OFlags::PATH).ok()?;
    fstat(target).ok()
}

fn read_names(root: &OwnedFd, open: &OwnedFd, path: &str) -> Result<Vec<Name>> {
    let wrong = |errno| failed(errno, &named(path));
    let mut names = Vec::new();
    for entry in Dir::read_from(open).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let Ok(text) = entry.file_name().to_str() else { continue };
        if matches!(text, "." | "..") || text.starts_with(TEMPORARY) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => statat(open, text, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        let kind = match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let stat = stat_link(root, &format!("{path}{text}"));
                match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Some(FileType::RegularFile) => Kind::LinkedFile,
                    Some(FileType::Directory) => Kind::LinkedDirectory,
                    _ => continue,
                }
            }
            _ => continue,
        };
        let mut text = text.to_owned();
        if matches!(kind, Kind::Directory | Kind::LinkedDirectory) {
            text.push('/');
        }
        names.push(Name { text, kind });
    }
    names.sort_unstable_by(|a, b| b.text.cmp(&a.text));
    Ok(names)
}
