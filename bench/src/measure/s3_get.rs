// SPDX-License-Identifier: Apache-2.0
//! Warm GETs by the S3 face against nginx serving the same files with sendfile.
//!
//! The same generator sends the same signed requests to both; nginx does not check them, Larder
//! does. What counts is work per CPU second of the server: wall time on loopback says more about
//! the client. One thing escapes that count: on loopback the kernel sends what waits in a socket
//! on behalf of whoever acknowledges, so part of a large reply is paid by the client. Therefore
//! the CPU seconds of both together are reported beside.
//!
//! The second part asks each size on one connection and looks at the time of one reply: a server
//! that leaves a small packet to Nagle and a delayed acknowledgement shows 40 ms.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Result, bail};

use super::{data::Set, plan::Plan};
use crate::{
    load::{
        connection::Connection,
        generator::{Load, Outcome, Until, quantile},
        signing::{Prepared, Signer},
    },
    process::{
        cpu::cpu_seconds,
        larder::{Larder, Settings},
        nginx::Nginx,
    },
    report::row::{Bound, Row},
};

/// The mount, the bucket, and the folder below nginx's root: so paths are the same on both sides.
const BUCKET: &str = "bench";
/// Connections of a load.
const CONNECTIONS: usize = 16;
/// The sizes that have a floor: more files than connections, all of them in the page cache.
const SETS: [Set; 3] = [
    Set { size: 1 << 20, count: 64 },
    Set { size: 100 << 10, count: 128 },
    Set { size: 4 << 10, count: 512 },
];
/// Each share of nginx's work per CPU second.
const FLOOR: f64 = 0.5;
/// Sizes around what fits a packet, a page, a buffer.
const REPLY_SIZES: [u64; 12] =
    [1, 100, 1000, 1448, 4096, 9000, 16 << 10, 65_535, 65_537, 256 << 10, 1 << 20, 2 << 20];
/// Replies of each size.
const REPLIES: usize = 30;
/// Far below the 40 ms of a delayed acknowledgement, far above any honest reply on loopback.
const REPLY_MS: f64 = 20.0;

/// A server under load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) pid: u32,
    pub(super) address: SocketAddr,
    pub(super) requests: &'a [Prepared],
}

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let folder = plan.scratch_folder()?;
    let root = folder.path().join("files");
    let bucket = root.join(BUCKET);
    let replies = REPLY_SIZES.map(|size| Set { size, count: 1 });
    for set in SETS.iter().chain(&replies) {
        set.write(&bucket)?;
    }
    let nginx = Nginx::start(&root, folder.path())?;
    let larder = Larder::start(&Settings {
        program: &plan.larder,
        folder: folder.path().to_path_buf(),
        mount: (BUCKET, format!("file://{}", bucket.display())),
        store: None,
        fuse: None,
        memory_group: None,
    })?;
    let mut rows = Vec::new();
    for set in SETS {
        let requests = prepare(&larder.s3, set)?;
        verify(larder.s3.address, &requests, (&bucket, set))?;
        let ours =
            Side { pid: larder.server.pid(), address: larder.s3.address, requests: &requests };
        let theirs = Side { pid: nginx.server.pid(), address: nginx.address, requests: &requests };
        rows.extend(compare(plan, ("s3-get", &set.name()), [ours, theirs])?);
    }
    for set in replies {
        rows.push(reply_time(&larder.s3, set)?);
    }
    Ok(rows)
}

/// Work per CPU second of both sides, in alternating rounds.
pub(super) fn compare(
    plan: &Plan,
    (bench, case): (&'static str, &str),
    sides: [Side<'_>; 2],
) -> Result<Vec<Row>> {
    let row = |figure| Row { bench, case: case.to_owned(), figure, ..Row::default() };
    let mut requests = Row { bound: Some(Bound::AtLeast(FLOOR)), ..row("requests / CPU s") };
    let mut gigabytes = row("GB / CPU s");
    let mut rate = row("requests / s");
    let mut together = row("requests / CPU s, with client");
    for round in 0..plan.rounds() {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (outcome, cpu, client_cpu) = one_load(plan, sides[which])?;
            let figures = [
                (&mut requests, count(outcome.requests) / cpu),
                (&mut gigabytes, count(outcome.bytes) / 1e9 / cpu),
                (&mut rate, count(outcome.requests) / outcome.wall.as_secs_f64()),
                (&mut together, count(outcome.requests) / (cpu + client_cpu)),
            ];
            for (row, value) in figures {
                if which == 0 { row.larder.push(value) } else { row.reference.push(value) }
            }
        }
    }
    Ok(vec![requests, gigabytes, together, rate])
}

/// A load, and the CPU seconds that the server and the harness spent on it.
fn one_load(plan: &Plan, side: Side<'_>) -> Result<(Outcome, f64, f64)> {
    let load = |time| Load {
        address: side.address,
        requests: side.requests,
        connections: CONNECTIONS,
        until: Until::Elapsed(time),
    };
    // The kernel takes page cache back and clocks go up and down: warm right before.
    load(plan.warm_time()).run()?;
    let (before, client_before) = (cpu_seconds(side.pid)?, cpu_seconds(std::process::id())?);
    let outcome = load(plan.load_time()).run()?;
    let cpu = cpu_seconds(side.pid)? - before;
    if cpu < 0.1 {
        bail!("the server used {cpu} CPU seconds: too little to measure, make the load longer");
    }
    Ok((outcome, cpu, cpu_seconds(std::process::id())? - client_before))
}

fn prepare(signer: &Signer, set: Set) -> Result<Vec<Prepared>> {
    set.paths().map(|path| signer.get(&format!("/{BUCKET}/{path}"), set.size)).collect()
}

/// Reads each object twice: what comes must be the file, the second time from the cache.
fn verify(address: SocketAddr, requests: &[Prepared], (bucket, set): (&Path, Set)) -> Result<()> {
    let mut connection = Connection::open(address)?;
    for _ in 0..2 {
        for (request, path) in requests.iter().zip(set.paths()) {
            let mut body = Vec::new();
            let reply =
                connection.exchange(&request.bytes, |piece| body.extend_from_slice(piece))?;
            if reply.status != 200 || body != fs::read(bucket.join(&path))? {
                bail!("wrong reply for {path}: status {}, {} bytes", reply.status, body.len());
            }
        }
    }
    Ok(())
}

/// The median time of one whole reply, on one connection, in three runs.
fn reply_time(signer: &Signer, set: Set) -> Result<Row> {
    let requests = vec![prepare(signer, set)?.remove(0); REPLIES];
    let load =
        Load { address: signer.address, requests: &requests, connections: 1, until: Until::Once };
    load.run()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(quantile(&load.run()?.total, 0.5).as_secs_f64() * 1e3);
    }
    Ok(Row {
        bench: "s3-get",
        case: format!("one reply of {}", set.name()),
        figure: "ms, median",
        larder: times,
        bound: Some(Bound::AtMost(REPLY_MS)),
        ..Row::default()
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
