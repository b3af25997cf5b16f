// SPDX-License-Identifier: Apache-2.0
//! The ring's promises: golden vectors, balance, minimal movement, stable preference.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use larder_core::{Clock, FileId, MountName, Random, SegmentIndex};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use serde_json::{Value, json};

use super::{
    OWNERS_MAX, Ring, SLOT_BITS,
    key::{slot_of_directory, slot_of_segment},
};
use crate::member::{Member, Membership, WorkerId};

/// Set to write `proto/ring.json` anew; a change there moves the data of every cluster.
const UPDATE: &str = "LARDER_UPDATE_GOLDEN";

fn membership(members: impl IntoIterator<Item = (u64, u32)>) -> Membership {
    let member = |(id, weight)| Member { id: WorkerId(id), weight, address: String::new() };
    Membership { epoch: 1, members: members.into_iter().map(member).collect() }
}

fn equal(count: u64) -> Membership {
    membership((1..=count).map(|id| (id, 1)))
}

/// Slots per first owner.
fn shares(ring: &Ring) -> HashMap<WorkerId, usize> {
    let mut shares = HashMap::new();
    for owners in ring.slots() {
        *shares.entry(owners[0]).or_default() += 1;
    }
    shares
}

/// The greatest ratio of a member's slots to its fair share.
fn fullest(members: &Membership) -> f64 {
    let shares = shares(&Ring::new(members));
    let total: f64 = members.members.iter().map(|member| f64::from(member.weight)).sum();
    let ratio = |member: &Member| {
        let fair = f64::from(member.weight) / total * f64::from(1_u32 << SLOT_BITS);
        shares.get(&member.id).copied().unwrap_or(0) as f64 / fair
    };
    members.members.iter().map(ratio).fold(0.0, f64::max)
}

fn golden_memberships() -> Vec<(&'static str, Membership)> {
    let random = Random::seeded(2);
    let hundred = (0..100).map(|_| (random.next(), 1 + random.below(8_000) as u32)).collect();
    let hundred: Vec<_> = hundred;
    vec![
        ("none", membership([])),
        ("one", membership([(7, 100)])),
        ("two equal", membership([(0, 1), (u64::MAX, 1)])),
        ("three equal", equal(3)),
        ("weighted", membership([(11, 100), (12, 200), (13, 400), (14, 800)])),
        ("weights at their limits", membership([(1, 0), (2, 1), (3, 1 << 24), (4, u32::MAX)])),
        ("a hundred", membership(hundred)),
    ]
}

fn golden() -> Value {
    let names = |owners: &[WorkerId]| owners.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases = golden_memberships().into_iter().map(|(name, membership)| {
        let ring = Ring::new(&membership);
        let random = Random::seeded(3);
        let segments = (0..100_u32).map(|number| {
            let id = u128::from(random.next()) << 64 | u128::from(random.next());
            let index = if number % 2 == 0 { 0 } else { random.next() as u32 };
            let (file, segment) = (FileId(id), SegmentIndex(index));
            json!({
                "file": file.to_string(),
                "segment": index,
                "slot": slot_of_segment(file, segment),
                "owners": names(ring.owners(file, segment)),
            })
        });
        // Lengths on each side of where XXH3 changes its method.
        let long = |bytes: usize| format!("{}/", "d".repeat(bytes - 1));
        let directories =
            ["".to_owned(), "a/".to_owned(), "a//b/".to_owned(), "日本/ü?#/".to_owned()];
        let long = [9, 12, 100, 123, 124, 200, 235, 236, 500, 1_019, 1_020, 1_024].map(long);
        let directories = directories.into_iter().chain(long).map(|directory| {
            let mount = MountName::new("lake").expect("a legal name");
            json!({
                "mount": "lake",
                "directory": directory,
                "slot": slot_of_directory(&mount, &directory),
                "owners": names(ring.directory_owners(&mount, &directory)),
            })
        });
        let members = membership.members.iter();
        let members = members.map(|m| json!({ "id": m.id.to_string(), "weight": m.weight }));
        json!({
            "name": name,
            "members": members.collect::<Vec<_>>(),
            "segments": segments.collect::<Vec<_>>(),
            "directories": directories.collect::<Vec<_>>(),
        })
    });
    let cases: Vec<_> = cases.collect();
    json!({ "slot_bits": SLOT_BITS, "owners_max": OWNERS_MAX, "cases": cases })
}

#[test]
fn golden_vectors_hold() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/ring.json");
    let now = golden();
    if std::env::var_os(UPDATE).is_some() {
        // One entry a line, so that a change shows as one.
        let text = serde_json::to_string(&now).expect("plain values") + "\n";
        let text = text.replace("{\"", "\n{\"").trim_start().to_owned();
        std::fs::write(&file, text).expect("the file is writable");
    }
    let kept = std::fs::read_to_string(&file).expect("the file is there");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert!(kept == now, "the ring no longer places as {} says", file.display());
}

#[test]
fn equal_members_get_equal_shares() {
    for (count, limit) in [(1, 1.0), (2, 1.01), (3, 1.02), (10, 1.04), (100, 1.12)] {
        let fullest = fullest(&equal(count));
        assert!(fullest <= limit, "{count} members: the fullest has {fullest:.3} of its share");
    }
}

#[test]
fn weights_are_shares() {
    let members = membership([(1, 100), (2, 200), (3, 400), (4, 800), (5, 8_000)]);
    let shares = shares(&Ring::new(&members));
    for member in &members.members {
        let fair = 65_536.0 * f64::from(member.weight) / 9_500.0;
        let off = (shares[&member.id] as f64 - fair).abs();
        // Four standard deviations of the draw.
        assert!(off <= 4.0 * fair.sqrt(), "{}: {off:.0} of {fair:.0}", member.id);
    }
}

#[test]
fn no_members_own_nothing_and_twins_count_once() {
    let nobody = Ring::new(&Membership::default());
    assert!(nobody.owners(FileId(1), SegmentIndex(0)).is_empty());
    let twins = Ring::new(&membership([(5, 1), (5, 9), (6, 1)]));
    let once = Ring::new(&membership([(6, 1), (5, 1)]));
    assert!(twins.slots().eq(once.slots()), "order and repetition do not matter");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Whoever stays keeps its order: the owners without the one that goes are the same, and
    /// what is appended at the end comes from those that were not named.
    #[test]
    fn a_member_that_goes_moves_its_own_places_only(
        members in prop::collection::btree_map(any::<u64>(), 1..10_000_u32, 2..12),
        going in any::<prop::sample::Index>(),
    ) {
        let gone = WorkerId(*members.keys().nth(going.index(members.len())).expect("within"));
        let before = Ring::new(&membership(members.clone()));
        let after = Ring::new(&membership(members.into_iter().filter(|(id, _)| *id != gone.0)));
        for (had, has) in before.slots().zip(after.slots()) {
            let stayed: Vec<_> = had.iter().copied().filter(|id| *id != gone).collect();
            assert_eq!(has[..stayed.len().min(has.len())], stayed[..]);
            assert!(!has.contains(&gone));
            assert!((1..has.len()).all(|at| !has[..at].contains(&has[at])), "no one twice");
        }
    }

    /// A member that grows takes slots and gives none.
    #[test]
    fn a_member_that_grows_only_gains(
        members in prop::collection::btree_map(any::<u64>(), 1..10_000_u32, 2..8),
        growing in any::<prop::sample::Index>(),
        by in 1..10_000_u32,
    ) {
        let grown = *members.keys().nth(growing.index(members.len())).expect("within");
        let mut heavier: BTreeMap<_, _> = members.clone();
        *heavier.get_mut(&grown).expect("there") += by;
        let (before, after) = (Ring::new(&membership(members)), Ring::new(&membership(heavier)));
        for (had, has) in before.slots().zip(after.slots()) {
            assert!(has[0] == had[0] || has[0] == WorkerId(grown));
        }
    }
}

/// The figures of `docs/adr/0002-placement.md`:
/// `cargo test --release -p larder-cluster figures -- --ignored --nocapture`.
#[test]
#[ignore = "measures; run in release"]
fn figures() {
    let clock = Clock::system();
    for count in [1, 3, 10, 100, 1_000, 10_000] {
        let start = clock.elapsed();
        let ring = Ring::new(&equal(count));
        let built = (clock.elapsed() - start).as_secs_f64() * 1e3;
        let random = Random::seeded(1);
        let start = clock.elapsed();
        let hits = (0..1_000_000).filter(|number| {
            let file = FileId(u128::from(random.next()) << 64 | number);
            ring.owners(file, SegmentIndex(0))[0] == WorkerId(1)
        });
        let hits = hits.count();
        let look_up = (clock.elapsed() - start).as_nanos() / 1_000_000;
        let moved = if count > 1 {
            let fewer = Ring::new(&equal(count - 1));
            let moved = ring.slots().zip(fewer.slots()).filter(|(a, b)| a[0] != b[0]).count();
            moved as f64 / 65_536.0 * count as f64
        } else {
            0.0
        };
        println!(
            "{count} members: built in {built:.1} ms, look-up {look_up} ns, fullest {:.3}, \
             moved by one leaving {moved:.3} of its fair share, first has {hits}",
            fullest(&equal(count)),
        );
    }
}
