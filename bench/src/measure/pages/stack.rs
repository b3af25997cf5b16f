// SPDX-License-Identifier: Apache-2.0
//! Client, worker and page store in this process, joined as `larder up` joins them, over a
//! directory: what a face stands on, without the face.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path as DiskPath, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use larder_client::{Filesystem, Handle, Parts};
use larder_cluster::{
    member::{Member, WorkerId},
    mounts::MountRecord,
    registry::local::LocalRegistry,
};
use larder_core::{
    ByteSize, Clock, Freshness, Key, MemoryBudget, Metrics, MountName, Path, Random,
};
use larder_pages::{DirectoryOptions, Options};
use larder_ufs::{
    layer::budget::Budgets,
    mount::{Seams, StoreConfig, open},
};
use larder_worker::{Store, Worker};
use tokio::runtime::{Builder, Runtime};

const MOUNT: &str = "bench";
const CAPACITY: ByteSize = ByteSize(16 << 30);
const MEMORY: u64 = 256 << 20;

/// A worker over a directory, and the file system in front of it.
pub(super) struct Stack {
    runtime: Runtime,
    filesystem: Arc<Filesystem>,
    worker: Arc<Worker>,
    cache: PathBuf,
}

impl Stack {
    /// Serves the files of `files`; state and pages go to `folder`.
    pub(super) fn start(files: &DiskPath, folder: &DiskPath) -> Result<Self> {
        let (metadata, cache) = (folder.join("meta"), folder.join("cache"));
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
        let seams = Seams {
            clock: clock.clone(),
            random: Arc::new(Random::new()),
            metrics: Arc::clone(&metrics),
            budgets: Budgets::default(),
        };
        let (id, budget) = (WorkerId(1), MemoryBudget::new(MEMORY));
        let name = MountName::new(MOUNT)?;
        let uri = format!("file://{}", files.display());
        let storage = open(&StoreConfig::new(uri.clone()), &name, seams)?;
        // No status is asked for again: what is measured must not depend on how long it takes.
        let freshness = Freshness::Immutable;
        let record = MountRecord {
            name,
            uri,
            endpoint: None,
            freshness,
            stale_if_error: None,
            prices: None,
        };
        let registry = LocalRegistry::new(
            Member { id, weight: 1, address: String::new() },
            vec![record.clone()],
        );
        let directory = DirectoryOptions { path: cache.clone(), capacity: CAPACITY };
        let guard = runtime.enter();
        let worker = Worker::open(larder_worker::Parts {
            id,
            metadata,
            pages: Options { directories: vec![directory], ..Options::default() },
            stores: vec![Store { record, storage }],
            rules: Vec::new(),
            budget: budget.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        })?;
        drop(guard);
        let service = Arc::clone(&worker);
        let filesystem = Filesystem::new(Parts {
            registry: Arc::new(registry),
            worker: service,
            budget,
            clock,
            metrics,
        });
        Ok(Self { runtime, filesystem, worker, cache })
    }

    /// Makes a file resident, whole, and opens it.
    pub(super) fn load(&self, key: &str) -> Result<Handle> {
        let path = Path::new(MountName::new(MOUNT)?, Key::new(key)?);
        self.runtime.block_on(async {
            let mut load = self.filesystem.load(&path);
            let mut lost = 0;
            while let Some(progress) = load.next().await {
                let progress = progress?;
                lost = progress.bytes_not_kept + progress.files_failed;
            }
            if lost > 0 {
                bail!("{path} did not become resident");
            }
            Ok(self.filesystem.open(&path).await?)
        })
    }

    /// Reads as a face's thread does.
    pub(super) fn read(&self, handle: &Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        Ok(self.filesystem.read_at(handle, offset, into)?)
    }

    /// The one backing file of `length` bytes.
    pub(super) fn backing_file(&self, length: u64) -> Result<File> {
        let mut found = Vec::new();
        for fan in fs::read_dir(self.cache.join("pages"))? {
            for file in fs::read_dir(fan?.path())? {
                let path = file?.path();
                if path.metadata()?.size() == length {
                    found.push(path);
                }
            }
        }
        let [path] = found.as_slice() else {
            bail!("there are {} backing files of {length} bytes, not one", found.len());
        };
        File::open(path).with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.worker.close() {
            eprintln!("the worker could not be closed: {error}");
        }
    }
}
