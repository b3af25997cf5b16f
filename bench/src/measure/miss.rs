// SPDX-License-Identifier: Apache-2.0
//! Cold GETs through Larder against the same client asking the store itself.
//!
//! The store is an S3 server behind the store proxy, which keeps it 20 ms and 2 Gbit/s away (and
//! then not at all, where the CPU is the limit: that part is only reported). Both ways go by the
//! same proxy. Each object is asked for once through Larder, so it is cold; asking the store does
//! not warm Larder, so both sides read the same objects. The proxy's count says how many requests
//! a cold GET cost.
//!
//! On loopback a second reference is a bare proxy: nginx that passes the same requests on to the
//! store and keeps nothing. Its CPU seconds for each gigabyte stand beside ours.

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
        cpu::cpu_seconds,
        larder::{Larder, Settings, Store},
        nginx::Nginx,
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
/// What is aimed at where the store is far away. One stream has all of the bandwidth there, 250
/// MB/s, and that is above what is split (ADR 28): a sequential reader gets one request, as from
/// the store.
const SEQUENTIAL_GOAL: f64 = 1.0;
const THROUGHPUT_GOAL: f64 = 0.95;
const FIRST_BYTE_GOAL: f64 = 1.05;
/// What is aimed at where the CPU is the limit, of a bare proxy.
const PROXY_GOAL: f64 = 0.8;
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
    nginx: Nginx,
    through_nginx: Signer,
}

/// Whom the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Larder,
    Store,
    BareProxy,
}

impl Scene {
    /// Where requests go, with which bucket, and whose CPU time they cost; the store's is no
    /// process of interest.
    fn way(&self, way: Way) -> (&Signer, &str, Option<u32>) {
        match way {
            Way::Larder => (&self.larder.s3, MOUNT, Some(self.larder.server.pid())),
            Way::Store => (&self.direct, &self.bucket, None),
            Way::BareProxy => (&self.through_nginx, &self.bucket, Some(self.nginx.server.pid())),
        }
    }

    /// Asks for all objects once.
    fn ask(&self, way: Way, case: Case, objects: &[String]) -> Result<Asked> {
        let (signer, bucket, pid) = self.way(way);
        let requests: Result<Vec<Prepared>> = objects
            .iter()
            .map(|path| signer.get(&format!("/{bucket}/{path}"), case.size))
            .collect();
        let requests = requests?;
        let cpu = || pid.map_or(Ok(0.0), cpu_seconds);
        self.proxy.reset()?;
        let before = cpu()?;
        let load = Load {
            address: signer.address,
            requests: &requests,
            connections: case.connections,
            until: Until::Once,
        };
        let outcome = load.run()?;
        let bytes = count(outcome.bytes);
        Ok(Asked {
            requests: outcome.requests,
            bytes,
            megabytes_per_s: bytes / 1e6 / outcome.wall.as_secs_f64(),
            first_byte_ms: quantile(&outcome.first_byte, 0.5).as_secs_f64() * 1e3,
            cpu_per_gigabyte: (cpu()? - before) / (bytes / 1e9),
        })
    }
}

/// What came of asking.
struct Asked {
    requests: u64,
    bytes: f64,
    megabytes_per_s: f64,
    first_byte_ms: f64,
    cpu_per_gigabyte: f64,
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
    let home = folder.join("bare");
    fs::create_dir_all(&home)?;
    let nginx = Nginx::passing_on(proxy.listen, &home)?;
    let through_nginx = Signer { address: nginx.address, keys: origin.store.keys.clone() };
    let bucket = origin.bucket.clone();
    Ok(Scene { proxy, direct, bucket, larder, nginx, through_nginx })
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
    let mut of_proxy =
        Row { goal: Some(Bound::AtLeast(PROXY_GOAL)), ..row("MB / s, of a bare proxy", None) };
    let mut cpu = row("CPU s / GB, of a bare proxy", None);
    let ways: &[Way] = match distance.bounded {
        true => &[Way::Larder, Way::Store],
        false => &[Way::Larder, Way::Store, Way::BareProxy],
    };
    for round in 0..rounds {
        let objects: Vec<String> = cold.drain(..case.objects).collect();
        for turn in 0..ways.len() {
            let way = ways[(round + turn) % ways.len()];
            let asked = scene.ask(way, case, &objects).context(name.clone())?;
            match way {
                Way::Larder => {
                    let passed = scene.proxy.passed()?;
                    if passed.requests != asked.requests {
                        tell_surplus(&scene.proxy, passed.requests, &name)?;
                    }
                    requests.larder.push(count(passed.requests) / count(asked.requests));
                    amplification.larder.push(count(passed.reply_bytes) / asked.bytes);
                    first_byte.larder.push(asked.first_byte_ms);
                    throughput.larder.push(asked.megabytes_per_s);
                    of_proxy.larder.push(asked.megabytes_per_s);
                    cpu.larder.push(asked.cpu_per_gigabyte);
                }
                Way::Store => {
                    first_byte.reference.push(asked.first_byte_ms);
                    throughput.reference.push(asked.megabytes_per_s);
                }
                Way::BareProxy => {
                    of_proxy.reference.push(asked.megabytes_per_s);
                    cpu.reference.push(asked.cpu_per_gigabyte);
                }
            }
        }
    }
    let mut rows = vec![first_byte, throughput, requests, amplification];
    if !distance.bounded {
        rows.extend([of_proxy, cpu]);
    }
    Ok(rows)
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
