// SPDX-License-Identifier: Apache-2.0
//! One small request to each store, all at once, within a bound: is it there, may we read it?

use std::time::Duration;

use futures::future::join_all;
use larder_core::{Error, ErrorKind, MountName};
use larder_ufs::{ListRequest, ListStart};
use larder_worker::Store;
use tokio::time::timeout;

/// How long a store may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// What a store said.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It listed a key, or none.
    Answers,
    /// It did not answer, or not now: later it may.
    Silent(String),
    /// It answered that this can't work: no such bucket, no rights, wrong settings.
    Refuses(Error),
}

/// Asks every store.
pub(crate) async fn probe(stores: &[Store]) -> Vec<(MountName, Finding)> {
    join_all(stores.iter().map(async |store| (store.record.name.clone(), ask(store).await))).await
}

async fn ask(store: &Store) -> Finding {
    let request =
        ListRequest { prefix: String::new(), delimiter: None, start: ListStart::Beginning, max: 1 };
    match timeout(ANSWER_WAIT_MAX, store.storage.list(&request)).await {
        Err(_) => Finding::Silent(format!("no answer within {} s", ANSWER_WAIT_MAX.as_secs())),
        Ok(Ok(_)) => Finding::Answers,
        Ok(Err(error)) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::Denied
            | ErrorKind::Invalid
            | ErrorKind::NotADirectory
            | ErrorKind::Unsupported => Finding::Refuses(error),
            ErrorKind::Unavailable
            | ErrorKind::Exhausted
            | ErrorKind::Stale
            | ErrorKind::AlreadyExists
            | ErrorKind::IsADirectory
            | ErrorKind::NotEmpty
            | ErrorKind::Corrupt
            | ErrorKind::Internal => Finding::Silent(error.to_string()),
        },
    }
}
