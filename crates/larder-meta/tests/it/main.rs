// SPDX-License-Identifier: Apache-2.0
//! The metadata store against its front door.

mod crash;
mod damage;
mod model;
mod statuses;

use std::{path::Path as FsPath, sync::Arc, time::Duration};

use larder_core::{Key, MountName, Path, Status, UnixMillis, Version};
use larder_meta::{Fact, Known, MetaStore, Options};

fn open(directory: &FsPath) -> Arc<MetaStore> {
    MetaStore::open(options(directory)).expect("the store opens")
}

fn options(directory: &FsPath) -> Options {
    let flush_interval = Duration::from_millis(20);
    Options { flush_interval, map_bytes: 1 << 30, ..Options::new(directory) }
}

fn mount(name: &str) -> MountName {
    MountName::new(name).expect("a legal mount name")
}

fn path(key: &str) -> Path {
    Path::new(mount("lake"), Key::new(key).expect("a legal key"))
}

fn present(version: &str, length: u64) -> Known {
    let (version, modified) = (Version::new(version), UnixMillis(5));
    let fact = Fact::Present(Status { length, version, modified, attributes: None });
    Known { fact, checked: UnixMillis(length) }
}
