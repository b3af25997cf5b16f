// SPDX-License-Identifier: Apache-2.0
//! `bench`: measures Larder against a reference in the same minute and prints ratios.
//!
//! Exit code 0 when every floor holds, 1 when one is missed, 2 when something could not be run.

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use larder_bench::{
    load::signing::Keys,
    measure::{
        amplification, fuse_read, memory, miss, noise, pages, parquet,
        plan::{Effort, Plan, RealOrigin},
        s3_get, small_files, stat, store_proxy,
    },
    policy,
    process::larder::Store,
    report::{json, row::Row, table},
};

/// Measures Larder against references, both in the same minute, and prints ratios with spread.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The program to measure.
    #[arg(long, global = true, default_value = "target/release/larder")]
    larder: PathBuf,
    /// Also write the rows, each round, to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Where scratch directories are made; a disk such as Larder's cache would have.
    #[arg(long, global = true)]
    scratch: Option<PathBuf>,
    /// A minute or two (the default).
    #[arg(long, global = true, conflicts_with = "full")]
    quick: bool,
    /// More rounds, longer: for figures that are written down.
    #[arg(long, global = true)]
    full: bool,
    /// A real S3 server for `miss`, HOST:PORT; its keys from AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY. By default a second Larder serves a directory.
    #[arg(long, global = true)]
    origin: Option<SocketAddr>,
    /// The bucket there that may be written to.
    #[arg(long, global = true, default_value = "larder-bench")]
    bucket: String,
}

type Measure = fn(&Plan) -> Result<Vec<Row>>;

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum What {
    /// Warm GETs by S3 against nginx with sendfile.
    S3Get,
    /// Reads of a resident file by FUSE against the original.
    FuseRead,
    /// Cold GETs against asking the store directly.
    Miss,
    /// A tree of small files loaded against `cp -r` of it.
    SmallFiles,
    /// TPC-H by DuckDB on Parquet files, cold against direct, warm against local files.
    Parquet,
    /// What cold random and sequential reads cost at the store.
    Amplification,
    /// Slow readers by the thousand under a memory limit.
    Memory,
    /// Statuses from the metadata store.
    Stat,
    /// Reads of resident pages against `pread`, puts into a full cache against the disk.
    Pages,
    /// The store proxy: its delay, its rate, its speed.
    StoreProxy,
    /// nginx against nginx: what the harness itself adds.
    Noise,
    /// Miss ratios of the eviction policy and of published ones, on generated traces and files.
    Policy {
        /// A trace: .csv (`name,size` or `segment,page`), or oracleGeneral (.bin).
        #[arg(long)]
        trace: Vec<PathBuf>,
        /// Write the generated traces as oracleGeneral into this directory and end.
        #[arg(long)]
        export: Option<PathBuf>,
    },
    /// The sampled miss-ratio curve against the full simulator, on generated traces and files.
    Advise {
        /// A trace, as for `policy`.
        #[arg(long)]
        trace: Vec<PathBuf>,
        /// Segments in the sample at most; else as a worker samples.
        #[arg(long)]
        segments: Option<usize>,
    },
    /// All of them but `policy` and `advise`.
    All,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// In the order of `all`: what the harness itself adds first.
const BENCHES: [(What, Measure); 11] = [
    (What::Noise, noise::measure),
    (What::StoreProxy, store_proxy::measure),
    (What::Stat, stat::measure),
    (What::Pages, pages::measure),
    (What::S3Get, s3_get::measure),
    (What::FuseRead, fuse_read::measure),
    (What::Miss, miss::measure),
    (What::SmallFiles, small_files::measure),
    (What::Parquet, parquet::measure),
    (What::Amplification, amplification::measure),
    (What::Memory, memory::measure),
];

/// Runs what was asked for; whether every floor holds.
fn run(arguments: &Arguments) -> Result<bool> {
    if let What::Policy { trace, export } = &arguments.what {
        return policy::run(trace, export.as_deref(), arguments.json.as_deref());
    }
    if let What::Advise { trace, segments } = &arguments.what {
        return policy::advise(trace, *segments, arguments.json.as_deref());
    }
    let plan = plan(arguments)?;
    let mut rows = Vec::new();
    for (what, measure) in BENCHES {
        if arguments.what == what || arguments.what == What::All {
            eprintln!("measuring {what:?}");
            rows.extend(measure(&plan).with_context(|| format!("{what:?}"))?);
        }
    }
    println!("{}", table::render(&rows));
    if let Some(path) = &arguments.json {
        json::save(path, &format!("{:?}", plan.effort), &rows)?;
    }
    Ok(rows.iter().all(|row| row.holds() != Some(false)))
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let origin = arguments.origin.map(|address| {
        let keys = Keys {
            access: env::var("AWS_ACCESS_KEY_ID").context("AWS_ACCESS_KEY_ID is not set")?,
            secret: env::var("AWS_SECRET_ACCESS_KEY")
                .context("AWS_SECRET_ACCESS_KEY is not set")?,
        };
        let store = Store { address, keys };
        anyhow::Ok(RealOrigin { store, bucket: arguments.bucket.clone() })
    });
    Ok(Plan {
        effort: if arguments.full { Effort::Full } else { Effort::Quick },
        larder: arguments.larder.clone(),
        scratch: arguments.scratch.clone().unwrap_or_else(env::temp_dir),
        origin: origin.transpose()?,
    })
}
