// SPDX-License-Identifier: Apache-2.0
//! Reads of a resident file on the mount against the original file on the local disk.
//!
//! Before each round the kernel forgets its pages of the mounted file, so every byte goes through
//! Larder; the original lies in the page cache, as Larder's own backing file does. So the ratio
//! is the price of the way through the daemon, not of a disk. `O_DIRECT` leaves the kernel's pages
//! out altogether: what is left is the daemon's own way, without the kernel's second copy.

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use larder_core::{Clock, Random};
use rustix::fs::{Advice, OFlags, fadvise};

use super::{
    data::write_random,
    plan::{Effort, Plan},
};
use crate::{
    process::{
        cpu::cpu_seconds,
        larder::{Larder, Settings},
    },
    report::row::{Bound, Row},
};

const MOUNT: &str = "bench";
const SEQUENTIAL_READ: usize = 1 << 20;
const RANDOM_READ: usize = 4 << 10;
const RANDOM_READS: u64 = 20_000;
/// The share of the original's sequential speed.
const FLOOR: f64 = 0.35;

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let size: u64 = match plan.effort {
        Effort::Quick => 256 << 20,
        Effort::Full => 1 << 30,
    };
    let folder = plan.scratch_folder()?;
    let (files, mount) = (folder.path().join("files"), folder.path().join("mount"));
    std::fs::create_dir_all(&files)?;
    write_random(&files.join("file"), size, 7)?;
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: folder.path().to_path_buf(),
        mount: (MOUNT, format!("file://{}", files.display())),
        store: None,
        fuse: Some(mount.clone()),
    })?;
    let mounted = open(&mount.join(MOUNT).join("file"))?;
    let direct = open_direct(&mount.join(MOUNT).join("file"))?;
    let original = open(&files.join("file"))?;
    same(&mounted, &original, size)?;
    let row = |case: &str, figure| Row {
        bench: "fuse-read",
        case: case.to_owned(),
        figure,
        ..Row::default()
    };
    let mut sequential =
        Row { bound: Some(Bound::AtLeast(FLOOR)), ..row("sequential 1 MiB", "MB / s") };
    let mut sequential_direct = row("sequential 1 MiB, O_DIRECT", "MB / s");
    let mut random = row("random 4 KiB", "reads / s");
    let mut cost = row("sequential 1 MiB", "GB / CPU s of larder");
    for round in 0..plan.rounds() {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let file = if which == 0 { &mounted } else { &original };
            let before = cpu_seconds(larder.server.pid())?;
            if which == 0 {
                forget(file)?;
            }
            let seconds = read_all(file, size)?.as_secs_f64();
            let cpu = cpu_seconds(larder.server.pid())? - before;
            if which == 0 {
                forget(file)?;
                cost.larder.push(bytes(size) / 1e9 / cpu.max(0.01));
            }
            let unbuffered = if which == 0 { &direct } else { &original };
            let speed = bytes(size) / 1e6 / read_all(unbuffered, size)?.as_secs_f64();
            let reads = bytes(RANDOM_READS) / read_randomly(file, size)?.as_secs_f64();
            for (row, value) in [
                (&mut sequential, bytes(size) / 1e6 / seconds),
                (&mut sequential_direct, speed),
                (&mut random, reads),
            ] {
                if which == 0 { row.larder.push(value) } else { row.reference.push(value) }
            }
        }
    }
    // Open files keep the mount busy; they go before Larder does.
    drop((mounted, direct));
    drop(larder);
    Ok(vec![sequential, sequential_direct, random, cost])
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn open_direct(path: &Path) -> Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2) is an int");
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.with_context(|| format!("cannot open {} with O_DIRECT", path.display()))
}

/// Fills Larder's cache, and insists that the mount shows the original's bytes.
fn same(mounted: &File, original: &File, size: u64) -> Result<()> {
    let (mut ours, mut theirs) = (vec![0; SEQUENTIAL_READ], vec![0; SEQUENTIAL_READ]);
    let mut offset = 0;
    while offset < size {
        mounted.read_exact_at(&mut ours, offset)?;
        original.read_exact_at(&mut theirs, offset)?;
        if ours != theirs {
            bail!("the mount shows other bytes than the file within 1 MiB of offset {offset}");
        }
        offset += SEQUENTIAL_READ as u64;
    }
    Ok(())
}

/// Makes the kernel drop its pages of the mounted file; Larder keeps its own.
fn forget(file: &File) -> Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

fn read_all(file: &File, size: u64) -> Result<Duration> {
    let clock = Clock::system();
    let mut buffer = vec![0; SEQUENTIAL_READ];
    let mut offset = 0;
    while offset < size {
        file.read_exact_at(&mut buffer, offset)?;
        offset += SEQUENTIAL_READ as u64;
    }
    Ok(clock.elapsed())
}

fn read_randomly(file: &File, size: u64) -> Result<Duration> {
    let (clock, random) = (Clock::system(), Random::seeded(42));
    let mut buffer = vec![0; RANDOM_READ];
    let pages = size / RANDOM_READ as u64;
    for _ in 0..RANDOM_READS {
        file.read_exact_at(&mut buffer, random.below(pages) * RANDOM_READ as u64)?;
    }
    Ok(clock.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn bytes(value: u64) -> f64 {
    value as f64
}
