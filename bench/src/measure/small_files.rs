// SPDX-License-Identifier: Apache-2.0
//! A tree of small files filled into a Larder by `larder load` against `cp -r` of the same tree.
//!
//! The store is the tree itself, a local directory, and all of it is in the page cache: what is
//! measured is what a file costs on its way into the cache. Each round has a Larder that has seen
//! nothing and a copy that begins empty; what the other side wrote is on its disk before. Files
//! drawn at random are read back and compared.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use larder_core::{Clock, Random};

use super::{
    data::write_random,
    plan::{Effort, Plan},
};
use crate::{
    load::connection::Connection,
    process::{
        cpu::{cpu_seconds, cpu_seconds_of_children},
        larder::{Larder, Settings},
    },
    report::row::{Bound, Row},
};

const RATE_FLOOR: f64 = 1.0;
const MOUNT: &str = "tree";
const FILES_PER_FOLDER: u64 = 500;
const LENGTH_MIN: u64 = 1 << 10;
/// Lengths are spread evenly below this much more.
const LENGTH_SPREAD: u64 = 7 << 10;
/// So many are read back.
const COMPARED: u64 = 500;

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let (count, rounds) = match plan.effort {
        Effort::Quick => (20_000, 3),
        Effort::Full => (1_000_000, 3),
    };
    let folder = plan.scratch_folder()?;
    let tree = Tree { root: folder.path().join("files"), count };
    tree.write()?;
    let row = |figure| Row { bench: "small-files", case: tree.name(), figure, ..Row::default() };
    let mut rate = Row { bound: Some(Bound::AtLeast(RATE_FLOOR)), ..row("files / s") };
    let mut cpu = row("CPU s");
    for round in 0..rounds {
        for turn in 0..2 {
            // On disk before, so that neither writes what the other left.
            rustix::fs::sync();
            let ours = (round + turn) % 2 == 0;
            let taken = match ours {
                true => fill(plan, &tree, &folder.path().join("near"))?,
                false => copy(&tree, &folder.path().join("copy"))?,
            };
            let side = |row: &mut Row, value| match ours {
                true => row.larder.push(value),
                false => row.reference.push(value),
            };
            // A million files take a while: whoever waits, or gives up, wants to see them.
            let who = if ours { "larder" } else { "cp -r" };
            eprintln!("small-files: round {round}, {who}: {:.1} s", taken.wall);
            side(&mut rate, tree.files() / taken.wall);
            side(&mut cpu, taken.cpu);
        }
    }
    Ok(vec![rate, cpu])
}

/// What one side took, in seconds.
struct Taken {
    wall: f64,
    cpu: f64,
}

fn fill(plan: &Plan, tree: &Tree, home: &Path) -> Result<Taken> {
    fs::create_dir_all(home)?;
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: home.to_path_buf(),
        mount: (MOUNT, format!("file://{}", tree.root.display())),
        store: None,
        fuse: None,
        memory_group: None,
    })?;
    let clock = Clock::system();
    let cpu = || anyhow::Ok(cpu_seconds(larder.server.pid())? + cpu_seconds_of_children()?);
    let before = cpu()?;
    let loaded = larder.load(&format!("/{MOUNT}/"))?;
    let taken = Taken { wall: clock.elapsed().as_secs_f64(), cpu: cpu()? - before };
    if loaded.files_loaded != tree.count {
        bail!("{} of {} files were loaded", loaded.files_loaded, tree.count);
    }
    tree.compare(&larder)?;
    drop(larder);
    fs::remove_dir_all(home)?;
    Ok(taken)
}

fn copy(tree: &Tree, to: &Path) -> Result<Taken> {
    let clock = Clock::system();
    let before = cpu_seconds_of_children()?;
    let copied = Command::new("cp").arg("-r").arg(&tree.root).arg(to).status()?;
    let wall = clock.elapsed().as_secs_f64();
    let cpu = cpu_seconds_of_children()? - before;
    if !copied.success() {
        bail!("cp -r failed");
    }
    fs::remove_dir_all(to)?;
    Ok(Taken { wall, cpu })
}

/// Small files of random bytes, some hundreds to a folder.
struct Tree {
    root: PathBuf,
    count: u64,
}

impl Tree {
    fn name(&self) -> String {
        let (least, most) = (LENGTH_MIN >> 10, (LENGTH_MIN + LENGTH_SPREAD) >> 10);
        format!("{} files of {least} to {most} KiB", self.count)
    }

    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer files than 2^52")]
    fn files(&self) -> f64 {
        self.count as f64
    }

    /// The path and length of a file.
    fn file(nth: u64) -> (String, u64) {
        let length = LENGTH_MIN + Random::seeded(nth).below(LENGTH_SPREAD);
        (format!("{:04}/{:03}", nth / FILES_PER_FOLDER, nth % FILES_PER_FOLDER), length)
    }

    fn write(&self) -> Result<()> {
        for nth in 0..self.count {
            let (path, length) = Self::file(nth);
            if nth % FILES_PER_FOLDER == 0 {
                fs::create_dir_all(self.root.join(format!("{:04}", nth / FILES_PER_FOLDER)))?;
            }
            write_random(&self.root.join(path), length, nth)?;
        }
        Ok(())
    }

    /// Some of the files as Larder gives them.
    fn compare(&self, larder: &Larder) -> Result<()> {
        let random = Random::new();
        let mut connection = Connection::open(larder.s3.address)?;
        for _ in 0..COMPARED {
            let (path, length) = Self::file(random.below(self.count));
            let request = larder.s3.get(&format!("/{MOUNT}/{path}"), length)?;
            let mut got = Vec::new();
            let reply = connection.exchange(&request.bytes, |part| got.extend_from_slice(part))?;
            if reply.status != 200 || got != fs::read(self.root.join(&path))? {
                bail!("{path} came back with status {} and other bytes", reply.status);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_long_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree { root: folder.path().join("files"), count: 501 };
        tree.write().unwrap();
        for nth in [0, 499, 500] {
            let (path, length) = Tree::file(nth);
            assert_eq!(fs::metadata(tree.root.join(path)).unwrap().len(), length);
            assert!((LENGTH_MIN..LENGTH_MIN + LENGTH_SPREAD).contains(&length));
        }
        assert_eq!(fs::read_dir(&tree.root).unwrap().count(), 2);
        assert_eq!(tree.name(), "501 files of 1 to 8 KiB");
    }
}
