// SPDX-License-Identifier: Apache-2.0
//! The FUSE face: Larder's name space as a read-only file system of the kernel.
//!
//! Kernel request in, one call of [`larder_client::Filesystem`], reply out. It decides nothing
//! about freshness, placement or caching of bytes; it opens no socket and asks no store.
//!
//! # What a program on the mount sees
//! - The root lists the mounts; below each lie the directories and files that
//!   [`larder_client::directory`] derives from keys. Everything is read-only: `EROFS`.
//! - **An inode is one version of one file.** An overwritten object is a new inode, exactly as if
//!   a file had been renamed over the old one. So the kernel's page cache, which is kept per
//!   inode, can never hold bytes of two versions; it is kept across opens without a check, and
//!   inode numbers (hashes of path and version) are the same after a remount. Programs that have
//!   the old version open go on with its size and bytes, or get `ESTALE` for bytes that are
//!   neither resident nor at the store any more.
//! - **Each open applies the mount's freshness rule** (a warm one is a local look-up). When the
//!   file has become another version since its name was looked up, the open answers `ESTALE` to
//!   the kernel, which looks the name up anew and opens the new inode; the program notices
//!   nothing. Only a file overwritten twice within one `open(2)` shows it as an error.
//! - Names are believed by the kernel for what is left of their freshness, at most
//!   60 s; files of an `immutable` mount for an hour; with `always`
//!   not at all.
//! - Directories have the time of the mount as their time, since a store has none for them.
//! - `user.larder.*` extended attributes tell what Larder knows about a file.
//! - Nothing waits longer than the operation time-out: then `EIO` and one line in the log. The
//!   kernel asks a second time for bytes whose read-ahead failed, so a program may wait twice.
//!
//! # Rooms
//! `mount` is the front door; `mountpoint` looks at what is there before and after; `kernel` has
//! one function per operation and hands each to `answer`, which runs it here or elsewhere;
//! `tree` does the operations on `namespace` (names to inodes, inodes to open files), `inode` and
//! `open_table` (what the kernel holds), `listing` (open directories) and `passthrough` (files the
//! kernel reads by itself); `attribute`, `fact` and
//! `errno` are what replies are made of, `buffer` what reads are made into.

mod answer;
mod attribute;
mod buffer;
mod errno;
mod fact;
mod inode;
mod kernel;
mod listing;
mod mount;
mod mountpoint;
mod namespace;
mod open_table;
mod passthrough;
mod settings;
mod tree;

pub use mount::FuseFace;
pub use passthrough::{Passthrough, passthrough_obstacle};
pub use settings::Settings;
