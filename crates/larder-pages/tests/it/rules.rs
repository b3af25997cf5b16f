// SPDX-License-Identifier: Apache-2.0
//! What rules do: pins hold, lower priorities go first, quotas cost only their own, time runs
//! out, and all of that over a restart and while rules change.

use std::{path::Path, sync::Arc, time::Duration};

use larder_core::{Clock, Metrics, PAGE_SIZE, Priority, Random, UnixMillis};
use larder_pages::{
    Class, ClassRule, ClassUsage, Index, MemoryIndex, NewPage, NotKept, Options, PageStore,
    PutOutcome, Standing,
};
use tempfile::tempdir;

use crate::bench::{allocated, content, eventually, new_page, options, put_all, read_all};

const MIB: u64 = 1 << 20;
/// Two pages, of which the first is put: a file of its own.
const LENGTH: u64 = 2 * PAGE_SIZE;
/// What it costs: that page, and its segment's overhead.
const COST: u64 = PAGE_SIZE + 4096;
const A: Class = Class(0xa);
const B: Class = Class(0xb);

fn rule(class: Class) -> ClassRule {
    ClassRule { class, ..ClassRule::default() }
}

struct Store {
    pages: Arc<PageStore>,
    clock: Clock,
}

fn open(path: &Path, capacity: u64, index: &Arc<MemoryIndex>, rules: &[ClassRule]) -> Store {
    open_many(&[(path, capacity)], index, rules)
}

fn open_many(directories: &[(&Path, u64)], index: &Arc<MemoryIndex>, rules: &[ClassRule]) -> Store {
    let clock = Clock::manual(UnixMillis(1_800_000_000_000));
    let options = Options { classes: rules.to_vec(), clock: clock.clone(), ..options(directories) };
    let index: Arc<dyn Index> = Arc::clone(index) as Arc<dyn Index>;
    let pages = PageStore::open(options, index, Arc::new(Metrics::new())).unwrap();
    Store { pages, clock }
}

impl Store {
    /// Puts contents of one page each.
    fn put(&self, class: Class, names: std::ops::Range<u64>) -> Vec<PutOutcome> {
        let page = |name| NewPage { class, ..new_page(name, 0, LENGTH) };
        put_all(&self.pages, names.map(page).collect())
    }

    fn put_one(&self, class: Class, name: u64) -> PutOutcome {
        let page = NewPage { class, ..new_page(name, 0, LENGTH) };
        put_all(&self.pages, vec![page])[0]
    }

    /// How many of these are there, all of them right.
    fn count(&self, names: std::ops::Range<u64>) -> u64 {
        names.map(|name| self.has(name)).map(u64::from).sum()
    }

    fn has(&self, name: u64) -> bool {
        let reading = read_all(&self.pages, name, LENGTH);
        assert!(reading.bad.is_empty());
        !reading.good.is_empty()
    }

    fn usage(&self, class: Class) -> ClassUsage {
        let usage = self.pages.class_usage();
        *usage.iter().find(|usage| usage.class == class).expect("it has a rule")
    }
}

#[test]
fn what_is_pinned_stays_whatever_comes() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let pinned = ClassRule { pin_bytes: 40 * COST, ..rule(A) };
    let store = open(directory.path(), 100 * COST, &index, &[pinned]);
    store.put(A, 0..40);
    store.put(Class::NONE, 1000..1300);
    assert_eq!(store.count(0..40), 40);
    assert!(store.count(1000..1300) > 40, "the rest is for others");
    // Over its limit it is as anything else: what was pinned in part goes by the policy.
    store.put(A, 40..100);
    store.put(Class::NONE, 2000..2400);
    let bytes = store.usage(A).bytes;
    assert!((40 * COST..70 * COST).contains(&bytes), "{bytes}");
    store.pages.close().unwrap();
    drop(store);
    let again = open(directory.path(), 100 * COST, &index, &[pinned]);
    eventually("its records are read", || again.usage(A).bytes == bytes);
    again.put(Class::NONE, 4000..4300);
    assert!(again.usage(A).bytes >= 40 * COST, "over a restart too");
    // Without the rule it goes like the rest.
    again.pages.set_classes(&[]).unwrap();
    again.put(Class::NONE, 5000..5400);
    // In proportion to what is left of it, so a few may stay long.
    assert!(again.count(0..100) < 15);
}

#[test]
fn a_pin_does_not_hold_up_a_drain_or_a_smaller_cache() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let index = Arc::new(MemoryIndex::new());
    let pinned = ClassRule { pin_bytes: u64::MAX, ..rule(A) };
    let both = [(first.path(), 100 * COST), (second.path(), 100 * COST)];
    let store = open_many(&both, &index, &[pinned]);
    store.put(A, 0..60);
    store.pages.drain_directory(first.path()).unwrap();
    eventually("it is drained", || store.pages.usage()[0].standing == Standing::Drained);
    store.pages.close().unwrap();
    drop(store);
    let capacity = 16 * COST;
    let smaller = open(second.path(), capacity, &index, &[pinned]);
    eventually("it fits", || smaller.pages.usage()[0].resident.0 <= capacity);
    eventually("on disk too", || allocated(second.path()) <= capacity);
    // A cache full of what is pinned keeps nothing else.
    let outcomes = smaller.put(Class::NONE, 100..120);
    assert_eq!(outcomes.last(), Some(&PutOutcome::NotKept(NotKept::NoRoom)));
}

#[test]
fn lower_priorities_go_first() {
    let directory = tempdir().unwrap();
    let low = ClassRule { priority: Priority::Low, ..rule(A) };
    let high = ClassRule { priority: Priority::High, ..rule(B) };
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 90 * COST, &index, &[low, high]);
    store.put(B, 0..30);
    store.put(Class::NONE, 100..130);
    store.put(A, 200..229);
    // Also what is read most.
    for _ in 0..3 {
        store.count(200..229);
        store.put(B, 30..31);
    }
    store.put(Class::NONE, 130..150);
    assert_eq!((store.count(0..31), store.count(100..150)), (31, 50));
    assert_eq!(store.count(200..229), 90 - 31 - 50);
    store.put(B, 31..61);
    assert_eq!((store.count(0..61), store.count(200..229)), (61, 0));
    assert_eq!(store.count(100..150), 29);
    // The order changes with the rules, for what lies there too.
    let turned = [ClassRule { priority: Priority::Low, ..high }];
    store.pages.set_classes(&turned).unwrap();
    store.put(Class::NONE, 300..340);
    assert_eq!((store.count(100..150), store.count(300..340)), (29, 40));
}

#[test]
fn a_full_quota_costs_only_its_own() {
    let directory = tempdir().unwrap();
    let quota = ClassRule { quota_bytes: Some(20 * COST), ..rule(A) };
    let files = ClassRule { quota_files: Some(5), ..rule(B) };
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 100 * COST, &index, &[quota, files]);
    store.put(Class::NONE, 0..30);
    for name in 100..160 {
        assert_eq!(store.put_one(A, name), PutOutcome::Kept);
        assert_eq!(store.put_one(B, 1000 + name), PutOutcome::Kept);
        assert!(store.usage(A).bytes <= 20 * COST && store.usage(B).files <= 5);
    }
    assert_eq!(store.count(0..30), 30, "there was room for them all along");
    assert_eq!((store.count(100..160), store.count(1100..1160)), (20, 5));
    assert!(store.has(159) && store.has(1159), "the newest stay");
    // Lowered while it runs: the rest goes behind.
    let lowered = ClassRule { quota_bytes: Some(7 * COST), ..quota };
    let fewer = ClassRule { quota_files: Some(2), ..files };
    store.pages.set_classes(&[lowered, fewer]).unwrap();
    eventually("they are trimmed", || {
        store.usage(A).bytes <= 7 * COST && store.usage(B).files <= 2
    });
    // One that can't hold a page keeps nothing, and evicts nothing for that.
    store.pages.set_classes(&[ClassRule { quota_bytes: Some(COST - 1), ..quota }]).unwrap();
    let refused = PutOutcome::NotKept(NotKept::QuotaFull);
    assert_eq!(store.put_one(A, 300), refused);
    assert_eq!(store.count(0..30), 30);
    store.pages.close().unwrap();
}

/// What of the class is not read again for a while goes.
fn short_lived() -> ClassRule {
    ClassRule { ttl: Some(Duration::from_secs(100)), ..rule(A) }
}

#[test]
fn time_runs_out_from_the_first_page_on() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 8 * MIB, &index, &[short_lived()]);
    store.put(A, 0..10);
    store.put(Class::NONE, 10..20);
    store.clock.advance(Duration::from_secs(60));
    // A page that comes later is no new admission.
    let length = 2 * PAGE_SIZE;
    let page = |at| NewPage { class: A, ..new_page(100, at, length) };
    put_all(&store.pages, vec![page(0)]);
    store.clock.advance(Duration::from_secs(30));
    put_all(&store.pages, vec![page(1)]);
    assert_eq!(store.count(0..20), 20);
    store.clock.advance(Duration::from_secs(10));
    assert_eq!((store.count(0..10), store.count(10..20)), (0, 10));
    assert_eq!(store.pages.presence(content(0), LENGTH).pages, 0);
    assert_eq!(read_all(&store.pages, 100, length).good, [0, 1]);
    // Kept again, it is new; what nobody asks for is freed behind.
    store.put(A, 0..3);
    assert_eq!(store.count(0..10), 3);
    eventually("the room is given back", || store.usage(A).files == 4);
    store.pages.close().unwrap();
    let clock = store.clock;
    drop(store.pages);
    let options = Options {
        classes: vec![short_lived()],
        clock: clock.clone(),
        ..options(&[(directory.path(), 8 * MIB)])
    };
    let pages = PageStore::open(options, index, Arc::new(Metrics::new())).unwrap();
    let again = Store { pages, clock };
    assert_eq!(read_all(&again.pages, 100, length).good, [0, 1], "its age holds over a restart");
    again.clock.advance(Duration::from_secs(60));
    assert_eq!(read_all(&again.pages, 100, length).good.len(), 0);
    assert_eq!(again.count(0..3), 3);
    eventually("all is freed in time", || {
        again.clock.advance(Duration::from_secs(1));
        again.usage(A).files == 0
    });
    assert_eq!(again.count(10..20), 10);
    eventually("on disk too", || allocated(directory.path()) == 10 * PAGE_SIZE);
}

#[test]
fn a_content_changes_its_class() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let rules = [rule(A), ClassRule { pin_bytes: 20 * COST, ..rule(B) }];
    let store = open(directory.path(), 50 * COST, &index, &rules);
    store.put(A, 0..20);
    (0..20).for_each(|name| store.pages.classify(content(name), B));
    store.pages.classify(content(7777), B);
    let (a, b) = (store.usage(A), store.usage(B));
    assert_eq!((a.files, a.bytes, b.files, b.bytes), (0, 0, 20, 20 * COST));
    store.put(A, 100..300);
    assert_eq!(store.count(0..20), 20);
    // Many classes change hands while all is in use; the sums stay right.
    let random = Random::seeded(3);
    for _ in 0..600 {
        let class = [A, B, Class::NONE, Class(random.below(4))][random.below(4) as usize];
        let name = random.below(60);
        match random.below(5) {
            0 => drop(store.pages.remove(content(name)).unwrap()),
            1 => store.pages.classify(content(name), class),
            2 => {
                let rules: Vec<ClassRule> = [A, B, Class(1), Class(2)]
                    .into_iter()
                    .filter(|_| random.below(3) > 0)
                    .map(|class| ClassRule {
                        quota_bytes: (random.below(2) == 0).then_some(9 * COST),
                        pin_bytes: random.below(4) * COST,
                        ..rule(class)
                    })
                    .collect();
                store.pages.set_classes(&rules).unwrap();
            }
            _ => drop(store.put_one(class, name)),
        }
    }
    (0..600).for_each(|name| store.pages.classify(content(name), Class::NONE));
    let usage = store.pages.class_usage();
    assert!(usage.iter().all(|usage| (usage.bytes, usage.files) == (0, 0)), "{usage:?}");
    assert!(store.pages.usage()[0].resident.0 <= 50 * COST);
    store.pages.close().unwrap();
}

/// A small file, whole in a slot of its class's size.
const SMALL: u64 = 3000;
const SLOT: u64 = 3072;

fn put_small(store: &Store, class: Class, names: std::ops::Range<u64>) {
    for start in names.clone().step_by(10) {
        let page = |name| NewPage { class, ..new_page(name, 0, SMALL) };
        put_all(&store.pages, (start..names.end.min(start + 10)).map(page).collect());
    }
}

fn count_small(store: &Store, names: std::ops::Range<u64>) -> u64 {
    let has = |name| {
        let reading = read_all(&store.pages, name, SMALL);
        assert!(reading.bad.is_empty());
        u64::from(!reading.good.is_empty())
    };
    names.map(has).sum()
}

#[test]
fn small_files_have_rules_too() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let pinned = ClassRule { pin_bytes: 100 * SLOT, ..rule(A) };
    let few = ClassRule { quota_files: Some(30), ..rule(B) };
    let full = ClassRule { quota_bytes: Some(40 * SLOT), ..rule(Class(0xc)) };
    let store = open(directory.path(), 2 * MIB, &index, &[pinned, few, full]);
    put_small(&store, A, 0..100);
    put_small(&store, B, 1000..1200);
    put_small(&store, Class(0xc), 2000..2200);
    let (b, c) = (store.usage(B).files, store.usage(Class(0xc)).bytes / SLOT);
    assert!((20..=30).contains(&b) && (30..=40).contains(&c), "{b} {c}");
    assert_eq!((count_small(&store, 1000..1200), count_small(&store, 2000..2200)), (b, c));
    put_small(&store, B, 1300..1301);
    put_small(&store, Class(0xc), 2300..2301);
    assert_eq!(count_small(&store, 1300..1301) + count_small(&store, 2300..2301), 2, "newcomers");
    put_small(&store, Class::NONE, 10_000..12_000);
    assert_eq!((count_small(&store, 0..100), store.usage(A).files), (100, 100));
    assert!(count_small(&store, 10_000..12_000) > 300, "the rest is for others");
    // Others may come and go as files of their own beside them.
    store.put(Class::NONE, 20_000..20_040);
    assert_eq!(count_small(&store, 0..100), 100);
    store.pages.close().unwrap();
    drop(store);
    let again = open(directory.path(), 2 * MIB, &index, &[pinned, few]);
    assert_eq!(again.usage(A), ClassUsage { class: A, bytes: 100 * SLOT, files: 100 });
    put_small(&again, Class::NONE, 13_000..15_000);
    assert_eq!(count_small(&again, 0..100), 100, "over a restart too");
    (0..100).for_each(|name| again.pages.classify(content(name), B));
    assert_eq!((again.usage(A).files, again.usage(A).bytes), (0, 0));
    eventually("what is too much is dropped", || again.usage(B).files <= 30);
    again.pages.close().unwrap();
}

#[test]
fn small_files_expire_too() {
    let directory = tempdir().unwrap();
    let index = Arc::new(MemoryIndex::new());
    let store = open(directory.path(), 8 * MIB, &index, &[short_lived()]);
    put_small(&store, A, 0..20);
    put_small(&store, Class::NONE, 20..40);
    store.clock.advance(Duration::from_secs(60));
    assert_eq!(count_small(&store, 0..40), 40);
    store.pages.close().unwrap();
    let Store { pages, clock } = store;
    drop(pages);
    let options = Options {
        classes: vec![short_lived()],
        clock: clock.clone(),
        ..options(&[(directory.path(), 8 * MIB)])
    };
    let pages = PageStore::open(options, index, Arc::new(Metrics::new())).unwrap();
    let again = Store { pages, clock };
    again.clock.advance(Duration::from_secs(39));
    assert_eq!(count_small(&again, 0..40), 40, "its age holds over a restart");
    again.clock.advance(Duration::from_secs(1));
    assert_eq!((count_small(&again, 0..20), count_small(&again, 20..40)), (0, 20));
    put_small(&again, A, 0..3);
    assert_eq!(count_small(&again, 0..20), 3, "kept again, it is new");
    eventually("the room is given back", || again.usage(A).files == 3);
    again.pages.close().unwrap();
}
