// SPDX-License-Identifier: Apache-2.0
//! What a cold read costs at the store: bytes fetched for each byte asked and requests for each
//! read, for random reads of 64 KiB by S3 and on the mount; and what cold sequential reading
//! takes against one direct GET of the same object.
//!
//! The store proxy counts. No read touches a page that an earlier one touched, so every read is
//! cold and nothing is fetched for a second reader; each answer is compared with the file.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use larder_core::{ByteRange, Clock, PAGE_SIZE, Random};

use super::{
    data::write_random,
    plan::{Effort, Plan},
    scene::{BUCKET, FAR, FarStore, Front, MOUNT},
};
use crate::{
    load::{connection::Connection, signing::Signer},
    process::larder::Larder,
    report::row::{Bound, Row},
};

const ALIGNED_CEILING: f64 = 1.05;
const READ: u64 = 64 << 10;
/// A read starts in the first page of a run of this many, and stays within it.
const RUN: u64 = 4 * PAGE_SIZE;
/// What a program asks of the mount at once when it reads a file from start to end.
const SEQUENTIAL_READ: usize = 1 << 20;

/// Where reads start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Aligned,
    Anywhere,
}

/// By which face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    S3,
    Mount,
}

const CASES: [(Face, Start, &str); 4] = [
    (Face::S3, Start::Aligned, "random 64 KiB by S3"),
    (Face::S3, Start::Anywhere, "random 64 KiB by S3, unaligned"),
    (Face::Mount, Start::Aligned, "random 64 KiB on the mount"),
    (Face::Mount, Start::Anywhere, "random 64 KiB on the mount, unaligned"),
];

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let (reads, sequential_size): (u64, u64) = match plan.effort {
        Effort::Quick => (200, 64 << 20),
        Effort::Full => (2000, 256 << 20),
    };
    let rounds = plan.rounds().min(5);
    let folder = plan.scratch_folder()?;
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files)?;
    let random_size = reads * rounds as u64 * RUN;
    for number in 0..CASES.len() {
        write_random(&files.join(format!("random-{number}")), random_size, number as u64)?;
    }
    let objects = 2 * rounds as u64;
    for number in 0..objects {
        let path = files.join(format!("sequential-{number}"));
        write_random(&path, sequential_size, 100 + number)?;
    }
    let store = FarStore::start(plan, folder.path(), &files)?;
    let mount = folder.path().join("mount");
    let (home, fuse) = (folder.path().join("near"), Some(mount.clone()));
    let front = Front { folder: home, fuse, memory_group: None };
    let larder = store.front(plan, front)?;
    let scene = Scene { larder, store, files, mount: mount.join(MOUNT) };
    let mut rows = Vec::new();
    for (number, case) in CASES.into_iter().enumerate() {
        rows.extend(scene.random(number, case, (rounds, reads))?);
    }
    scene.store.proxy.set_pace(&FAR)?;
    rows.push(scene.sequential(Face::S3, (0, rounds), sequential_size)?);
    rows.push(scene.sequential(Face::Mount, (rounds, rounds), sequential_size)?);
    Ok(rows)
}

struct Scene {
    /// Ends before the store that it asks.
    larder: Larder,
    store: FarStore,
    files: PathBuf,
    mount: PathBuf,
}

impl Scene {
    fn random(
        &self,
        number: usize,
        (face, start, case): (Face, Start, &str),
        (rounds, reads): (usize, u64),
    ) -> Result<Vec<Row>> {
        let row =
            |figure| Row { bench: "amplification", case: case.into(), figure, ..Row::default() };
        // A read that is not aligned lies in two pages.
        let ceiling = match start {
            Start::Aligned => ALIGNED_CEILING,
            Start::Anywhere => 2.0 * ALIGNED_CEILING,
        };
        let mut bytes = Row { bound: Some(Bound::AtMost(ceiling)), ..row("store bytes / byte") };
        let mut requests =
            Row { bound: Some(Bound::AtMost(ALIGNED_CEILING)), ..row("store requests / read") };
        let name = format!("random-{number}");
        let mut asked = Asked::new(self, face, &name)?;
        let mut runs = shuffled(rounds as u64 * reads, number as u64);
        let random = Random::seeded(number as u64);
        for _ in 0..rounds {
            self.store.proxy.reset()?;
            for run in runs.drain(..usize::try_from(reads)?) {
                let within = match start {
                    Start::Aligned => 0,
                    Start::Anywhere => 1 + random.below(PAGE_SIZE - 1),
                };
                let offset = run * RUN + within;
                asked.read(ByteRange::new(offset, offset + READ))?;
            }
            let passed = self.store.proxy.passed()?;
            bytes.larder.push(count(passed.reply_bytes) / count(reads * READ));
            requests.larder.push(count(passed.requests) / count(reads));
        }
        Ok(vec![bytes, requests])
    }

    /// Each object once: directly, and cold through Larder.
    fn sequential(&self, face: Face, (first, rounds): (usize, usize), size: u64) -> Result<Row> {
        let by = if face == Face::S3 { "by S3" } else { "on the mount" };
        let mut row = Row {
            bench: "amplification",
            case: format!("cold sequential {} MiB {by}", size >> 20),
            figure: "seconds, Larder : one direct GET",
            ..Row::default()
        };
        for round in 0..rounds {
            let name = format!("sequential-{}", first + round);
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    let took = match face {
                        Face::S3 => get(&self.larder.s3, &format!("/{MOUNT}/{name}"), size)?,
                        Face::Mount => read_through(&self.mount.join(&name), size)?,
                    };
                    row.larder.push(took.as_secs_f64());
                } else {
                    let took = get(&self.store.direct, &format!("/{BUCKET}/{name}"), size)?;
                    row.reference.push(took.as_secs_f64());
                }
            }
        }
        Ok(row)
    }
}

/// The numbers below `count` in an order that is no order.
fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let random = Random::seeded(seed);
    let mut numbers: Vec<u64> = (0..count).collect();
    for at in (1..numbers.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).expect("below a length");
        numbers.swap(at, other);
    }
    numbers
}

/// One way to ask for ranges of a file, each answer compared.
struct Asked<'a> {
    original: File,
    signer: &'a Signer,
    path: String,
    way: Way,
}

enum Way {
    S3(Connection),
    Mount(File),
}

impl<'a> Asked<'a> {
    fn new(scene: &'a Scene, face: Face, name: &str) -> Result<Self> {
        let way = match face {
            Face::S3 => Way::S3(Connection::open(scene.larder.s3.address)?),
            Face::Mount => Way::Mount(open(&scene.mount.join(name))?),
        };
        let original = open(&scene.files.join(name))?;
        Ok(Self { original, signer: &scene.larder.s3, path: format!("/{MOUNT}/{name}"), way })
    }

    fn read(&mut self, range: ByteRange) -> Result<()> {
        let mut expected = vec![0; usize::try_from(range.length())?];
        self.original.read_exact_at(&mut expected, range.start)?;
        let mut got = Vec::with_capacity(expected.len());
        match &mut self.way {
            Way::S3(connection) => {
                let request = self.signer.get_range(&self.path, range)?;
                let reply =
                    connection.exchange(&request.bytes, |piece| got.extend_from_slice(piece))?;
                if reply.status != 206 {
                    bail!("a range of {} was answered by {}", self.path, reply.status);
                }
            }
            Way::Mount(file) => {
                got.resize(expected.len(), 0);
                file.read_exact_at(&mut got, range.start)?;
            }
        }
        if got != expected {
            bail!("other bytes than the file's in {range} of {}", self.path);
        }
        Ok(())
    }
}

fn get(signer: &Signer, path: &str, size: u64) -> Result<Duration> {
    let request = signer.get(path, size)?;
    let reply = Connection::open(signer.address)?.exchange(&request.bytes, |_| {})?;
    if reply.status != 200 || reply.length != size {
        bail!("{path} was answered by {} and {} bytes", reply.status, reply.length);
    }
    Ok(reply.total)
}

fn read_through(path: &Path, size: u64) -> Result<Duration> {
    let clock = Clock::system();
    let file = open(path)?;
    let mut buffer = vec![0; SEQUENTIAL_READ];
    for offset in (0..size).step_by(SEQUENTIAL_READ) {
        file.read_exact_at(&mut buffer, offset)?;
    }
    Ok(clock.elapsed())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn every_run_is_read_once_and_not_in_order() {
        let mut numbers = shuffled(1000, 1);
        assert!(numbers.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count() < 20);
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..1000));
    }
}
