// SPDX-License-Identifier: Apache-2.0
//! Two thousand slow readers of cold data through a Larder that may take 512 MiB, page cache
//! included: it must not be killed, must serve every reader every byte, and must go on.
//!
//! Each reader has its own range of one large object and its own connection, with a receive
//! buffer so small that what it has not read waits in Larder or not at all.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use larder_core::{ByteRange, Clock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use super::{
    data::write_random,
    plan::{Effort, Plan},
    scene::{FarStore, Front, MOUNT, NEAR},
};
use crate::{
    load::{connection::Connection, signing::Prepared},
    process::{
        larder::Larder,
        memory_group::{MemoryGroup, Taken},
    },
    report::row::{Bound, Row},
};

const LIMIT: u64 = 512 << 20;
const READERS: u64 = 2000;
/// What a reader takes from its connection at once.
const BITE: usize = 32 << 10;
/// What waits in the kernel for a reader.
const RECEIVE_BUFFER: u32 = 32 << 10;
/// All readers together take about so much a second, so that they all overlap.
const BYTES_PER_S: u64 = 100 << 20;
/// A reply's head.
const HEAD_MAX: usize = 16 << 10;
/// No reader waits longer for its next bytes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the group is looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let share: u64 = match plan.effort {
        Effort::Quick => 512 << 10,
        Effort::Full => 5 << 20,
    };
    raise_descriptors()?;
    let folder = plan.scratch_folder()?;
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files)?;
    write_random(&files.join("object"), READERS * share, 9)?;
    let store = FarStore::start(plan, folder.path(), &files)?;
    store.proxy.set_pace(&NEAR)?;
    let group = Arc::new(MemoryGroup::new(LIMIT)?);
    let memory_group = Some(group.path().to_path_buf());
    let front = Front { folder: folder.path().join("near"), fuse: None, memory_group };
    let larder = store.front(plan, front)?;
    let (stop, sampler) = sample(Arc::clone(&group));
    let clock = Clock::system();
    let served = read_slowly(&larder, &files.join("object"), share);
    let seconds = clock.elapsed().as_secs_f64();
    drop(stop);
    let most = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))??;
    let served = served?;
    goes_on(&larder)?;
    let case = format!("{READERS} slow readers, {} MiB, limit 512 MiB", (READERS * share) >> 20);
    let row = |figure, value| Row {
        bench: "memory",
        case: case.clone(),
        figure,
        larder: vec![value],
        ..Row::default()
    };
    let bounded = |row, bound| Row { bound: Some(bound), ..row };
    let rows = vec![
        bounded(row("readers served in full", count(served)), Bound::Always(count(READERS))),
        bounded(row("killed by the kernel", count(group.kills()?)), Bound::Always(0.0)),
        bounded(row("most memory of its own, MiB", mebibytes(most.own)), Bound::AtMost(512.0)),
        row("most page cache charged, MiB", mebibytes(most.cache)),
        row("most of both, MiB", mebibytes(group.peak()?)),
        row("seconds", seconds),
    ];
    // The group can go only when its process has.
    drop(larder);
    Ok(rows)
}

/// As many descriptors as there are readers, and some.
fn raise_descriptors() -> Result<()> {
    let needed = READERS + 500;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised)
            .with_context(|| format!("{READERS} readers need {needed} descriptors (ulimit -n)"))?;
    }
    Ok(())
}

/// Looks at the group until the returned sender goes; the most of each that it saw.
fn sample(group: Arc<MemoryGroup>) -> (mpsc::Sender<()>, thread::JoinHandle<Result<Taken>>) {
    let (stop, stopped) = mpsc::channel();
    let sampler = thread::spawn(move || {
        let mut most = Taken::default();
        loop {
            let taken = group.taken()?;
            most.own = most.own.max(taken.own);
            most.cache = most.cache.max(taken.cache);
            if stopped.recv_timeout(SAMPLE) == Err(RecvTimeoutError::Disconnected) {
                return Ok(most);
            }
        }
    });
    (stop, sampler)
}

/// All readers at once; how many got all their bytes. The first wrong byte ends it.
fn read_slowly(larder: &Larder, original: &Path, share: u64) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let original = Arc::new(File::open(original)?);
    let clock = Clock::system();
    let duration = Duration::from_secs((READERS * share).div_ceil(BYTES_PER_S));
    runtime.block_on(async {
        let mut readers = tokio::task::JoinSet::new();
        for number in 0..READERS {
            let range = ByteRange::new(number * share, (number + 1) * share);
            let request = larder.s3.get_range(&format!("/{MOUNT}/object"), range)?;
            let reader = Reader {
                address: larder.s3.address,
                request,
                original: Arc::clone(&original),
                range,
                duration,
                clock: clock.clone(),
            };
            readers.spawn(reader.run());
        }
        let (mut served, mut told) = (0, 0);
        while let Some(result) = readers.join_next().await {
            match result? {
                Ok(()) => served += 1,
                Err(error) if told < 5 => {
                    told += 1;
                    eprintln!("memory: a reader was not served: {error:#}");
                }
                Err(_) => {}
            }
        }
        Ok(served)
    })
}

struct Reader {
    address: std::net::SocketAddr,
    request: Prepared,
    original: Arc<File>,
    range: ByteRange,
    duration: Duration,
    clock: Clock,
}

impl Reader {
    async fn run(self) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let mut stream = socket.connect(self.address).await?;
        stream.write_all(&self.request.bytes).await?;
        let mut held = Vec::with_capacity(BITE);
        let head = loop {
            let mut bite = [0; 4096];
            let count = tokio::time::timeout(PATIENCE, stream.read(&mut bite)).await??;
            held.extend_from_slice(&bite[..count]);
            if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if count == 0 || held.len() > HEAD_MAX {
                bail!("a reply without a head");
            }
        };
        if !held.starts_with(b"HTTP/1.1 206") {
            bail!("answered by {}", String::from_utf8_lossy(&held[..held.len().min(200)]));
        }
        held.drain(..head);
        let start = self.clock.elapsed();
        let mut position = self.range.start;
        let mut expected = vec![0; BITE];
        loop {
            let expected = &mut expected[..held.len()];
            self.original.read_exact_at(expected, position)?;
            if *expected != *held {
                bail!("other bytes than the object's near {position}");
            }
            position += held.len() as u64;
            if position >= self.range.end {
                return Ok(());
            }
            self.wait_for_turn(start, position).await;
            held.resize(BITE, 0);
            let left = usize::try_from(self.range.end - position)?.min(BITE);
            let read = stream.read(&mut held[..left]);
            let count = tokio::time::timeout(PATIENCE, read)
                .await
                .with_context(|| format!("no byte within {PATIENCE:?}"))??;
            if count == 0 {
                bail!("the reply ended {} bytes early", self.range.end - position);
            }
            held.truncate(count);
        }
    }

    /// Sleeps until a reader of an even pace would be here.
    async fn wait_for_turn(&self, start: Duration, position: u64) {
        let done = count(position - self.range.start) / count(self.range.length());
        let due = start + self.duration.mul_f64(done);
        self.clock.sleep(due.saturating_sub(self.clock.elapsed())).await;
    }
}

/// It still answers.
fn goes_on(larder: &Larder) -> Result<()> {
    let range = ByteRange::new(0, 1 << 10);
    let request = larder.s3.get_range(&format!("/{MOUNT}/object"), range)?;
    let reply = Connection::open(larder.s3.address)
        .and_then(|mut connection| connection.exchange(&request.bytes, |_| {}))
        .context("Larder does not serve any more")?;
    if reply.status != 206 {
        bail!("after the slow readers Larder answers {}", reply.status);
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    count(bytes) / count(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
