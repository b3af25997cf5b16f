// SPDX-License-Identifier: Apache-2.0
//! Loading and counting many files: the listing is streamed, a bounded number of files is under
//! way at once, and each file that fails is named.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{BoxStream, FuturesUnordered, try_unfold},
};
use larder_cluster::wire::message::{ListEntry, ListRequest, ListStart, LoadReply, LoadRequest};
use larder_core::{ErrorKind, Path, Result};

use crate::Filesystem;

/// Files loaded at once.
const LOAD_CONCURRENCY: usize = 16;
/// How often a running load says how far it is.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How far a load is.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct LoadProgress {
    /// Files found so far.
    pub files_found: u64,
    /// Bytes of those files.
    pub bytes_found: u64,
    /// Whether everything has been found.
    pub listing_done: bool,
    /// Files loaded.
    pub files_loaded: u64,
    /// Bytes of the loaded files.
    pub bytes_loaded: u64,
    /// Of these, bytes that came from the store.
    pub bytes_fetched: u64,
    /// Bytes that could not be kept.
    pub bytes_not_kept: u64,
    /// Files that failed, each with its sentence; at most 1,000 are listed.
    pub failed: Vec<(String, String)>,
    /// Files that failed in all.
    pub files_failed: u64,
    /// Whether this is the last word.
    pub done: bool,
}

/// A load says how far it is also where nothing has come about for so long: whoever listens gives
/// up on silence, and a large file or a store's budget may take its time.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a free gave back.
pub use larder_cluster::wire::message::FreeReply as FreeProgress;

/// Failures listed by name at most.
const FAILURES_LISTED_MAX: usize = 1_000;

impl Filesystem {
    /// Makes resident the file `path`, and all whose keys start with `path/` (or with `path` when
    /// it ends with a slash or is a mount). The stream says how far it is until `done`; dropping
    /// it stops the load after the files under way.
    pub fn load(self: &Arc<Self>, path: &Path) -> BoxStream<'static, Result<LoadProgress>> {
        let load = Load {
            found: find_files(Arc::clone(self), path.clone()),
            filesystem: Arc::clone(self),
            under_way: FuturesUnordered::new(),
            progress: LoadProgress::default(),
            told: Duration::ZERO,
        };
        try_unfold(load, |mut load| async move {
            if load.progress.done {
                return Ok(None);
            }
            load.advance().await?;
            Ok(Some((load.progress.clone(), load)))
        })
        .boxed()
    }
}

type Outcome = (Path, u64, Result<LoadReply>);

struct Load {
    filesystem: Arc<Filesystem>,
    found: BoxStream<'static, Result<(Path, u64)>>,
    under_way: FuturesUnordered<futures::future::BoxFuture<'static, Outcome>>,
    progress: LoadProgress,
    told: Duration,
}

impl Load {
    /// Works until it is time to say something.
    async fn advance(&mut self) -> Result<()> {
        let clock = self.filesystem.clock.clone();
        let mut silence = Box::pin(clock.sleep(SILENCE_MAX));
        loop {
            let room = self.under_way.len() < LOAD_CONCURRENCY && !self.progress.listing_done;
            tokio::select! {
                biased;
                next = self.found.next(), if room => match next {
                    Some(found) => self.start(found?),
                    None => self.progress.listing_done = true,
                },
                Some(outcome) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.finish(outcome);
                }
                () = &mut silence, if !self.under_way.is_empty() || !self.progress.listing_done => {
                    return Ok(());
                }
                else => {
                    self.progress.done = true;
                    return Ok(());
                }
            }
            let now = self.filesystem.clock.elapsed();
            if now >= self.told + PROGRESS_INTERVAL {
                self.told = now;
                return Ok(());
            }
        }
    }

    fn start(&mut self, (path, length): (Path, u64)) {
        self.progress.files_found += 1;
        self.progress.bytes_found += length;
        let filesystem = Arc::clone(&self.filesystem);
        let task = async move {
            let result = match filesystem.owner(&path) {
                Ok(worker) => worker.load(LoadRequest { path: path.clone() }).await,
                Err(error) => Err(error),
            };
            (path, length, result)
        };
        self.under_way.push(Box::pin(task));
    }

    fn finish(&mut self, (path, length, result): Outcome) {
        match result {
            Ok(reply) => {
                self.progress.files_loaded += 1;
                // A single file's length is not known from a listing; what it turned out to be is.
                self.progress.bytes_found += reply.length.saturating_sub(length);
                self.progress.bytes_loaded += reply.length;
                self.progress.bytes_fetched += reply.fetched_bytes;
                self.progress.bytes_not_kept += reply.not_kept_bytes;
            }
            Err(error) => {
                self.progress.files_failed += 1;
                if self.progress.failed.len() < FAILURES_LISTED_MAX {
                    self.progress.failed.push((path.to_string(), error.to_string()));
                }
            }
        }
    }
}

/// The file of exactly this key if there is one, then everything below it, page by page.
fn find_files(filesystem: Arc<Filesystem>, path: Path) -> BoxStream<'static, Result<(Path, u64)>> {
    let key = path.key.as_str();
    let tree = key.is_empty() || key.ends_with('/');
    let prefix = if tree { key.to_owned() } else { format!("{key}/") };
    let below = pages_below(Arc::clone(&filesystem), path.clone(), prefix);
    if tree {
        return below;
    }
    let alone = futures::stream::once(async move {
        let request =
            larder_cluster::wire::message::StatRequest { path: path.clone(), attributes: false };
        match filesystem.stat(request).await {
            Ok(reply) => Some(Ok((path, reply.status.length))),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Some(Err(error)),
        }
    });
    alone.filter_map(|found| async { found }).chain(below).boxed()
}

fn pages_below(
    filesystem: Arc<Filesystem>,
    path: Path,
    prefix: String,
) -> BoxStream<'static, Result<(Path, u64)>> {
    let pages = try_unfold(Some(ListStart::Beginning), move |start| {
        let (filesystem, path, prefix) = (Arc::clone(&filesystem), path.clone(), prefix.clone());
        async move {
            let Some(start) = start else { return Ok(None) };
            let mount = path.mount.clone();
            let request = ListRequest { mount, prefix, delimiter: None, start, max: 1_000 };
            let page = filesystem.list(request).await?.page;
            let next = page.next.clone().map(ListStart::Token);
            let to_file = |entry: &ListEntry| {
                Ok((Path::new(path.mount.clone(), entry.key.clone()), entry.status.length))
            };
            let files: Vec<Result<(Path, u64)>> = page.entries.iter().map(to_file).collect();
            Ok(Some((files, next)))
        }
    });
    pages
        .flat_map(|page| match page {
            Ok(files) => futures::stream::iter(files).boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}
