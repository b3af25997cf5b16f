// SPDX-License-Identifier: Apache-2.0
//! Where requests wait until they may pass: the [`Queue`] with a [`Gate`], a clock and wakers.
//!
//! Whatever changes something (somebody comes, something is given back, a time has come) lets
//! pass whoever may, under one lock that is never held over an await. A timer is pending for the
//! soonest time at which somebody may pass; earlier ones set for later times stay. A wait is
//! bounded, and so is each line: who comes behind more than can pass in that time is refused at
//! once.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use larder_core::{Clock, Error, Result, metric::CountGauge};
use tokio::{runtime::Handle, sync::oneshot};

use super::queue::{Gate, Next, Opening, Queue, Ticket};
use crate::priority::{Class, Priority};

/// How long a request waits that somebody waits for.
pub const FOREGROUND_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a job's request waits.
pub const BULK_WAIT_MAX: Duration = Duration::from_secs(600);
/// How many of one mount and class wait at most, also where all may pass in time.
pub const WAITING_MAX: usize = 10_000;

fn wait_max(class: Class) -> Duration {
    match class {
        Class::Foreground => FOREGROUND_WAIT_MAX,
        Class::Bulk => BULK_WAIT_MAX,
    }
}

/// A gate with what it takes from those who pass and gets back from them.
pub(super) trait Limits: Gate + Send + 'static {
    /// What who has passed holds.
    type Pass: Send;

    /// One of this mount and class passes.
    fn pass(&mut self, mount: usize, class: Class, now: Duration) -> Self::Pass;

    /// Its pass comes back.
    fn give_back(&mut self, pass: Self::Pass, now: Duration);

    /// How long so many take to pass, as far as is known.
    fn time_for(&mut self, mount: usize, count: usize, now: Duration) -> Duration;

    /// How many of this mount may pass in so much time at most, as far as is known.
    fn most_within(&mut self, mount: usize, time: Duration, now: Duration) -> usize;

    /// Shows how it is; answers when it will be otherwise by itself.
    fn show(&mut self, now: Duration) -> Option<Duration>;

    /// What keeps one of this mount and class from passing, in words.
    fn cause(&mut self, mount: usize, class: Class, now: Duration) -> &'static str;
}

/// Lets pass who may.
pub(super) struct Turnstile<L: Limits> {
    this: Weak<Self>,
    clock: Clock,
    state: Mutex<State<L>>,
}

struct State<L: Limits> {
    queue: Queue,
    limits: L,
    waiting: HashMap<Ticket, oneshot::Sender<L::Pass>>,
    /// The times for which timers are pending.
    armed: BTreeSet<Duration>,
    /// Where timers run: a pass may come back on a thread outside.
    runtime: Option<Handle>,
}

impl<L: Limits> State<L> {
    /// Whether nobody waits, one of this mount and class may pass and `may` agrees.
    fn is_free(
        &mut self,
        (mount, class): (usize, Class),
        now: Duration,
        may: impl FnOnce(&mut L, Duration) -> bool,
    ) -> bool {
        self.queue.is_empty()
            && self.limits.opening(mount, class, now) == Opening::Now
            && may(&mut self.limits, now)
    }
}

/// The lines of one mount.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) mount: usize,
    /// How many wait, by class.
    pub(super) waiting: [CountGauge; 2],
}

/// Whether who comes has begun already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// Something new, which is refused where too many wait.
    New,
    /// The next piece of what was let pass before: as long as those ahead take, it waits.
    Again,
}

/// The right to go on, given back when dropped.
pub(super) struct Passed<L: Limits> {
    turnstile: Arc<Turnstile<L>>,
    pass: Option<L::Pass>,
}

impl<L: Limits> Turnstile<L> {
    pub(super) fn new(limits: L, clock: Clock) -> Arc<Self> {
        let state = State {
            queue: Queue::default(),
            limits,
            waiting: HashMap::new(),
            armed: BTreeSet::new(),
            runtime: None,
        };
        Arc::new_cyclic(|this| Self { this: Weak::clone(this), clock, state: Mutex::new(state) })
    }

    /// One more mount, with what it brings to the limits.
    pub(super) fn add_mount(&self, add: impl FnOnce(&mut L)) -> usize {
        let mut state = self.state();
        add(&mut state.limits);
        state.queue.add_mount()
    }

    /// Waits until one of this mount may pass.
    ///
    /// # Errors
    /// `Exhausted` when that takes too long or too many wait already.
    pub(super) async fn pass(
        &self,
        line: &Line,
        priority: &Priority,
        coming: Coming,
    ) -> Result<Passed<L>> {
        let mut class = priority.class();
        let (mut waiter, ahead) = self.stand(line.mount, class, coming)?;
        if let Ok(pass) = waiter.called.try_recv() {
            return Ok(waiter.passes(pass));
        }
        let mut shown = Shown::new(line, class);
        let mut deadline = Box::pin(self.clock.sleep(wait_max(class) + ahead));
        loop {
            tokio::select! {
                biased;
                called = &mut waiter.called => {
                    let pass = called.expect("who is in the queue is called, never dropped");
                    return Ok(waiter.passes(pass));
                }
                () = priority.raised(), if class == Class::Bulk => {
                    class = Class::Foreground;
                    shown = Shown::new(line, class);
                    // Now it stands in another line.
                    let ahead = self.ahead(line.mount, class, coming);
                    deadline = Box::pin(self.clock.sleep(wait_max(class) + ahead));
                    self.change(|state, _| state.queue.raise(line.mount, waiter.ticket));
                }
                () = &mut deadline => break,
            }
        }
        drop(shown);
        Err(self.refusal(line.mount, class))
    }

    /// The same if nobody waits and `may` agrees.
    pub(super) fn try_pass(
        &self,
        mount: usize,
        class: Class,
        may: impl FnOnce(&mut L, Duration) -> bool,
    ) -> Option<Passed<L>> {
        let mut state = self.state();
        let now = self.clock.elapsed();
        let free = state.is_free((mount, class), now, may);
        let pass = free.then(|| state.limits.pass(mount, class, now))?;
        Some(Passed { turnstile: self.this.upgrade()?, pass: Some(pass) })
    }

    /// Whether nobody waits, one may pass and `may` agrees.
    pub(super) fn would_pass(
        &self,
        mount: usize,
        class: Class,
        may: impl FnOnce(&mut L, Duration) -> bool,
    ) -> bool {
        self.state().is_free((mount, class), self.clock.elapsed(), may)
    }

    /// Changes the limits and lets pass whoever may then.
    pub(super) fn tell(&self, change: impl FnOnce(&mut L, Duration)) {
        self.change(|state, now| change(&mut state.limits, now));
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State<L>, Duration)) {
        let mut state = self.state();
        let now = self.clock.elapsed();
        change(&mut state, now);
        self.call(&mut state, now);
    }

    /// Stands in line; answers too how long those ahead take, for who has begun already.
    fn stand(
        &self,
        mount: usize,
        class: Class,
        coming: Coming,
    ) -> Result<(Waiter<'_, L>, Duration)> {
        let (call, called) = oneshot::channel();
        let mut state = self.state();
        let now = self.clock.elapsed();
        let waiting = state.queue.waiting(mount, class);
        let ahead = match coming {
            Coming::New => {
                let most = state.limits.most_within(mount, wait_max(class), now);
                if waiting >= most.min(WAITING_MAX) {
                    drop(state);
                    return Err(self.refusal(mount, class));
                }
                Duration::ZERO
            }
            Coming::Again => state.limits.time_for(mount, waiting, now),
        };
        state.runtime = Some(Handle::current());
        let ticket = state.queue.push(mount, class);
        state.waiting.insert(ticket, call);
        self.call(&mut state, now);
        Ok((Waiter { turnstile: self, mount, ticket, called }, ahead))
    }

    /// How long those in a line take, for who has begun already.
    fn ahead(&self, mount: usize, class: Class, coming: Coming) -> Duration {
        if coming == Coming::New {
            return Duration::ZERO;
        }
        let mut state = self.state();
        let waiting = state.queue.waiting(mount, class);
        let now = self.clock.elapsed();
        state.limits.time_for(mount, waiting, now)
    }

    /// Lets pass whoever may, and sets the timer for the next.
    fn call(&self, state: &mut State<L>, now: Duration) {
        let soonest = loop {
            match state.queue.next(&mut state.limits, now) {
                Next::Pass(mount, class, ticket) => {
                    let pass = state.limits.pass(mount, class, now);
                    let unheard = match state.waiting.remove(&ticket) {
                        Some(call) => call.send(pass).err(),
                        None => Some(pass),
                    };
                    if let Some(pass) = unheard {
                        state.limits.give_back(pass, now);
                    }
                }
                Next::At(at) => break Some(at),
                Next::Nobody => break None,
            }
        };
        let shown = state.limits.show(now);
        let Some(at) = soonest.into_iter().chain(shown).min() else { return };
        let Some(runtime) = &state.runtime else { return };
        if state.armed.first().is_some_and(|armed| *armed <= at) {
            return;
        }
        state.armed.insert(at);
        let (this, clock) = (Weak::clone(&self.this), self.clock.clone());
        runtime.spawn(async move {
            clock.sleep(at.saturating_sub(now)).await;
            let Some(this) = this.upgrade() else { return };
            this.change(|state, _| {
                state.armed.remove(&at);
            });
        });
    }

    fn refusal(&self, mount: usize, class: Class) -> Error {
        let mut state = self.state();
        let now = self.clock.elapsed();
        let (cause, waiting) =
            (state.limits.cause(mount, class, now), state.queue.waiting(mount, class));
        let wait = wait_max(class);
        Error::exhausted(format!(
            "the store's budget can't admit the request within {} s: {cause}; {waiting} more wait",
            wait.as_secs()
        ))
        .with_retry_after(wait)
    }
}

impl<L: Limits> fmt::Debug for Turnstile<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turnstile({:?})", self.state().queue)
    }
}

impl<L: Limits> Passed<L> {
    pub(super) fn pass(&mut self) -> &mut L::Pass {
        self.pass.as_mut().expect("it is there until the drop")
    }
}

impl<L: Limits> Drop for Passed<L> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.turnstile.tell(|limits, now| limits.give_back(pass, now));
        }
    }
}

/// Somebody in the queue. Leaves it when dropped.
struct Waiter<'a, L: Limits> {
    turnstile: &'a Turnstile<L>,
    mount: usize,
    ticket: Ticket,
    called: oneshot::Receiver<L::Pass>,
}

impl<L: Limits> Waiter<'_, L> {
    fn passes(self, pass: L::Pass) -> Passed<L> {
        let turnstile = self.turnstile.this.upgrade().expect("it is borrowed, so it lives");
        Passed { turnstile, pass: Some(pass) }
    }
}

impl<L: Limits> Drop for Waiter<'_, L> {
    fn drop(&mut self) {
        let mut state = self.turnstile.state();
        state.queue.remove(self.mount, self.ticket);
        state.waiting.remove(&self.ticket);
        // It may have been called and not have heard it.
        if let Ok(pass) = self.called.try_recv() {
            let now = self.turnstile.clock.elapsed();
            state.limits.give_back(pass, now);
            self.turnstile.call(&mut state, now);
        }
    }
}

/// One that waits, as the metrics show it.
struct Shown(CountGauge);

impl Shown {
    fn new(line: &Line, class: Class) -> Self {
        let gauge = line.waiting[class as usize].clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.dec();
    }
}
