// SPDX-License-Identifier: Apache-2.0
//! Statuses per second from the metadata store, asked directly by one thread.
//!
//! The first store is small and stays in the page cache; this is the price of a look-up, not of
//! a disk. The second figure is the price of keeping a status, until all of them are on disk.

use anyhow::{Result, bail};
use larder_core::{Attributes, Clock, Key, MountName, Path, Random, Status, UnixMillis, Version};
use larder_meta::{Fact, Known, MetaStore, Options};

use super::plan::{Effort, Plan};
use crate::report::row::{Bound, Row};

/// Statuses per second and core.
const FLOOR: f64 = 100_000.0;
/// Files in each directory of the name space that is made.
const DIRECTORY: u64 = 1000;
/// Look-ups in each round.
const LOOK_UPS: u64 = 300_000;

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let files: u64 = match plan.effort {
        Effort::Quick => 100_000,
        Effort::Full => 1_000_000,
    };
    let clock = Clock::system();
    let folder = plan.scratch_folder()?;
    let row =
        |figure| Row { bench: "stat", case: format!("{files} files"), figure, ..Row::default() };
    let mut puts = row("puts / s");
    let mut stats = Row { bound: Some(Bound::AtLeast(FLOOR)), ..row("stats / s, one thread") };
    let paths: Result<Vec<Path>> = (0..files).map(path).collect();
    let paths = paths?;
    let store = MetaStore::open(Options::new(folder.path().join("meta")))?;
    let start = clock.elapsed();
    for (number, path) in (0..).zip(&paths) {
        store.put_status(path, known(number))?;
    }
    store.flush()?;
    puts.larder.push(count(files) / (clock.elapsed() - start).as_secs_f64());
    let random = Random::seeded(11);
    for _ in 0..plan.rounds() {
        let start = clock.elapsed();
        for _ in 0..LOOK_UPS {
            let number = random.below(files);
            let found = store.status(&paths[usize::try_from(number)?])?;
            let length = found.and_then(|known| match known.fact {
                Fact::Present(status) => Some(status.length),
                Fact::Absent => None,
            });
            if length != Some(number) {
                bail!("file {number} has status {length:?} in the metadata store");
            }
        }
        stats.larder.push(count(LOOK_UPS) / (clock.elapsed() - start).as_secs_f64());
    }
    store.close()?;
    Ok(vec![stats, puts])
}

fn path(number: u64) -> Result<Path> {
    let (directory, name) = (number / DIRECTORY, number % DIRECTORY);
    let key = format!("warehouse/events/day={directory:04}/part-{name:05}.parquet");
    Ok(Path::new(MountName::new("bench")?, Key::new(&key)?))
}

/// A status as S3 gives it, with a header or two.
fn known(number: u64) -> Known {
    let attributes = Attributes {
        content_type: Some("application/octet-stream".into()),
        ..Attributes::default()
    };
    let status = Status {
        length: number,
        version: Version::new(format!("{number:032x}")),
        modified: UnixMillis(1_700_000_000_000 + number),
        attributes: Some(Box::new(attributes)),
    };
    Known { fact: Fact::Present(status), checked: UnixMillis(1_700_000_000_000) }
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
