// SPDX-License-Identifier: Apache-2.0
//! The local adapter: a directory of this machine or of a file server mounted on it.
//!
//! Promises and limits:
//! - A version is modification time (ns), length and inode. A write that leaves all three as they
//!   were can't be noticed; file systems whose clock is coarse make that window wider.
//! - Names are resolved below the root by `openat2` (Linux 5.6): symbolic links that stay inside
//!   are followed, those that leave it do not exist.
//! - Keys that no file system can hold (`a//b`, `/a`, `a/`, `.` or `..` segments) are not found,
//!   and refused on write. Names that are not UTF-8, special files and unfinished uploads
//!   (`.larder-tmp-…`) are not listed and not found.
//! - An empty directory shows as a common prefix, though it holds no key.
//! - Attributes (content type, user metadata) are not kept.
//!
//! Every call does its work on a blocking thread; the wait for it is bounded, so that a dead file
//! server yields an error. `store` holds the trait; `root` resolves names; `read`, `list` (over
//! `walk`) and `write` are the calls.

mod list;
mod read;
mod root;
mod store;
mod walk;
mod write;

pub(crate) use store::LocalStore;
