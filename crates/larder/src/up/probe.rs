// SPDX-License-Identifier: Apache-2.0
//! One small request to each store, all at once, within a bound: is it there, may we read it?
//!
//! A start asks behind and waits for nobody: a store that is down, or far away, must not keep
//! what is resident from its readers. What was heard by the time everything else is open still
//! stops the start before it is ready; what is heard later ends the process in good order.

use std::time::Duration;

use futures::future::join_all;
use larder_core::{Error, ErrorKind, MountName};
use larder_ufs::{ListRequest, ListStart};
use larder_worker::{Store, Worker};
use tokio::{sync::mpsc, time::timeout};

use crate::exit::Failure;

/// How long a store may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// What a store said.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It listed a key, or none.
    Answers,
    /// It did not answer, or not now: later it may.
    Silent(Error),
    /// It answered that this can't work: no such bucket, no rights, wrong settings.
    Refuses(Error),
}

/// Asks every store and waits for all of them.
pub(crate) async fn probe(stores: &[Store]) -> Vec<(MountName, Finding)> {
    join_all(stores.iter().map(async |store| (store.record.name.clone(), ask(store).await))).await
}

/// The questions of a start, under way.
#[derive(Debug)]
pub(super) struct Questions(mpsc::Receiver<(MountName, Finding)>);

impl Questions {
    /// Asks every store, each in a task of its own.
    pub(super) fn ask(stores: &[Store]) -> Self {
        let (tell, told) = mpsc::channel(stores.len().max(1));
        for store in stores {
            let (store, tell) = (store.clone(), tell.clone());
            tokio::spawn(async move {
                let finding = ask(&store).await;
                // Nobody listens any more when the start has failed for another reason.
                let _ = tell.send((store.record.name, finding)).await;
            });
        }
        Self(told)
    }

    /// Hears what was answered so far; the failure, if a store refuses for good.
    pub(super) fn heard(&mut self, worker: &Worker) -> Result<(), Failure> {
        while let Ok((mount, finding)) = self.0.try_recv() {
            hear(&mount, finding, worker)?;
        }
        Ok(())
    }

    /// Ends with the first store that refuses for good; never, if none does.
    pub(super) async fn refusal(&mut self, worker: &Worker) -> Failure {
        while let Some((mount, finding)) = self.0.recv().await {
            if let Err(failure) = hear(&mount, finding, worker) {
                return failure;
            }
        }
        std::future::pending().await
    }
}

/// A refusal is the end. Silence is said in the log and, until the store answers, in the status.
fn hear(mount: &MountName, finding: Finding, worker: &Worker) -> Result<(), Failure> {
    match finding {
        Finding::Answers => Ok(()),
        Finding::Silent(error) => {
            tracing::warn!(
                %mount, why = %error,
                "the store does not answer; what is resident stays readable"
            );
            worker.note_trouble(mount, &error);
            Ok(())
        }
        Finding::Refuses(error) => Err(Failure::of_place(&error.context(format!("mount {mount}")))),
    }
}

async fn ask(store: &Store) -> Finding {
    let request =
        ListRequest { prefix: String::new(), delimiter: None, start: ListStart::Beginning, max: 1 };
    match timeout(ANSWER_WAIT_MAX, store.storage.foreground().list(&request)).await {
        Err(_) => Finding::Silent(Error::unavailable(format!(
            "no answer within {} s",
            ANSWER_WAIT_MAX.as_secs()
        ))),
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
            | ErrorKind::Internal => Finding::Silent(error),
        },
    }
}
