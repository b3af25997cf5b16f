// SPDX-License-Identifier: Apache-2.0
//! The local store: each call of the trait handed to its room, on a blocking thread.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use larder_core::{Attributes, Clock, Error, Key, Random, Result, Span, Status};

use crate::{ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage};

use super::{list::Lister, read, root::Root, write};

/// How long one call into the file system may take.
pub(super) const CALL_MAX: Duration = Duration::from_secs(60);

/// A directory as an under storage.
#[derive(Debug, Clone)]
pub(crate) struct LocalStore {
    pub(super) root: Arc<Root>,
    pub(super) clock: Clock,
    pub(super) random: Arc<Random>,
    lister: Arc<Lister>,
}

impl LocalStore {
    /// The store below `directory`, which need not exist yet.
    pub(crate) fn new(directory: PathBuf, clock: Clock, random: Arc<Random>) -> Self {
        let root = Arc::new(Root::new(directory));
        Self { root, clock, random, lister: Arc::default() }
    }

    /// Runs `work` where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        bounded(&self.clock, tokio::task::spawn_blocking(move || work(&root))).await
    }
}

/// Awaits work on a blocking thread, but not for ever.
pub(super) async fn bounded<T>(
    clock: &Clock,
    work: tokio::task::JoinHandle<Result<T>>,
) -> Result<T> {
    tokio::select! {
        done = work => done.unwrap_or_else(|error| {
            Err(Error::internal("a file system call ended unexpectedly").with_source(error))
        }),
        () = clock.sleep(CALL_MAX) => Err(Error::unavailable(
            "the file system did not answer in time; look after its server or disk",
        )),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderStorage for LocalStore {
    async fn stat(&self, key: &Key) -> Result<Status> {
        let key = key.clone();
        self.blocking(move |root| Ok(root.open_file(&key)?.status())).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        read::read(self, key, span, condition).await
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        if number == 0 {
            return Err(Error::invalid("parts are counted from 1"));
        }
        self.stat(key).await?;
        Ok(None)
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let (lister, request) = (Arc::clone(&self.lister), request.clone());
        self.blocking(move |root| lister.page(root, &request)).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        _attributes: &Attributes,
    ) -> Result<Status> {
        write::write(self, key, length, body).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let key = key.clone();
        self.blocking(move |root| write::delete(root, &key)).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        let (from, to, random) = (from.clone(), to.clone(), Arc::clone(&self.random));
        self.blocking(move |root| write::copy(root, &from, &to, &random)).await
    }

    fn uri(&self, key: &Key) -> String {
        self.root.uri(key.as_str())
    }
}
