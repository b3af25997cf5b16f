// SPDX-License-Identifier: Apache-2.0
//! The S3 store: each call of the trait handed to its room.

use std::sync::Arc;

use async_trait::async_trait;
use larder_core::{Attributes, Clock, Key, Result, Span, Status};

use crate::{
    ByteStream, Condition, ListPage, ListRequest, PartInfo, ReadOutcome, UnderStorage,
    environment::Environment, layer::meter::Meter, mount::S3Config,
};

use super::{client::Client, endpoint::Endpoint};

/// A bucket and the prefix below which a mount lies; the prefix is empty or ends in a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The bucket.
    pub(crate) bucket: String,
    /// What stands before every key.
    pub(crate) prefix: String,
}

/// What the adapter works with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Time.
    pub(crate) clock: Clock,
    /// Counts the requests of a call beyond its first.
    pub(crate) meter: Meter,
}

/// One bucket of an S3 store.
#[derive(Debug)]
pub(crate) struct S3Store {
    pub(super) client: Arc<Client>,
    pub(super) meter: Meter,
}

impl S3Store {
    /// Checks the settings; sends nothing.
    pub(crate) fn new(
        place: Place,
        settings: &S3Config,
        environment: &Environment,
        tools: Tools,
    ) -> Result<Self> {
        let endpoint = Endpoint::new(place, settings)?;
        let client = Client::new(endpoint, settings, environment, tools.clock)?;
        Ok(Self { client: Arc::new(client), meter: tools.meter })
    }

    /// Scheme and authority of where requests go.
    pub(crate) fn authority(&self) -> &str {
        self.client.endpoint.authority()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl UnderStorage for S3Store {
    async fn stat(&self, key: &Key) -> Result<Status> {
        let again = |call| self.meter.count("stat", call);
        self.client.repeatable(|| self.head(key), again).await
    }

    async fn read(&self, key: &Key, span: Span, condition: &Condition) -> Result<ReadOutcome> {
        let again = |call| self.meter.count("read", call);
        self.client.repeatable(|| self.get(key, span, condition), again).await
    }

    async fn part(&self, key: &Key, number: u32) -> Result<Option<(Status, PartInfo)>> {
        let again = |call| self.meter.count("stat", call);
        self.client.repeatable(|| self.head_part(key, number), again).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let again = |call| self.meter.count("list", call);
        self.client.repeatable(|| self.list_page(request), again).await
    }

    async fn write(
        &self,
        key: &Key,
        length: u64,
        body: ByteStream,
        attributes: &Attributes,
    ) -> Result<Status> {
        self.put(key, length, body, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let again = |call| self.meter.count("delete", call);
        self.client.repeatable(|| self.remove(key), again).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Status> {
        self.duplicate(from, to).await
    }

    fn uri(&self, key: &Key) -> String {
        self.client.endpoint.uri(key)
    }
}
