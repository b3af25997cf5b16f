// SPDX-License-Identifier: Apache-2.0
//! Reads of a resident file on the mount against the original file on the local disk.
//!
//! Two ways lead to the bytes. A file that lies whole in the cache is read by the kernel itself
//! (FUSE passthrough); the bench insists that it is, by Larder's own count of such opens. A file
//! opened while it was cold is read through the daemon for as long as it is open; before each
//! round the kernel forgets its pages of it, so every byte goes through Larder. `O_DIRECT` leaves
//! the kernel's pages out altogether: what is left is the daemon's own way, without the kernel's
//! second copy. On both sides the bytes lie in the page cache, so no ratio is that of a disk.

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
        wait::wait_for,
    },
    report::row::{Bound, Row},
};

const MOUNT: &str = "bench";
const SEQUENTIAL_READ: usize = 1 << 20;
const RANDOM_READ: usize = 4 << 10;
const RANDOM_READS: u64 = 20_000;
/// The share of the original's sequential speed.
const FLOOR: f64 = 0.35;
/// Larder's count of files that the kernel reads by itself.
const PASSTHROUGH: &str =
    "larder_face_requests_total{face=\"fuse\",operation=\"passthrough\",code=\"ok\"}";
/// How long a file is opened anew until the kernel may read it: the check of a long file runs
/// behind an open, and a later one profits.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(20);

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
    write_random(&files.join("other"), size, 8)?;
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: folder.path().to_path_buf(),
        mount: (MOUNT, format!("file://{}", files.display())),
        store: None,
        fuse: Some(mount.clone()),
        memory_group: None,
    })?;
    let mounted = mount.join(MOUNT);
    let original = open(&files.join("file"))?;
    warm(&open(&mounted.join("file"))?, &original, size)?;
    let ours = Ours {
        whole: open_whole(&larder, &mounted.join("file"))?,
        daemon: open(&mounted.join("other"))?,
        direct: open_direct(&mounted.join("other"))?,
    };
    warm(&ours.daemon, &open(&files.join("other"))?, size)?;
    let mut rows = Rows::new();
    for round in 0..plan.rounds() {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                rows.measure_ours(&ours, larder.server.pid(), size)?;
            } else {
                rows.measure_original(&original, size)?;
            }
        }
    }
    // Open files keep the mount busy; they go before Larder does.
    drop(ours);
    drop(larder);
    Ok(rows.into())
}

/// The mounted files.
struct Ours {
    /// Read by the kernel itself.
    whole: File,
    /// Read through the daemon, with the kernel's pages between.
    daemon: File,
    /// The same without the kernel's pages.
    direct: File,
}

/// The figures.
struct Rows {
    whole: Row,
    whole_random: Row,
    daemon: Row,
    direct: Row,
    daemon_random: Row,
    cost: Row,
}

impl Rows {
    fn new() -> Self {
        let row = |case: &str, figure| Row {
            bench: "fuse-read",
            case: case.to_owned(),
            figure,
            ..Row::default()
        };
        let floor = Some(Bound::AtLeast(FLOOR));
        Self {
            whole: Row { bound: floor, ..row("sequential 1 MiB", "MB / s") },
            whole_random: row("random 4 KiB", "reads / s"),
            daemon: row("sequential 1 MiB, by the daemon", "MB / s"),
            direct: row("the same with O_DIRECT", "MB / s"),
            daemon_random: row("random 4 KiB, by the daemon", "reads / s"),
            cost: row("sequential 1 MiB, by the daemon", "GB / CPU s of larder"),
        }
    }

    fn measure_ours(&mut self, ours: &Ours, pid: u32, size: u64) -> Result<()> {
        self.whole.larder.push(speed(&ours.whole, size)?);
        self.whole_random.larder.push(rate(&ours.whole, size)?);
        forget(&ours.daemon)?;
        let before = cpu_seconds(pid)?;
        self.daemon.larder.push(speed(&ours.daemon, size)?);
        let cpu = cpu_seconds(pid)? - before;
        self.cost.larder.push(bytes(size) / 1e9 / cpu.max(0.01));
        forget(&ours.daemon)?;
        self.direct.larder.push(speed(&ours.direct, size)?);
        self.daemon_random.larder.push(rate(&ours.daemon, size)?);
        Ok(())
    }

    fn measure_original(&mut self, original: &File, size: u64) -> Result<()> {
        for row in [&mut self.whole, &mut self.daemon, &mut self.direct] {
            row.reference.push(speed(original, size)?);
        }
        for row in [&mut self.whole_random, &mut self.daemon_random] {
            row.reference.push(rate(original, size)?);
        }
        Ok(())
    }
}

impl From<Rows> for Vec<Row> {
    fn from(rows: Rows) -> Self {
        let Rows { whole, whole_random, daemon, direct, daemon_random, cost } = rows;
        vec![whole, whole_random, daemon, direct, daemon_random, cost]
    }
}

/// Opens a file that lies whole in the cache until the kernel reads it by itself.
fn open_whole(larder: &Larder, path: &Path) -> Result<File> {
    let opens = || anyhow::Ok(larder.metric(PASSTHROUGH)?.unwrap_or(0.0));
    let before = opens()?;
    let opened = wait_for("passthrough of a whole file", OPEN_WAIT_MAX, || {
        let file = open(path)?;
        Ok((opens()? > before).then_some(file))
    });
    opened.context("`larder doctor` says what it lacks; it takes Linux 6.9 and CAP_SYS_ADMIN")
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn open_direct(path: &Path) -> Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2) is an int");
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.with_context(|| format!("cannot open {} with O_DIRECT", path.display()))
}

/// Fills Larder's cache: the second time brings what the disk was too slow for the first time.
fn warm(mounted: &File, original: &File, size: u64) -> Result<()> {
    for _ in 0..2 {
        same(mounted, original, size)?;
        forget(mounted)?;
    }
    Ok(())
}

/// Insists that the mount shows the original's bytes.
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

fn speed(file: &File, size: u64) -> Result<f64> {
    Ok(bytes(size) / 1e6 / read_all(file, size)?.as_secs_f64())
}

fn rate(file: &File, size: u64) -> Result<f64> {
    Ok(bytes(RANDOM_READS) / read_randomly(file, size)?.as_secs_f64())
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
