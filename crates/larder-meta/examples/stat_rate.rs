// SPDX-License-Identifier: Apache-2.0
//! How many statuses a second one thread reads, decodes, puts and lists: the figure behind the
//! floor of 100,000 a second and core. Also per second of CPU time, which a busy machine does not
//! change. `cargo run --release -p larder-meta --example stat_rate
//! [COUNT] [DIRECTORY]`; the directory is left behind when it is named.

use std::path::PathBuf;

use larder_core::{
    Attributes, Clock, Key, MountName, Path, Random, Result, Status, UnixMillis, Version,
};
use larder_meta::{Fact, Known, MetaStore, Options};

const READS: u64 = 1_000_000;
const FILES_PER_DIRECTORY: u64 = 1_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let scratch = tempfile::tempdir().map_err(|error| {
        larder_core::Error::unavailable("no scratch directory").with_source(error)
    })?;
    let directory = arguments.next().map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let store = MetaStore::open(Options::new(directory))?;
    let clock = Clock::system();
    let mount = MountName::new("lake")?;
    let path = |number| Ok(Path::new(mount.clone(), Key::new(&name(number))?));

    report(&clock, "put and flush", count, || {
        for number in 0..count {
            store.put_status(&path(number)?, known(number))?;
        }
        store.flush()
    })?;
    let random = Random::seeded(7);
    let picked: Vec<Path> = (0..READS).map(|_| path(random.below(count))).collect::<Result<_>>()?;
    report(&clock, "stat, random", READS, || {
        picked.iter().try_for_each(|path| {
            store.status(path).map(|known| assert!(known.is_some(), "all were put"))
        })
    })?;
    report(&clock, "stat, random, while something waits to be written", READS, || {
        picked.iter().enumerate().try_for_each(|(number, path)| {
            if number % 100 == 0 {
                store.put_status(path, known(1))?;
            }
            store.status(path).map(|known| assert!(known.is_some(), "all were put"))
        })
    })?;
    report(&clock, "listed, by 1,000", count, || {
        let mut after: Option<Key> = None;
        loop {
            let page = store.statuses(&mount, "", after.as_ref(), 1_000)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
        }
    })?;
    store.close()
}

fn name(number: u64) -> String {
    let directory = number / FILES_PER_DIRECTORY;
    format!("warehouse/table/part={directory:06}/part-{number:010}.snappy.parquet")
}

fn known(number: u64) -> Known {
    let attributes = Attributes {
        content_type: Some("application/octet-stream".to_owned()),
        ..Attributes::default()
    };
    let fact = Fact::Present(Status {
        length: number,
        version: Version::new(format!("{number:032x}")),
        modified: UnixMillis(number),
        attributes: Some(Box::new(attributes)),
    });
    Known { fact, checked: UnixMillis(number) }
}

fn report(clock: &Clock, what: &str, count: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (start, cpu_start) = (clock.elapsed(), cpu_seconds());
    work()?;
    let seconds = (clock.elapsed() - start).as_secs_f64();
    let (rate, cpu) = (count as f64 / seconds, count as f64 / (cpu_seconds() - cpu_start));
    println!("{what}: {rate:.0} per second, {cpu:.0} per second of this thread's CPU");
    Ok(())
}

/// CPU time of this thread; not a number where the kernel does not tell.
fn cpu_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e9
}
