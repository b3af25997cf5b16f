// SPDX-License-Identifier: Apache-2.0
//! Single flight: of those who want the same thing at the same time, one does the work and all
//! get the result. The work runs in a task of its own, so it goes on when the one who began it
//! goes away. A reader that joins the work of a job makes it as urgent as its own.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use larder_core::{Error, Result};
use larder_ufs::priority::{Class, Priority};
use tokio::sync::watch;

type Shared<T> = Option<Arc<Result<T>>>;
type Table<K, T> = HashMap<K, Flight<T>>;

struct Flight<T> {
    result: watch::Receiver<Shared<T>>,
    priority: Priority,
}

/// What is under way, by key.
pub(crate) struct SingleFlight<K, T> {
    under_way: Arc<Mutex<Table<K, T>>>,
}

impl<K, T> SingleFlight<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self { under_way: Arc::default() }
    }

    /// The result of the work for `key`: of that under way, else of `work`.
    pub(crate) async fn run<F>(
        &self,
        (key, class): (K, Class),
        work: impl FnOnce(Priority) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut result = self.join_or_start(key, class, work);
        let result = match result.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        match result.as_deref() {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(error)) => Err(error.duplicate()),
            None => Err(Error::internal("the request to the store was abandoned")),
        }
    }

    fn join_or_start<F>(
        &self,
        key: K,
        class: Class,
        work: impl FnOnce(Priority) -> F,
    ) -> watch::Receiver<Shared<T>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(&key) {
            flight.priority.join(class);
            return flight.result.clone();
        }
        let (sender, result) = watch::channel(None);
        let priority = Priority::new(class);
        let flight = Flight { result: result.clone(), priority: priority.clone() };
        under_way.insert(key.clone(), flight);
        let landing = Landing { under_way: Arc::clone(&self.under_way), key };
        let work = work(priority);
        tokio::spawn(async move {
            let result = work.await;
            // Off the list before the result is out: who comes later starts anew.
            drop(landing);
            let _nobody_waits_any_more = sender.send(Some(Arc::new(result)));
        });
        result
    }
}

/// Takes the key off the list, also when the work panics.
struct Landing<K: Eq + Hash, T> {
    under_way: Arc<Mutex<Table<K, T>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleFlight")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_works_and_all_get_the_result() {
        let flights = Arc::new(SingleFlight::<u8, u32>::new());
        let runs = Arc::new(AtomicU32::new(0));
        let (open, gate) = watch::channel(false);
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let (flights, runs, mut gate) = (flights.clone(), runs.clone(), gate.clone());
            waiting.push(tokio::spawn(async move {
                let work = move |_| async move {
                    gate.wait_for(|open| *open).await.expect("the gate stays");
                    Ok(runs.fetch_add(1, Ordering::SeqCst))
                };
                flights.run((1, Class::Bulk), work).await
            }));
        }
        tokio::task::yield_now().await;
        // The first of them goes away; the others must not notice.
        waiting.remove(0).abort();
        open.send(true).expect("somebody waits");
        for task in waiting {
            assert_eq!(task.await.expect("not aborted").expect("no error"), 0);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(flights.run((1, Class::Bulk), |_| async { Err(Error::stale("x")) }).await.is_err());
        assert!(flights.under_way.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_joins_a_job_makes_it_urgent() {
        let flights = Arc::new(SingleFlight::<u8, Class>::new());
        let (open, gate) = watch::channel(false);
        let job = |priority: Priority| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.expect("the gate stays");
                Ok(priority.class())
            }
        };
        let mut first = std::pin::pin!(flights.run((1, Class::Bulk), &job));
        let mut other = std::pin::pin!(flights.run((1, Class::Bulk), &job));
        let mut reader = std::pin::pin!(flights.run((1, Class::Foreground), &job));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut other).is_pending());
        assert!(futures::poll!(&mut reader).is_pending());
        open.send(true).expect("somebody waits");
        let classes =
            [first.await, other.await, reader.await].map(|class| class.expect("no error"));
        assert_eq!(classes, [Class::Foreground; 3]);
    }
}
