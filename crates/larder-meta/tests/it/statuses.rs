// SPDX-License-Identifier: Apache-2.0
//! Statuses: the merge rule, keys as they come, order, and limits.

use std::time::Duration;

use larder_core::{Attributes, ErrorKind, Key, Path, UnixMillis};
use larder_meta::{Fact, Known, MetaStore, Options};

use crate::{mount, open, options, path, present};

fn with_attributes(mut known: Known, content_type: &str) -> Known {
    if let Fact::Present(status) = &mut known.fact {
        let content_type = Some(content_type.to_owned());
        status.attributes = Some(Box::new(Attributes { content_type, ..Attributes::default() }));
    }
    known
}

#[test]
fn a_listing_does_not_take_attributes_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let file = path("a");
    let full = with_attributes(present("v1", 3), "text/csv");
    store.put_status(&file, full.clone()).expect("kept");

    let listed = Known { checked: UnixMillis(99), ..present("v1", 3) };
    store.put_status(&file, listed).expect("kept");
    let found = store.status(&file).expect("readable");
    assert_eq!(found, Some(Known { checked: UnixMillis(99), ..full }), "newer, and still whole");

    store.flush().expect("written");
    store.put_status(&file, present("v2", 4)).expect("kept");
    assert_eq!(store.status(&file).expect("readable"), Some(present("v2", 4)), "another content");

    let absent = Known { fact: Fact::Absent, checked: UnixMillis(7) };
    store.put_status(&file, absent.clone()).expect("kept");
    assert_eq!(store.status(&file).expect("readable"), Some(absent));
    store.remove_status(&file).expect("forgotten");
    assert_eq!(store.status(&file).expect("readable"), None);
}

#[test]
fn keys_are_raw_and_come_in_byte_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let longest = "ü".repeat(512);
    let mut keys = vec![
        "",
        "/",
        "/a",
        "a",
        "a+b %25 ü?#",
        "a//b",
        "a/",
        "a/b",
        "a/\u{1}",
        "a\n",
        "..",
        "日本",
        "\u{10ffff}",
        "\u{7f}",
        longest.as_str(),
    ];
    {
        let store = open(directory.path());
        for (number, key) in keys.iter().enumerate() {
            store.put_status(&path(key), present(key, number as u64)).expect("kept");
            if number % 3 == 0 {
                store.flush().expect("written: order has to hold across disk and overlay");
            }
        }
        for (number, key) in keys.iter().enumerate() {
            let found = store.status(&path(key)).expect("readable");
            assert_eq!(found, Some(present(key, number as u64)), "{key:?}");
        }
        store.close().expect("closed");
    }
    let store = open(directory.path());
    assert!(store.opened_clean());
    keys.sort_unstable();
    for limit in [1, 2, 4, 100] {
        let mut seen: Vec<Key> = Vec::new();
        loop {
            let page = store.statuses(&mount("lake"), "", seen.last(), limit).expect("readable");
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(seen.iter().map(Key::as_str).collect::<Vec<_>>(), keys, "by {limit}");
    }
    let below: Vec<_> = store.statuses(&mount("lake"), "a/", None, 9).expect("readable");
    assert_eq!(
        below.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["a/", "a/\u{1}", "a//b", "a/b"]
    );
}

#[test]
fn mounts_do_not_see_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for name in ["lake", "lake2", "lake-x", "lak"] {
        let other = Path::new(mount(name), Key::new("k").expect("legal"));
        store.put_status(&other, present(name, 1)).expect("kept");
    }
    let found = store.statuses(&mount("lake"), "", None, 9).expect("readable");
    assert_eq!(found, [(Key::new("k").expect("legal"), present("lake", 1))]);
    assert_eq!(store.count(), 4);
}

#[test]
fn residency_records_may_be_changed_while_visited() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let key = |number: u32| {
        let mut key = [0; 20];
        key[16..].copy_from_slice(&number.to_be_bytes());
        key
    };
    for number in 0..10_000_u32 {
        store.put_residency(key(number), number.to_le_bytes().to_vec()).expect("kept");
    }
    let mut seen = 0_u32;
    let visited = store.for_each_residency(&mut |found, record| {
        assert_eq!((found, record), (key(seen), seen.to_le_bytes().as_slice()));
        seen += 1;
        store.remove_residency(&found)
    });
    visited.expect("visited");
    assert_eq!(seen, 10_000);
    store.flush().expect("written");
    assert_eq!(store.residency(&key(17)).expect("readable"), None);
    store.for_each_residency(&mut |_, _| panic!("all are gone")).expect("visited");
}

#[test]
fn many_statuses_are_quick_and_all_there() {
    const COUNT: u64 = 200_000;
    let directory = tempfile::tempdir().expect("a directory");
    let store = MetaStore::open(Options {
        flush_interval: Duration::from_secs(1),
        ..options(directory.path())
    })
    .expect("the store opens");
    let name = |number: u64| path(&format!("table/part={:04}/{number:08}.parquet", number / 1_000));
    for number in 0..COUNT {
        store.put_status(&name(number), present("v", number)).expect("kept");
    }
    store.flush().expect("written");
    assert_eq!(store.count(), COUNT);
    assert_eq!(store.dropped(), 0);
    for number in (0..COUNT).step_by(97) {
        let found = store.status(&name(number)).expect("readable");
        assert_eq!(found, Some(present("v", number)));
    }
    let part = store.statuses(&mount("lake"), "table/part=0042/", None, 5_000).expect("readable");
    assert_eq!(part.len(), 1_000);
}

#[test]
fn a_full_map_drops_puts_and_serves_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = Options { map_bytes: 1 << 20, ..options(directory.path()) };
    let store = MetaStore::open(small).expect("the store opens");
    store.put_status(&path("kept"), present("v1", 1)).expect("kept");
    store.put_status(&path("changed"), present("v1", 1)).expect("kept");
    store.flush().expect("written");

    store.put_status(&path("changed"), present("v2", 2)).expect("taken");
    for number in 0..20_000 {
        store.put_status(&path(&format!("more/{number:06}")), present("v", 1)).expect("taken");
    }
    let told = store.flush().expect_err("there is no room for these");
    assert_eq!(told.kind(), ErrorKind::Unavailable);
    assert!(store.dropped() > 0);
    assert_eq!(store.status(&path("kept")).expect("readable"), Some(present("v1", 1)));
    let changed = store.status(&path("changed")).expect("readable");
    assert_ne!(changed, Some(present("v1", 1)), "what a lost put replaces is not believed");
    store.flush().expect("told once");
}

#[test]
fn a_closed_store_takes_nothing_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    store.put_status(&path("a"), present("v", 1)).expect("kept");
    store.close().expect("closed");
    store.close().expect("closing twice is one closing");
    let refused = store.put_status(&path("b"), present("v", 1)).expect_err("closed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(store.status(&path("a")).expect("still readable"), Some(present("v", 1)));
}
