// SPDX-License-Identifier: Apache-2.0
//! A far store and a Larder in front of it: a second Larder serves a directory by S3, the store
//! proxy counts and delays, and whoever is measured asks either through the proxy or the Larder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::plan::Plan;
use crate::{
    load::signing::Signer,
    process::{
        larder::{Larder, Settings, Store},
        store_proxy::StoreProxy,
    },
    proxy::control::Pace,
};

/// The bucket, as the store has it.
pub const BUCKET: &str = "bench";
/// The mount through which the measured Larder shows it.
pub const MOUNT: &str = "far";
/// How far away the store is.
pub const FAR: Pace = Pace { delay_ms: Some(20.0), bytes_per_s: Some(250_000_000) };
/// Not far at all.
pub const NEAR: Pace = Pace { delay_ms: Some(0.0), bytes_per_s: Some(0) };

/// A store that is far away.
#[derive(Debug)]
pub struct FarStore {
    /// What stands before it, and counts.
    pub proxy: StoreProxy,
    /// How it is asked directly, through the same proxy.
    pub direct: Signer,
    _origin: Larder,
}

/// What the Larder in front of a far store needs.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// Where its state and cache go.
    pub folder: PathBuf,
    /// Where it is mounted, if anywhere.
    pub fuse: Option<PathBuf>,
    /// The control group of the memory controller it runs in.
    pub memory_group: Option<PathBuf>,
}

impl FarStore {
    /// Serves the files of `files`, all of them from memory or cache: the store behind the proxy
    /// must not be what is measured.
    pub fn start(plan: &Plan, folder: &Path, files: &Path) -> Result<Self> {
        let home = folder.join("origin");
        fs::create_dir_all(&home)?;
        let origin = Larder::start(&Settings {
            program: &plan.larder,
            folder: home.clone(),
            mount: (BUCKET, format!("file://{}", files.display())),
            store: None,
            fuse: None,
            memory_group: None,
        })?;
        origin.load(&format!("/{BUCKET}/"))?;
        let proxy = StoreProxy::start(origin.s3.address, folder)?;
        let direct = Signer { address: proxy.listen, keys: origin.s3.keys.clone() };
        Ok(Self { proxy, direct, _origin: origin })
    }

    /// Starts a Larder in front of it, with nothing in its cache.
    pub fn front(&self, plan: &Plan, front: Front) -> Result<Larder> {
        fs::create_dir_all(&front.folder)?;
        let keys = self.direct.keys.clone();
        Larder::start(&Settings {
            program: &plan.larder,
            folder: front.folder,
            mount: (MOUNT, format!("s3://{BUCKET}")),
            store: Some(Store { address: self.proxy.listen, keys }),
            fuse: front.fuse,
            memory_group: front.memory_group,
        })
    }
}
