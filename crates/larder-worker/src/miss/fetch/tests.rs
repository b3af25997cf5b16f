// SPDX-License-Identifier: Apache-2.0
//! A fetch with pages brought by hand: what it holds in memory, and what readers find.

use larder_core::MemoryBudget;
use larder_pages::NotKept;

use super::*;

/// Pages of the content: three windows long.
const PAGES: u32 = (3 * WINDOW / PAGE_SIZE) as u32;

/// A fetch of a whole content into which pages are brought by hand.
struct Bench {
    fetch: Arc<Fetch>,
    budget: MemoryBudget,
    brought: u32,
}

impl Bench {
    fn new() -> Self {
        Self::of(Class::Foreground)
    }

    fn of(class: Class) -> Self {
        let length = u64::from(PAGES) * PAGE_SIZE;
        let (range, priority) = (ByteRange::new(0, length), Priority::new(class));
        let fetch = Fetch::new((ContentId(1), length), range, 0, priority);
        Self { fetch: Arc::new(fetch), budget: MemoryBudget::new(2 * length), brought: 0 }
    }

    fn bring(&mut self) -> PageIndex {
        let page = PageIndex(self.brought);
        self.brought += 1;
        let lease = self.budget.try_acquire(PAGE_SIZE).expect("the budget is large");
        let bytes = Bytes::from(vec![page.0 as u8; PAGE_SIZE as usize]);
        self.fetch.publish(Run { start: page.start(), bytes, lease: Arc::new(lease) });
        page
    }

    fn settle(&self, page: PageIndex, outcome: PutOutcome) {
        self.fetch.settle(page, outcome);
    }

    fn covers(&self, page: u32) -> bool {
        self.fetch.covers(PageIndex(page))
    }

    /// The number of the page that a look-up from `page` on would be cut at.
    fn next(&self, page: u32) -> Option<u64> {
        self.fetch.next_covered(PageIndex(page)).map(|start| start / PAGE_SIZE)
    }
}

/// Reads one page; what the page store has by now is read there.
async fn read(reader: &Attachment, page: PageIndex) -> bool {
    match reader.step(page.start()).await {
        Step::Bytes(bytes, _) => {
            assert_eq!(bytes[0], page.0 as u8, "{page:?}");
            true
        }
        Step::Elsewhere => false,
        Step::Failed(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn pages_behind_a_slow_one_hold_no_memory() {
    let mut bench = Bench::new();
    let reader = bench.fetch.attach(0, Class::Foreground);
    let first = bench.bring();
    assert!(read(&reader, first).await);
    let most = WINDOW + THIN_STEP + 2 * PAGE_SIZE;
    while bench.brought < PAGES {
        let page = bench.bring();
        assert!(read(&reader, page).await, "it has just come");
        bench.settle(page, PutOutcome::Kept);
        assert!(bench.budget.used() <= most, "{} at {page:?}", bench.budget.used());
    }
    assert!(bench.covers(0), "the slow page is still to be had");
    assert!(!bench.covers(1) && !bench.covers(PAGES / 2), "those behind it are in the page store");
    let late = bench.fetch.attach(0, Class::Foreground);
    assert!(read(&late, first).await);
    assert!(!read(&late, PageIndex(1)).await);
    bench.settle(first, PutOutcome::Kept);
    bench.fetch.finish(Ok(()));
    bench.fetch.drained().await;
    assert_eq!(bench.budget.used(), 0);
}

#[tokio::test]
async fn refused_pages_behind_a_slow_one_stay_while_a_reader_may_want_them() {
    let mut bench = Bench::new();
    let front = bench.fetch.attach(0, Class::Foreground);
    let slow = bench.fetch.attach(0, Class::Foreground);
    let first = bench.bring();
    let last_of_window = (WINDOW / PAGE_SIZE) as u32;
    while bench.brought < last_of_window {
        let page = bench.bring();
        assert!(read(&front, page).await);
        bench.settle(page, PutOutcome::NotKept(NotKept::QueueFull));
    }
    for page in 0..last_of_window {
        assert!(read(&slow, PageIndex(page)).await, "within the window all is there");
    }
    drop((front, slow));
    bench.settle(first, PutOutcome::Kept);
    assert_eq!(bench.budget.used(), 0, "nobody is left to want them");
}

#[tokio::test]
async fn a_job_waits_for_the_disk_until_a_reader_joins() {
    let mut bench = Bench::of(Class::Bulk);
    let fetch = Arc::clone(&bench.fetch);
    let _job = fetch.attach(0, Class::Bulk);
    assert!(!fetch.can_wait_for_disk(), "nothing has come");
    let pages = [bench.bring(), bench.bring()];
    assert!(fetch.can_wait_for_disk());
    let mut waiting = std::pin::pin!(fetch.disk_catches_up(|| false));
    assert!(futures::poll!(&mut waiting).is_pending());
    bench.settle(pages[0], PutOutcome::Kept);
    assert!(futures::poll!(&mut waiting).is_pending());
    bench.settle(pages[1], PutOutcome::Kept);
    assert!(futures::poll!(&mut waiting).is_ready(), "the disk has taken all");
    bench.bring();
    let mut enough = std::pin::pin!(fetch.disk_catches_up(|| true));
    assert!(futures::poll!(&mut enough).is_ready(), "the page store is not behind any more");
    let mut waiting = std::pin::pin!(fetch.disk_catches_up(|| false));
    assert!(futures::poll!(&mut waiting).is_pending());
    let _reader = fetch.attach(0, Class::Foreground);
    assert!(futures::poll!(&mut waiting).is_ready(), "somebody reads");
    assert!(!fetch.can_wait_for_disk());
}

#[test]
fn another_fetch_is_cut_where_this_one_brings_on() {
    let mut bench = Bench::new();
    let _reader = bench.fetch.attach(0, Class::Foreground);
    let first = bench.bring();
    assert_eq!(bench.next(0), Some(0), "it is here");
    assert_eq!(bench.next(2), Some(2), "it will come");
    for _ in 0..(2 * WINDOW / PAGE_SIZE) {
        let page = bench.bring();
        bench.settle(page, PutOutcome::Kept);
    }
    let next = bench.next(1).expect("more will come");
    assert!(next > WINDOW / PAGE_SIZE && next <= u64::from(bench.brought), "{next}");
    assert!(!bench.covers(next as u32 - 1) && bench.covers(next as u32));
    assert_eq!(bench.next(PAGES), None, "behind the end");
    bench.fetch.finish(Err(Error::unavailable("gone")));
    assert_eq!(bench.next(bench.brought), None, "nothing more will come");
    assert_eq!(bench.next(0), Some(u64::from(first.0)), "what is here is here");
}

#[tokio::test]
async fn a_fetch_that_is_cut_leaves_the_rest_to_others() {
    let mut bench = Bench::new();
    let near = bench.fetch.attach(0, Class::Foreground);
    let far = bench.fetch.attach(10 * PAGE_SIZE, Class::Foreground);
    let mut waits = std::pin::pin!(read(&far, PageIndex(10)));
    assert!(futures::poll!(&mut waits).is_pending());
    let first = bench.bring();
    assert!(!bench.fetch.cut(PAGE_SIZE), "so far it has come already");
    assert!(bench.fetch.cut(2 * PAGE_SIZE));
    assert!(!waits.await, "who waits behind the cut looks elsewhere");
    assert!(bench.covers(1) && !bench.covers(2));
    assert_eq!(bench.next(2), None);
    assert!(read(&near, first).await);
    let rest = vec![1; 3 * PAGE_SIZE as usize];
    let lease = Arc::new(bench.budget.try_acquire(PAGE_SIZE).expect("the budget is large"));
    let run = Run { start: PAGE_SIZE, bytes: Bytes::from(rest), lease };
    let taken = bench.fetch.publish(run);
    assert_eq!(taken.end(), 2 * PAGE_SIZE, "what came behind the cut is no part of it");
    assert_eq!(bench.fetch.wanted_now(false), Some(Wanted::No));
}

#[tokio::test]
async fn what_is_held_waits_for_its_reader_and_leaves_memory_to_others() {
    let mut bench = Bench::new();
    let mut held = bench.fetch.hold(Class::Foreground);
    let all = Some(Wanted::To(u64::from(PAGES) * PAGE_SIZE));
    assert_eq!(bench.fetch.wanted_now(false), all);
    assert_eq!(bench.fetch.wanted_now(true), None, "memory is short");
    let (content, range) = ((ContentId(2), PAGE_SIZE), ByteRange::new(0, PAGE_SIZE));
    let priority = Priority::new(Class::Foreground);
    let ahead = Arc::new(Fetch::new(content, range, PAGE_SIZE, priority));
    let holds = ahead.hold(Class::Foreground);
    assert_eq!(ahead.wanted_now(true), None, "also where it may run ahead");
    drop(holds);
    assert_eq!(ahead.wanted_now(true), Some(Wanted::To(PAGE_SIZE)), "it waits for nobody");
    let page = bench.bring();
    bench.settle(page, PutOutcome::Kept);
    assert!(bench.covers(0), "its reader need not ask the disk");
    assert!(held.arrive());
    assert_eq!(bench.fetch.wanted_now(true), all, "the reader is here");
    assert!(read(&held, page).await);
    let next = bench.bring();
    bench.settle(next, PutOutcome::Kept);
    assert!(read(&held, next).await);
    assert!(!bench.covers(0), "it has passed");
    drop(held);
    assert_eq!(bench.fetch.wanted_now(false), Some(Wanted::No));
    assert_eq!(bench.budget.used(), 0);
}
