// SPDX-License-Identifier: Apache-2.0
//! The file system every face calls: it finds the owner of what is asked, reads, checks each page
//! and hands out bytes.
//!
//! Nothing here knows a public protocol (that is a face) or a disk layout (that is the page
//! store); the worker is reached only through [`larder_cluster::wire::service::Service`].

mod buffer;
pub mod directory;
mod extent;
pub mod filesystem;
pub mod handle;
pub mod jobs;
mod local;
mod part;
mod prefetch;
pub mod read;
mod route;
mod window;

pub use directory::{DirectoryEntry, DirectoryPage, Found, Node};
pub use filesystem::{Filesystem, Parts};
pub use handle::Handle;
pub use jobs::{FreeProgress, LoadProgress};
pub use local::{LocalFile, LocalHold};
pub use read::{ReadOptions, Reading};
// The words of the wire that a face passes through: faces know this crate and core only.
pub use larder_cluster::{
    mounts::MountRecord,
    wire::{advice, message},
};
