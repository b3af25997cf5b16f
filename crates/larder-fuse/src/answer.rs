// SPDX-License-Identifier: Apache-2.0
//! Where an operation's work is done, how long at most, and what becomes of its outcome.
//!
//! The threads that take requests from the kernel must never wait for a store, or a few cold
//! reads would stop the whole mount. And what is resident should not change threads, which costs
//! more than reading it. So work is a future that is polled once where the request arrived: what
//! needs no store is ready then and is answered on the spot. Only what is not ready moves, with
//! what it has already begun: reads to the runtime's pool of threads that may block (their later
//! polls read from the disk), the rest to the runtime's tasks.
//!
//! Measured on 2 cores (release, resident pages, checksums verified, `O_DIRECT`, one thread),
//! polled here against always moved: 4 KiB random 56–64k against 18–24k reads/s, 1 MiB sequential
//! 5.4–5.6 against 2.6–4.8 GB/s. Each outcome is counted here, and logged if the number a program
//! gets does not tell enough.
//!

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use larder_client::Filesystem;
use larder_core::{Error, Result, metric::FaceLabels};
use tokio::runtime;

use crate::errno::{Code, Telling, code};

/// Lines in the log per second at most; the rest is counted in the next line.
const LINES_PER_SECOND: u64 = 10;

/// What waits when the work is not ready at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// A task: it never blocks its thread.
    Task,
    /// A thread that may block.
    Thread,
}

/// One operation of the kernel: its name, and where it goes on when it has to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) then: Then,
}

impl Operation {
    pub(crate) const fn task(name: &'static str) -> Self {
        Self { name, then: Then::Task }
    }

    pub(crate) const fn thread(name: &'static str) -> Self {
        Self { name, then: Then::Thread }
    }
}

/// Runs operations.
#[derive(Debug)]
pub(crate) struct Desk {
    filesystem: Arc<Filesystem>,
    runtime: runtime::Handle,
    timeout: Duration,
    log: LogLimit,
}

impl Desk {
    pub(crate) fn new(
        filesystem: Arc<Filesystem>,
        runtime: runtime::Handle,
        timeout: Duration,
    ) -> Self {
        Self { filesystem, runtime, timeout, log: LogLimit::default() }
    }

    /// Does `work` within the time-out and gives its outcome to `reply`.
    pub(crate) fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        operation: Operation,
        work: impl Future<Output = Result<T>> + Send + 'static,
        reply: impl FnOnce(Result<T, Code>) + Send + 'static,
    ) {
        let mut work = self.bounded(work);
        let entered = self.runtime.enter();
        // A defect in one operation must not end the thread that serves all the others.
        let first = catch_unwind(AssertUnwindSafe(|| work.as_mut().now_or_never()));
        drop(entered);
        match first {
            Ok(Some(result)) => reply(self.conclude(operation, result)),
            Ok(None) => self.later(operation, work, reply),
            Err(_panic) => {
                let error = Error::internal("the operation panicked; this is a defect in Larder");
                reply(self.conclude(operation, Err(error)));
            }
        }
    }

    /// Counts an operation that was answered without work, and answers its error's code.
    pub(crate) fn conclude<T>(&self, operation: Operation, result: Result<T>) -> Result<T, Code> {
        let result = result.map_err(|error| {
            let (code, telling) = code(error.kind());
            if telling == Telling::Log {
                self.log.warn(self.filesystem.clock().elapsed(), operation, &error);
            }
            code
        });
        self.count(operation, result.as_ref().map_or_else(|code| code.name, |_| "ok"));
        result
    }

    pub(crate) fn count(&self, operation: Operation, code: &str) {
        let labels = FaceLabels { face: "fuse", operation: operation.name, code: code.to_owned() };
        self.filesystem.metrics().face_requests.get_or_create(&labels).inc();
    }

    /// Does something of which the kernel is told nothing.
    pub(crate) fn behind(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    fn later<T: Send + 'static>(
        self: &Arc<Self>,
        operation: Operation,
        work: Work<T>,
        reply: impl FnOnce(Result<T, Code>) + Send + 'static,
    ) {
        let desk = Arc::clone(self);
        match operation.then {
            Then::Task => {
                self.runtime.spawn(async move { reply(desk.conclude(operation, work.await)) });
            }
            Then::Thread => {
                self.runtime.spawn_blocking(move || {
                    let result = desk.runtime.block_on(work);
                    reply(desk.conclude(operation, result));
                });
            }
        }
    }

    fn bounded<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Work<T> {
        let (clock, timeout) = (self.filesystem.clock().clone(), self.timeout);
        Box::pin(async move {
            tokio::select! {
                biased;
                result = work => result,
                () = clock.sleep(timeout) => Err(Error::unavailable(format!(
                    "not answered within the operation time-out of {} s", timeout.as_secs()
                ))),
            }
        })
    }
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Keeps a store that is down from filling the log.
#[derive(Debug, Default)]
struct LogLimit {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LogLimit {
    fn warn(&self, now: Duration, operation: Operation, error: &Error) {
        let mut unsaid = 0;
        if self.second.swap(now.as_secs(), Ordering::Relaxed) != now.as_secs() {
            unsaid = self.lines.swap(0, Ordering::Relaxed).saturating_sub(LINES_PER_SECOND);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND {
            tracing::warn!(operation = operation.name, %error, unsaid, "fuse operation failed");
        }
    }
}
