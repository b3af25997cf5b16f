// SPDX-License-Identifier: Apache-2.0
//! Reads of resident pages by one thread, through client, worker and page store, each byte
//! checked, against `pread` of the same bytes in the same backing file.
//!
//! Everything lies in the kernel's page cache, so the ratio is the price of look-up and checksum.
//! What the checksum alone costs is measured beside it: `pread` of whole pages, each summed.

use std::{fs::File, os::unix::fs::FileExt as _, time::Duration};

use anyhow::{Result, bail};
use larder_client::Handle;
use larder_core::{Clock, PAGE_SIZE, Random, crc32c};

use super::{sampling, stack::Stack};
use crate::{
    measure::{
        data::write_random,
        plan::{Effort, Plan},
    },
    report::row::{Bound, Row},
};

const SEQUENTIAL_READ: usize = 1 << 20;
const RANDOM_READ: usize = 4 << 10;
const SEQUENTIAL_FLOOR: f64 = 0.8;
const RANDOM_FLOOR: f64 = 0.8;

/// Someone who can fill a buffer from an offset.
type Reader<'a> = &'a dyn Fn(u64, &mut [u8]) -> Result<usize>;

pub(super) fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let (size, random_reads): (u64, u64) = match plan.effort {
        Effort::Quick => (256 << 20, 100_000),
        Effort::Full => (1 << 30, 1_000_000),
    };
    let folder = plan.scratch_folder()?;
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files)?;
    write_random(&files.join("file"), size, 5)?;
    let stack = Stack::start(&files, folder.path())?;
    let handle = stack.load("file")?;
    let (backing, original) = (stack.backing_file(size)?, File::open(files.join("file"))?);
    let ours = |offset: u64, into: &mut [u8]| stack.read(&handle, offset, into);
    let theirs = |offset: u64, into: &mut [u8]| Ok(backing.read_at(into, offset)?);
    let summed = |offset: u64, into: &mut [u8]| read_and_sum(&backing, offset, into);
    same(&ours, &original, size)?;
    let row =
        |case: &str, figure| Row { bench: "pages", case: case.into(), figure, ..Row::default() };
    let bounded = |row, floor| Row { bound: Some(Bound::AtLeast(floor)), ..row };
    let mut sequential = bounded(row("warm 1 MiB, verified", "MB / s"), SEQUENTIAL_FLOOR);
    let mut checksum = row("pread of 1 MiB and checksums, no store", "MB / s");
    let mut random = bounded(row("warm 4 KiB random, verified", "reads / s"), RANDOM_FLOOR);
    let mut whole = row("pread of the 64 KiB around 4 KiB and checksum", "reads / s");
    for round in 0..plan.rounds() {
        for turn in 0..4 {
            match (round + turn) % 4 {
                0 => {
                    sequential.larder.push(megabytes(size, read_all(&ours, size)?));
                    random.larder.push(per_second(random_reads, &ours, size)?);
                }
                1 => {
                    let speed = megabytes(size, read_all(&theirs, size)?);
                    sequential.reference.push(speed);
                    checksum.reference.push(speed);
                    let speed = per_second(random_reads, &theirs, size)?;
                    random.reference.push(speed);
                    whole.reference.push(speed);
                }
                2 => checksum.larder.push(megabytes(size, read_all(&summed, size)?)),
                _ => {
                    let around = |offset: u64, _: &mut [u8]| {
                        let mut page = vec![0; PAGE_SIZE as usize];
                        read_and_sum(&backing, offset - offset % PAGE_SIZE, &mut page)
                    };
                    whole.larder.push(per_second(random_reads / 4, &around, size)?);
                }
            }
        }
    }
    read_everything_once_more(&stack, &handle, &original)?;
    let notes = sampling::measure(&random.larder);
    Ok([vec![sequential, checksum, random, whole], notes].concat())
}

/// `pread` of whole pages, with the sum of each: the least that a verified read can cost.
fn read_and_sum(file: &File, offset: u64, into: &mut [u8]) -> Result<usize> {
    let count = file.read_at(into, offset)?;
    let sum = into[..count].chunks(PAGE_SIZE as usize).fold(0, |sum, page| sum ^ crc32c(page));
    std::hint::black_box(sum);
    Ok(count)
}

/// Insists that a reader shows the original's bytes.
fn same(reader: Reader<'_>, original: &File, size: u64) -> Result<()> {
    let (mut ours, mut theirs) = (vec![0; SEQUENTIAL_READ], vec![0; SEQUENTIAL_READ]);
    for offset in (0..size).step_by(SEQUENTIAL_READ) {
        original.read_exact_at(&mut theirs, offset)?;
        if reader(offset, &mut ours)? != ours.len() || ours != theirs {
            bail!("other bytes than the file's within 1 MiB of offset {offset}");
        }
    }
    Ok(())
}

/// Small reads must give the right bytes too, after all that was measured.
fn read_everything_once_more(stack: &Stack, handle: &Handle, original: &File) -> Result<()> {
    let (random, size) = (Random::seeded(3), handle.status().length);
    let (mut ours, mut theirs) = (vec![0; RANDOM_READ], vec![0; RANDOM_READ]);
    for _ in 0..10_000 {
        let offset = random.below(size - RANDOM_READ as u64);
        original.read_exact_at(&mut theirs, offset)?;
        if stack.read(handle, offset, &mut ours)? != ours.len() || ours != theirs {
            bail!("other bytes than the file's at offset {offset}");
        }
    }
    Ok(())
}

fn read_all(reader: Reader<'_>, size: u64) -> Result<Duration> {
    let clock = Clock::system();
    let mut buffer = vec![0; SEQUENTIAL_READ];
    for offset in (0..size).step_by(SEQUENTIAL_READ) {
        if reader(offset, &mut buffer)? != SEQUENTIAL_READ {
            bail!("a short read at {offset}");
        }
    }
    Ok(clock.elapsed())
}

fn per_second(reads: u64, reader: Reader<'_>, size: u64) -> Result<f64> {
    let (clock, random) = (Clock::system(), Random::seeded(42));
    let mut buffer = vec![0; RANDOM_READ];
    let blocks = size / RANDOM_READ as u64;
    for _ in 0..reads {
        let offset = random.below(blocks) * RANDOM_READ as u64;
        if reader(offset, &mut buffer)? < RANDOM_READ {
            bail!("a short read at {offset}");
        }
    }
    Ok(count(reads) / clock.elapsed().as_secs_f64())
}

fn megabytes(size: u64, time: Duration) -> f64 {
    count(size) / 1e6 / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
