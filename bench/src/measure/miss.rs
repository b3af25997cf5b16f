// SPDX-License-Identifier: Apache-2.0
//! Cold GETs through Larder against the same client asking the store itself.
//!
//! The store is an S3 server behind the store proxy, which keeps it 20 ms and 2 Gbit/s away (and
//! then not at all, where the CPU is the limit: that part is only reported). Both ways go by the
//! same proxy. Each object is asked for once through Larder, so it is cold; asking the store does
//! not warm Larder, so both sides read the same objects. The proxy's count says how many requests
//! a cold GET cost.

use std::{collections::VecDeque, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{
    data::Set,
    plan::{Effort, Plan},
};
use crate::{
    load::{
        connection::Connection,
        generator::{Load, Until, quantile},
        signing::{Prepared, Signer},
    },
    process::{
        larder::{Larder, Settings, Store},
        store_proxy::StoreProxy,
    },
    proxy::control::Pace,
    report::row::{Bound, Row},
};

/// The bucket of the default origin.
const BUCKET: &str = "bench";
/// The mount through which the measured Larder shows it.
const MOUNT: &str = "far";
/// Requests shown when there were too many.
const SURPLUS_SHOWN: u64 = 20;
const THROUGHPUT_FLOOR: f64 = 0.9;
const FIRST_BYTE_CEILING: f64 = 1.2;
/// What is aimed at where the store is far away: one sequential reader gets parallel ranges.
const SEQUENTIAL_GOAL: f64 = 1.0;
const THROUGHPUT_GOAL: f64 = 0.95;
const FIRST_BYTE_GOAL: f64 = 1.05;
/// A reader of less than this is no sequential one.
const SEQUENTIAL_MIN: u64 = 16 << 20;

/// One way of asking, many objects in each round.
#[derive(Debug, Clone, Copy)]
struct Case {
    size: u64,
    connections: usize,
    /// Objects in each round.
    objects: usize,
}

const CASES: [Case; 3] = [
    Case { size: 64 << 20, connections: 1, objects: 3 },
    Case { size: 1 << 20, connections: 1, objects: 16 },
    Case { size: 1 << 20, connections: 8, objects: 64 },
];

/// How far away the store is.
#[derive(Debug, Clone, Copy)]
struct Distance {
    name: &'static str,
    delay_ms: f64,
    bytes_per_s: u64,
    /// On bare loopback a ratio is reported and nothing more.
    bounded: bool,
}

const DISTANCES: [Distance; 2] = [
    Distance { name: "20 ms, 2 Gbit/s", delay_ms: 20.0, bytes_per_s: 250_000_000, bounded: true },
    Distance { name: "loopback", delay_ms: 0.0, bytes_per_s: 0, bounded: false },
];

/// Whoever answers for the store: kept alive as long as it is asked.
struct Origin {
    store: Store,
    bucket: String,
    _larder: Option<Larder>,
}

/// Everything that a case needs.
struct Scene {
    proxy: StoreProxy,
    direct: Signer,
    bucket: String,
    larder: Larder,
}

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let folder = plan.scratch_folder()?;
    let rounds = match plan.effort {
        Effort::Quick => 3,
        Effort::Full => 5,
    };
    let sets =
        CASES.map(|case| Set { size: case.size, count: rounds * DISTANCES.len() * case.objects });
    let files = folder.path().join("files");
    let origin = start_origin(plan, folder.path(), &files, &sets)?;
    let scene = start_scene(plan, folder.path(), &origin)?;
    let mut rows = Vec::new();
    for (number, (case, set)) in CASES.into_iter().zip(sets).enumerate() {
        // Two cases of one size must not share objects: the second would find them warm.
        let paths: Vec<String> = set.paths().map(|path| format!("case{number}/{path}")).collect();
        let mut cold: VecDeque<String> = paths.into();
        for distance in DISTANCES {
            rows.extend(one_case(&scene, (case, distance), &mut cold, rounds)?);
        }
    }
    Ok(rows)
}

fn start_origin(plan: &Plan, folder: &Path, files: &Path, sets: &[Set]) -> Result<Origin> {
    for (number, set) in sets.iter().enumerate() {
        set.write(&files.join(format!("case{number}")))?;
    }
    if let Some(real) = &plan.origin {
        let origin =
            Origin { store: real.store.clone(), bucket: real.bucket.clone(), _larder: None };
        upload(&origin, files, sets)?;
        return Ok(origin);
    }
    let home = folder.join("origin");
    fs::create_dir_all(&home)?;
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: home,
        mount: (BUCKET, format!("file://{}", files.display())),
        store: None,
        fuse: None,
        memory_group: None,
    })?;
    let store = Store { address: larder.s3.address, keys: larder.s3.keys.clone() };
    let origin = Origin { store, bucket: BUCKET.into(), _larder: Some(larder) };
    warm(&origin, sets)?;
    Ok(origin)
}

/// The origin answers from its own cache afterwards: it must not be what is measured.
fn warm(origin: &Origin, sets: &[Set]) -> Result<()> {
    let signer = Signer { address: origin.store.address, keys: origin.store.keys.clone() };
    for (number, set) in sets.iter().enumerate() {
        let requests: Result<Vec<Prepared>> = set
            .paths()
            .map(|path| signer.get(&format!("/{}/case{number}/{path}", origin.bucket), set.size))
            .collect();
        let requests = requests?;
        let (address, until) = (origin.store.address, Until::Once);
        Load { address, requests: &requests, connections: 2, until }.run()?;
    }
    Ok(())
}

fn upload(origin: &Origin, files: &Path, sets: &[Set]) -> Result<()> {
    let signer = Signer { address: origin.store.address, keys: origin.store.keys.clone() };
    let mut connection = Connection::open(signer.address)?;
    let bucket = signer.put(&format!("/{}", origin.bucket), &[])?;
    let made = connection.exchange(&bucket.bytes, |_| {})?;
    if !matches!(made.status, 200 | 409) {
        bail!("the origin did not make the bucket {}: {}", origin.bucket, made.status);
    }
    for (number, set) in sets.iter().enumerate() {
        for path in set.paths().map(|path| format!("case{number}/{path}")) {
            let body = fs::read(files.join(&path))?;
            let request = signer.put(&format!("/{}/{path}", origin.bucket), &body)?;
            let reply = connection.exchange(&request.bytes, |_| {})?;
            if reply.status != 200 {
                bail!("the origin did not take {path}: {}", reply.status);
            }
        }
    }
    Ok(())
}

fn start_scene(plan: &Plan, folder: &Path, origin: &Origin) -> Result<Scene> {
    let proxy = StoreProxy::start(origin.store.address, folder)?;
    let home = folder.join("near");
    fs::create_dir_all(&home)?;
    let store = Store { address: proxy.listen, keys: origin.store.keys.clone() };
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: home,
        mount: (MOUNT, format!("s3://{}", origin.bucket)),
        store: Some(store),
        fuse: None,
        memory_group: None,
    })?;
    let direct = Signer { address: proxy.listen, keys: origin.store.keys.clone() };
    Ok(Scene { proxy, direct, bucket: origin.bucket.clone(), larder })
}

fn one_case(
    scene: &Scene,
    (case, distance): (Case, Distance),
    cold: &mut VecDeque<String>,
    rounds: usize,
) -> Result<Vec<Row>> {
    scene.proxy.set_pace(&Pace {
        delay_ms: Some(distance.delay_ms),
        bytes_per_s: Some(distance.bytes_per_s),
    })?;
    let size = Set { size: case.size, count: 0 }.name();
    let name = format!("{size} x {}, {}", case.connections, distance.name);
    let bound = |bound| distance.bounded.then_some(bound);
    let row =
        |figure, bound| Row { bench: "miss", case: name.clone(), figure, bound, ..Row::default() };
    let goal = if case.size < SEQUENTIAL_MIN { THROUGHPUT_GOAL } else { SEQUENTIAL_GOAL };
    let mut first_byte = Row {
        goal: bound(Bound::AtMost(FIRST_BYTE_GOAL)),
        ..row("ms to first byte", bound(Bound::AtMost(FIRST_BYTE_CEILING)))
    };
    let mut throughput = Row {
        goal: bound(Bound::AtLeast(goal)),
        ..row("MB / s", bound(Bound::AtLeast(THROUGHPUT_FLOOR)))
    };
    let mut requests = row("store requests / cold GET", Some(Bound::Always(1.0)));
    let mut amplification = row("store bytes / byte", None);
    for round in 0..rounds {
        let objects: Vec<String> = cold.drain(..case.objects).collect();
        for turn in 0..2 {
            let ours = (round + turn) % 2 == 0;
            let (signer, bucket) = match ours {
                true => (&scene.larder.s3, MOUNT),
                false => (&scene.direct, scene.bucket.as_str()),
            };
            let asked: Result<Vec<Prepared>> = objects
                .iter()
                .map(|path| signer.get(&format!("/{bucket}/{path}"), case.size))
                .collect();
            let (asked, address) = (asked?, signer.address);
            scene.proxy.reset()?;
            let load = Load {
                address,
                requests: &asked,
                connections: case.connections,
                until: Until::Once,
            };
            let outcome = load.run().context(name.clone())?;
            let rate = count(outcome.bytes) / 1e6 / outcome.wall.as_secs_f64();
            let first = quantile(&outcome.first_byte, 0.5).as_secs_f64() * 1e3;
            if ours {
                let passed = scene.proxy.passed()?;
                if passed.requests != outcome.requests {
                    tell_surplus(&scene.proxy, passed.requests, &name)?;
                }
                requests.larder.push(count(passed.requests) / count(outcome.requests));
                amplification.larder.push(count(passed.reply_bytes) / count(outcome.bytes));
                first_byte.larder.push(first);
                throughput.larder.push(rate);
            } else {
                first_byte.reference.push(first);
                throughput.reference.push(rate);
            }
        }
    }
    Ok(vec![first_byte, throughput, requests, amplification])
}

/// A cold GET that cost more than one request: whoever looks for the reason wants to see them.
fn tell_surplus(proxy: &StoreProxy, requests: u64, case: &str) -> Result<()> {
    let shown = requests.min(SURPLUS_SHOWN);
    eprintln!("miss, {case}: {requests} requests, the last {shown}:");
    eprintln!("{}", proxy.last_requests(usize::try_from(shown)?)?);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
