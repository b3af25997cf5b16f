// SPDX-License-Identifier: Apache-2.0
//! Random operations against an ordered map, with flushes and reopenings in between.

use std::collections::BTreeMap;

use larder_core::{Key, Path, UnixMillis};
use larder_meta::{Fact, Known};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use crate::{mount, open, present};

#[derive(Debug, Clone)]
enum Step {
    Put(String, u64),
    PutAbsent(String),
    Remove(String),
    PutResidency(u8, Vec<u8>),
    RemoveResidency(u8),
    List { prefix: String, after: Option<String>, limit: usize },
    Flush,
    Reopen,
}

/// Few and short keys, so that operations meet; some long ones.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[ab/]{0,3}", 1 => "[aü/]{300,500}"]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), any::<u64>()).prop_map(|(key, length)| Step::Put(key, length)),
        2 => key().prop_map(Step::PutAbsent),
        3 => key().prop_map(Step::Remove),
        2 => (0..8_u8, prop::collection::vec(any::<u8>(), 0..2_500))
            .prop_map(|(id, record)| Step::PutResidency(id, record)),
        1 => (0..8_u8).prop_map(Step::RemoveResidency),
        3 => ("[ab/]{0,2}", prop::option::of(key()), 0..6_usize)
            .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_an_ordered_map(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}

fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = open(directory.path());
    let mut statuses: BTreeMap<String, Known> = BTreeMap::new();
    let mut residency: BTreeMap<[u8; 20], Vec<u8>> = BTreeMap::new();
    let path = |key: &str| Path::new(mount("lake"), Key::new(key).expect("a legal key"));
    for step in steps {
        match step {
            Step::Put(key, length) => {
                store.put_status(&path(&key), present("v", length)).expect("kept");
                statuses.insert(key, present("v", length));
            }
            Step::PutAbsent(key) => {
                let absent = Known { fact: Fact::Absent, checked: UnixMillis(3) };
                store.put_status(&path(&key), absent.clone()).expect("kept");
                statuses.insert(key, absent);
            }
            Step::Remove(key) => {
                store.remove_status(&path(&key)).expect("forgotten");
                statuses.remove(&key);
            }
            Step::PutResidency(id, record) => {
                store.put_residency([id; 20], record.clone()).expect("kept");
                residency.insert([id; 20], record);
            }
            Step::RemoveResidency(id) => {
                store.remove_residency(&[id; 20]).expect("forgotten");
                residency.remove(&[id; 20]);
            }
            Step::List { prefix, after, limit } => {
                let after_key = after.as_deref().map(|after| Key::new(after).expect("legal"));
                let found = store.statuses(&mount("lake"), &prefix, after_key.as_ref(), limit);
                let found = found.expect("readable").into_iter();
                let found: Vec<_> = found.map(|(key, known)| (String::from(key), known)).collect();
                let expected = statuses.iter().filter(|(key, _)| key.starts_with(&prefix));
                let expected = expected.filter(|(key, _)| after.as_ref().is_none_or(|a| *key > a));
                let expected = expected.take(limit).map(|(k, v)| (k.clone(), v.clone()));
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
            Step::Flush => store.flush().expect("written"),
            Step::Reopen => {
                store.close().expect("closed");
                drop(store);
                store = open(directory.path());
                assert!(store.opened_clean());
            }
        }
    }
    for (key, known) in &statuses {
        assert_eq!(store.status(&path(key)).expect("readable").as_ref(), Some(known));
    }
    let mut visited = BTreeMap::new();
    let seen = store.for_each_residency(&mut |key, record| {
        visited.insert(key, record.to_vec());
        Ok(())
    });
    seen.expect("visited");
    assert_eq!(visited, residency);
}
