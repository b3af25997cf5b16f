// SPDX-License-Identifier: Apache-2.0
//! The budget towards a store, with the layer's clock in the test's hand: who passes, in what
//! order, at what rate; and when a second request is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use larder_core::{
    Clock, ErrorKind, Key, Metrics, MountName, Result, Span, UnixMillis,
    metric::{MountLabels, StoreAddressLabels, WaitingLabels},
};
use larder_ufs::{
    Condition, ReadOutcome, UnderStorage,
    layer::{
        budget::{BULK_WAIT_MAX, Budgeted, Budgets, FOREGROUND_WAIT_MAX, Lane, MountLimits},
        fault::{Faults, Faulty, Operation, Rule, Toxic},
    },
    memory::MemoryStore,
    priority::{Class, Priority},
};
use tokio::task::JoinHandle;

const LENGTH: usize = 200_000;

/// A store with a budget, and what the test moves and reads.
struct Scene {
    clock: Clock,
    store: Arc<Faulty<MemoryStore>>,
    faults: Faults,
    budgets: Budgets,
    metrics: Arc<Metrics>,
}

type Asked = JoinHandle<Result<(), ErrorKind>>;

impl Scene {
    fn new() -> Self {
        let clock = Clock::manual(UnixMillis(1_000_000));
        let memory = MemoryStore::new("m", clock.clone());
        memory.put(&key(), vec![7; LENGTH]);
        let faults = Faults::default();
        let store = Arc::new(Faulty::new(memory, faults.clone(), clock.clone()));
        let metrics = Arc::new(Metrics::new());
        Self { clock, store, faults, budgets: Budgets::default(), metrics }
    }

    fn lane(&self, mount: &str, limits: MountLimits) -> Lane {
        let mount = MountName::new(mount).expect("a legal name");
        let metrics = Arc::clone(&self.metrics);
        self.budgets.lane("memory://m", (&mount, limits), self.clock.clone(), metrics)
    }

    fn with(&self, lane: &Lane, priority: &Priority) -> Budgeted<Arc<Faulty<MemoryStore>>> {
        Budgeted::new(Arc::clone(&self.store), lane.clone(), priority.clone())
    }

    /// Asks for the status in a task of its own.
    fn ask(&self, lane: &Lane, priority: &Priority) -> Asked {
        let store = self.with(lane, priority);
        tokio::spawn(
            async move { store.stat(&key()).await.map(drop).map_err(|error| error.kind()) },
        )
    }

    /// Lets all tasks run until none has anything to do.
    async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// Moves the clock in steps of a millisecond.
    async fn pass(&self, time: Duration) {
        self.settle().await;
        for _ in 0..time.as_millis() {
            self.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        self.settle().await;
    }

    fn stats(&self) -> usize {
        self.faults.calls(Operation::Stat)
    }

    fn waiting(&self, mount: &str, class: &'static str) -> i64 {
        let labels = WaitingLabels { mount: mount.to_owned(), class };
        self.metrics.store_waiting.get_or_create(&labels).get()
    }

    fn counted(&self, what: &str) -> u64 {
        let labels = MountLabels { mount: "lake".to_owned() };
        let family = match what {
            "throttled" => &self.metrics.store_throttled,
            "hedges" => &self.metrics.store_hedges,
            _ => &self.metrics.store_hedges_won,
        };
        family.get_or_create(&labels).get()
    }

    fn limit(&self) -> f64 {
        let labels = StoreAddressLabels { store: "memory://m".to_owned() };
        self.metrics.store_request_limit.get_or_create(&labels).get()
    }
}

fn key() -> Key {
    Key::new("k").expect("a legal key")
}

fn limits(concurrent_requests: u32) -> MountLimits {
    MountLimits { concurrent_requests, requests_per_second: None, bytes_per_second: None }
}

fn foreground() -> Priority {
    Priority::new(Class::Foreground)
}

fn bulk() -> Priority {
    Priority::new(Class::Bulk)
}

async fn read(store: &impl UnderStorage) -> larder_ufs::Content {
    let read = store.read(&key(), Span::All, &Condition::None).await;
    let ReadOutcome::Content(content) = read.expect("an answer") else { panic!("bytes") };
    content
}

#[tokio::test]
async fn a_place_is_held_until_the_body_is_gone_and_the_wait_is_bounded() {
    let scene = Scene::new();
    let lane = scene.lane("lake", limits(1));
    let first = read(&scene.with(&lane, &foreground())).await;
    for (priority, bound) in [(foreground(), FOREGROUND_WAIT_MAX), (bulk(), BULK_WAIT_MAX)] {
        let store = scene.with(&lane, &priority);
        let asked = tokio::spawn(async move { store.stat(&key()).await });
        scene.settle().await;
        assert_eq!(scene.waiting("lake", priority.class().as_str()), 1);
        scene.clock.advance(bound - Duration::from_millis(1));
        scene.settle().await;
        assert!(!asked.is_finished());
        scene.clock.advance(Duration::from_millis(1));
        let error = asked.await.expect("no panic").expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.message().contains("max_concurrent_requests"), "{error}");
        assert_eq!(error.retry_after(), Some(bound), "so that it is not tried again at once");
        assert_eq!(scene.waiting("lake", priority.class().as_str()), 0);
    }
    assert_eq!(scene.stats(), 0);
    drop(first);
    let mut content = read(&scene.with(&lane, &foreground())).await;
    while content.body.next().await.is_some() {}
    scene.ask(&lane, &foreground()).await.expect("no panic").expect("a body at its end holds none");
}

#[tokio::test]
async fn requests_pass_at_the_rate_of_their_mount() {
    let scene = Scene::new();
    let limits = MountLimits { requests_per_second: Some(50), ..limits(128) };
    let (lane, free) = (scene.lane("lake", limits), scene.lane("sea", self::limits(128)));
    let asked: Vec<Asked> = (0..400).map(|_| scene.ask(&lane, &bulk())).collect();
    scene.settle().await;
    let mut before = scene.stats();
    assert!(before <= 6, "one burst: {before}");
    for _ in 0..4 {
        scene.pass(Duration::from_secs(1)).await;
        let passed = scene.stats() - before;
        assert!((45..=55).contains(&passed), "{passed} in a second");
        before += passed;
    }
    let others: Vec<Asked> = (0..100).map(|_| scene.ask(&free, &bulk())).collect();
    scene.settle().await;
    assert!(others.iter().all(JoinHandle::is_finished), "the other mount has no such limit");
    let passed = asked.iter().filter(|asked| asked.is_finished()).count();
    assert_eq!(passed + others.len(), scene.stats());
    assert!(passed <= before + 1, "{passed}");
}

#[tokio::test]
async fn who_can_not_pass_in_time_is_refused_at_once() {
    let scene = Scene::new();
    let lane = scene.lane("lake", MountLimits { requests_per_second: Some(2), ..limits(128) });
    let in_time = 2 * usize::try_from(FOREGROUND_WAIT_MAX.as_secs()).expect("short");
    // One passes at once, and then as many wait as may pass in time.
    let asked: Vec<Asked> = (0..=in_time).map(|_| scene.ask(&lane, &foreground())).collect();
    scene.settle().await;
    let late = scene.with(&lane, &foreground()).stat(&key()).await.expect_err("not in time");
    assert_eq!(late.kind(), ErrorKind::Exhausted);
    assert!(late.message().contains("max_requests_per_second"), "{late}");
    scene.pass(FOREGROUND_WAIT_MAX).await;
    let mut passed = 0;
    for asked in asked {
        passed += usize::from(asked.await.expect("no panic").is_ok());
    }
    assert!(passed + 2 > in_time, "{passed} of those who were let in");
}

/// A reader passes those of a job; and one that joins a job's fetch makes it the next.
#[tokio::test]
async fn a_reader_does_not_wait_behind_a_job() {
    let scene = Scene::new();
    let limits = MountLimits { requests_per_second: Some(10), ..limits(128) };
    let lane = scene.lane("lake", limits);
    let mut jobs: Vec<Asked> = (0..300).map(|_| scene.ask(&lane, &bulk())).collect();
    let joined = bulk();
    let raised = scene.ask(&lane, &joined);
    jobs.extend((0..100).map(|_| scene.ask(&lane, &bulk())));
    scene.settle().await;
    let reader = scene.ask(&lane, &foreground());
    scene.settle().await;
    let before = scene.stats();
    scene.pass(Duration::from_millis(110)).await;
    assert!(reader.is_finished(), "the next");
    joined.join(Class::Foreground);
    scene.settle().await;
    assert_eq!((scene.waiting("lake", "foreground"), raised.is_finished()), (1, false));
    scene.pass(Duration::from_millis(110)).await;
    assert!(raised.is_finished(), "the next after it");
    assert_eq!(scene.stats() - before, 2);
    assert_eq!(scene.waiting("lake", "foreground"), 0);
    let waiting = jobs.iter().filter(|job| !job.is_finished()).count();
    assert_eq!(usize::try_from(scene.waiting("lake", "bulk")), Ok(waiting));
}

#[tokio::test]
async fn bulk_leaves_places_for_readers() {
    let scene = Scene::new();
    let lane = scene.lane("lake", limits(8));
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Hang).times(7));
    let _hanging: Vec<Asked> = (0..20).map(|_| scene.ask(&lane, &bulk())).collect();
    scene.settle().await;
    assert_eq!((scene.stats(), scene.waiting("lake", "bulk")), (7, 13));
    scene.ask(&lane, &foreground()).await.expect("no panic").expect("the eighth place");
}

#[tokio::test]
async fn mounts_of_a_store_that_is_slow_share_it() {
    let scene = Scene::new();
    let lanes = [scene.lane("lake", limits(128)), scene.lane("sea", limits(128))];
    slow_down(&scene, &lanes[0]).await;
    // The first mount wants ten times as much and came first.
    let many: Vec<Asked> = (0..500).map(|_| scene.ask(&lanes[0], &bulk())).collect();
    let few: Vec<Asked> = (0..50).map(|_| scene.ask(&lanes[1], &bulk())).collect();
    let done = |asked: &[Asked]| asked.iter().filter(|asked| asked.is_finished()).count();
    while done(&few) < 50 {
        scene.pass(Duration::from_millis(10)).await;
    }
    assert!((45..=60).contains(&done(&many)), "{} of the other", done(&many));
}

/// Makes the store ask to slow down, once.
async fn slow_down(scene: &Scene, lane: &Lane) {
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Fail(ErrorKind::Exhausted)).times(1));
    let asked = scene.ask(lane, &foreground()).await.expect("no panic");
    assert_eq!(asked, Err(ErrorKind::Exhausted));
}

#[tokio::test]
async fn a_store_that_asks_to_slow_down_is_asked_less_and_then_as_before() {
    let scene = Scene::new();
    let lane = scene.lane("lake", limits(128));
    assert_eq!(scene.limit(), 0.0);
    let told = Toxic::FailWithRetryAfter(ErrorKind::Exhausted, Duration::from_secs(2));
    scene.faults.add(Rule::on(Operation::Stat, told).times(1));
    let asked = scene.ask(&lane, &foreground()).await.expect("no panic");
    assert_eq!(asked, Err(ErrorKind::Exhausted));
    assert_eq!(scene.counted("throttled"), 1);
    let waiting: Vec<Asked> = (0..500).map(|_| scene.ask(&lane, &bulk())).collect();
    scene.pass(Duration::from_millis(1990)).await;
    assert_eq!(scene.stats(), 1, "nothing before the wait it asked for");
    scene.pass(Duration::from_millis(1010)).await;
    let in_a_second = scene.stats() - 1;
    assert!((4..=8).contains(&in_a_second), "{in_a_second}");
    assert!(scene.limit() >= 5.0, "{}", scene.limit());
    scene.pass(Duration::from_secs(5)).await;
    scene.clock.advance(Duration::from_secs(60));
    scene.settle().await;
    assert!(waiting.iter().all(JoinHandle::is_finished), "no limit any more");
    assert_eq!(scene.limit(), 0.0, "and the metrics say so");
}

#[tokio::test]
async fn bytes_come_at_the_rate_of_their_mount_and_a_readers_first() {
    let scene = Scene::new();
    let limits = MountLimits { bytes_per_second: Some(100_000), ..limits(128) };
    let lane = scene.lane("lake", limits);
    let jobs = bulk();
    let mut bodies = Vec::new();
    for priority in [&jobs, &jobs, &foreground()] {
        let store = scene.with(&lane, priority);
        bodies.push(tokio::spawn(async move {
            let mut content = read(&store).await;
            let mut length = 0;
            while let Some(chunk) = content.body.next().await {
                length += chunk.expect("bytes").len();
            }
            length
        }));
        scene.settle().await;
    }
    let reader = bodies.pop().expect("three");
    // The reader's 200,000 bytes, less what came at once, and what the jobs began with.
    scene.pass(Duration::from_millis(4500)).await;
    assert!(reader.is_finished(), "the reader first");
    assert_eq!(reader.await.expect("no panic"), LENGTH);
    assert!(bodies.iter().all(|body| !body.is_finished()), "600,000 bytes take five seconds");
    scene.pass(Duration::from_millis(2500)).await;
    for body in bodies {
        assert_eq!(body.await.expect("no panic"), LENGTH);
    }
}

/// The least rate that may be set, large chunks, and as many bodies as are admitted at once: each
/// waits its turn again and again, and none breaks off in its midst.
#[tokio::test]
async fn a_body_that_was_admitted_is_brought_to_its_end() {
    let scene = Scene::new();
    scene.faults.add(Rule::on(Operation::Read, Toxic::OneChunk));
    let lane = scene.lane("lake", MountLimits { bytes_per_second: Some(65_536), ..limits(128) });
    let mut bodies = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let store = scene.with(&lane, &foreground());
        bodies.push(tokio::spawn(async move {
            let answer = store.read(&key(), Span::All, &Condition::None).await;
            let ReadOutcome::Content(mut content) = answer.map_err(|error| error.kind())? else {
                panic!("bytes")
            };
            let mut length = 0;
            while let Some(chunk) = content.body.next().await {
                length += chunk.expect("a body that was admitted goes on").len();
            }
            Ok::<_, ErrorKind>(length)
        }));
        scene.settle().await;
    }
    // All of them have 40 × 200,000 bytes.
    scene.pass(Duration::from_secs(130)).await;
    for body in bodies {
        assert!(body.is_finished(), "122 seconds for all");
        match body.await.expect("no panic") {
            Ok(length) => assert_eq!(length, LENGTH),
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Exhausted);
                refused += 1;
            }
        }
    }
    assert!((1..=12).contains(&refused), "{refused} were refused at once, before their first byte");
}

#[tokio::test]
async fn who_goes_away_takes_nothing_along() {
    let scene = Scene::new();
    let lane = scene.lane("lake", MountLimits { requests_per_second: Some(10), ..limits(2) });
    let asked: Vec<Asked> = (0..50).map(|_| scene.ask(&lane, &foreground())).collect();
    scene.settle().await;
    asked.iter().for_each(JoinHandle::abort);
    scene.settle().await;
    assert_eq!(scene.waiting("lake", "foreground"), 0);
    let before = scene.stats();
    let last = scene.ask(&lane, &foreground());
    scene.pass(Duration::from_millis(110)).await;
    last.await.expect("no panic").expect("a place and a turn");
    assert_eq!(scene.stats() - before, 1);
}

/// Teaches the store's times: replies that take 100 ms.
async fn learn(scene: &Scene, lane: &Lane) {
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_millis(100))));
    for _ in 0..4 {
        let asked: Vec<Asked> = (0..100).map(|_| scene.ask(lane, &foreground())).collect();
        scene.pass(Duration::from_millis(100)).await;
        for asked in asked {
            asked.await.expect("no panic").expect("a status");
        }
    }
    assert_eq!(scene.counted("hedges"), 0);
    scene.faults.clear();
}

#[tokio::test]
async fn a_late_reply_is_asked_for_a_second_time() {
    let scene = Scene::new();
    let lane = scene.lane("lake", limits(128));
    learn(&scene, &lane).await;
    let before = scene.stats();
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Hang).times(1));
    let late = scene.ask(&lane, &foreground());
    scene.pass(Duration::from_millis(99)).await;
    assert_eq!((scene.stats() - before, late.is_finished()), (1, false));
    scene.pass(Duration::from_millis(20)).await;
    late.await.expect("no panic").expect("the second answers");
    assert_eq!(scene.stats() - before, 2);
    assert_eq!((scene.counted("hedges"), scene.counted("won")), (1, 1));
    // The first may win yet, and then the second is dropped.
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_millis(150))).times(1));
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Hang).skip(1).times(1));
    let late = scene.ask(&lane, &foreground());
    scene.pass(Duration::from_millis(151)).await;
    late.await.expect("no panic").expect("the first answers");
    assert_eq!((scene.counted("hedges"), scene.counted("won")), (2, 1));
}

#[tokio::test]
async fn second_requests_are_few_and_never_a_burden() {
    let scene = Scene::new();
    let lane = scene.lane("lake", limits(128));
    learn(&scene, &lane).await;
    // A store in which everything is slow at once is not asked twice for all of it.
    let before = scene.stats();
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_secs(1))));
    let asked: Vec<Asked> = (0..100).map(|_| scene.ask(&lane, &foreground())).collect();
    scene.pass(Duration::from_millis(1001)).await;
    assert!(asked.iter().all(JoinHandle::is_finished));
    assert_eq!((scene.stats() - before, scene.counted("hedges")), (102, 2));
    // A job has time.
    let before = scene.stats();
    scene.faults.clear();
    (0..100).for_each(|_| drop(scene.ask(&lane, &foreground())));
    scene.settle().await;
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_secs(1))).times(1));
    let job = scene.ask(&lane, &bulk());
    scene.pass(Duration::from_millis(1001)).await;
    job.await.expect("no panic").expect("its only request");
    assert_eq!((scene.stats() - before, scene.counted("hedges")), (101, 2));
    // And a store that has asked to slow down is left alone.
    slow_down(&scene, &lane).await;
    scene.pass(Duration::from_secs(1)).await;
    scene.faults.add(Rule::on(Operation::Stat, Toxic::Delay(Duration::from_secs(1))).times(1));
    let late = scene.ask(&lane, &foreground());
    scene.pass(Duration::from_millis(1001)).await;
    late.await.expect("no panic").expect("its only request");
    assert_eq!(scene.counted("hedges"), 2);
}

/// A pass may come back on a thread that knows no runtime, as FUSE's are.
#[test]
fn a_body_may_be_dropped_outside_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scene = Scene::new();
    let lane = scene.lane("lake", MountLimits { requests_per_second: Some(10), ..limits(1) });
    let content = runtime.block_on(read(&scene.with(&lane, &foreground())));
    let done = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let (next, done) = (scene.with(&lane, &foreground()), Arc::clone(&done));
        tokio::spawn(async move {
            next.stat(&key()).await.expect("a place");
            done.store(true, Ordering::SeqCst);
        });
        scene.settle().await;
    });
    assert!(!done.load(Ordering::SeqCst));
    drop(content);
    runtime.block_on(async {
        while !done.load(Ordering::SeqCst) {
            scene.clock.advance(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    });
}
