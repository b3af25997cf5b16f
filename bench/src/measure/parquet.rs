// SPDX-License-Identifier: Apache-2.0
//! TPC-H by DuckDB on Parquet files: through Larder against DuckDB's own way to the store, and
//! warm against local files.
//!
//! The store is a second Larder behind the store proxy, which keeps it 20 ms and 2 Gbit/s away and
//! counts; what DuckDB asks of it going direct is the reference for requests and bytes. Each round
//! has a Larder that has seen nothing. All 22 queries run in one process of DuckDB, whose own
//! cache of remote files is off, and all ways must give the same answers.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    plan::{Effort, Plan},
    scene::{BUCKET, FAR, FarStore, Front, MOUNT},
};
use crate::{
    load::signing::Signer,
    process::store_proxy::Passed,
    report::row::{Bound, Row},
};

/// The Python with DuckDB and its extensions, as `./check` and `./up` make it.
const PYTHON: &str = ".tools/clients/bin/python";
const SCRIPT: &str = "bench/parquet/tpch.py";

const BYTES_CEILING: f64 = 1.10;
const REQUESTS_CEILING: f64 = 1.00;
const COLD_CEILING: f64 = 1.05;
const WARM_CEILING: f64 = 1.3;

/// What a run of the queries took, and what it answered.
#[derive(Debug, Deserialize)]
struct Answer {
    seconds: f64,
    digest: String,
}

/// The figures of one scale.
struct Rows {
    bytes: Row,
    requests: Row,
    cold: Row,
    warm: Row,
    warm_requests: Row,
}

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let scales: &[(u32, usize)] = match plan.effort {
        Effort::Quick => &[(1, 1)],
        Effort::Full => &[(1, 3), (10, 1)],
    };
    if !Path::new(PYTHON).is_file() {
        bail!("there is no {PYTHON}; run ./check --only tools or ./up --once, which make it");
    }
    let mut rows = Vec::new();
    for (scale, rounds) in scales {
        rows.extend(one_scale(plan, *scale, *rounds)?);
    }
    Ok(rows)
}

fn one_scale(plan: &Plan, scale: u32, rounds: usize) -> Result<Vec<Row>> {
    let folder = plan.scratch_folder()?;
    let files = folder.path().join("files");
    fs::create_dir_all(&files)?;
    let text = scale.to_string();
    python(&["make", &text, path(&files)?], None)?;
    let store = FarStore::start(plan, folder.path(), &files)?;
    let direct = Way::S3(BUCKET, &store.direct);
    let expected = queries(direct, &files)?.digest;
    store.proxy.set_pace(&FAR)?;
    let ask = |way: Way<'_>| -> Result<(f64, Passed)> {
        store.proxy.reset()?;
        let answer = queries(way, &files)?;
        if answer.digest != expected {
            bail!("sf{scale}: the queries gave other answers than before");
        }
        Ok((answer.seconds, store.proxy.passed()?))
    };
    let mut rows = Rows::new(&format!("sf{scale}"));
    for round in 0..rounds {
        let home = folder.path().join(format!("near{round}"));
        let larder = store.front(plan, Front { folder: home.clone(), ..Front::default() })?;
        let through = Way::S3(MOUNT, &larder.s3);
        if round % 2 == 0 {
            rows.direct(ask(direct)?);
            rows.through(ask(through)?);
        } else {
            rows.through(ask(through)?);
            rows.direct(ask(direct)?);
        }
        rows.warm(ask(through)?, ask(Way::Local)?.0);
        drop(larder);
        fs::remove_dir_all(home)?;
    }
    Ok(rows.into())
}

impl Rows {
    fn new(case: &str) -> Self {
        let row = |figure, bound| Row {
            bench: "parquet",
            case: case.to_owned(),
            figure,
            bound,
            ..Row::default()
        };
        let at_most = |ceiling| Some(Bound::AtMost(ceiling));
        Self {
            bytes: row("MB from the store, cold", at_most(BYTES_CEILING)),
            requests: row("requests to the store, cold", at_most(REQUESTS_CEILING)),
            cold: row("s, cold (reference: direct)", at_most(COLD_CEILING)),
            warm: row("s, warm (reference: local files)", at_most(WARM_CEILING)),
            // None but revalidations, where the rounds take longer than a status is fresh.
            warm_requests: row("requests to the store, warm", None),
        }
    }

    fn direct(&mut self, (seconds, passed): (f64, Passed)) {
        self.cold.reference.push(seconds);
        self.bytes.reference.push(count(passed.reply_bytes) / 1e6);
        self.requests.reference.push(count(passed.requests));
    }

    fn through(&mut self, (seconds, passed): (f64, Passed)) {
        self.cold.larder.push(seconds);
        self.bytes.larder.push(count(passed.reply_bytes) / 1e6);
        self.requests.larder.push(count(passed.requests));
    }

    fn warm(&mut self, (seconds, passed): (f64, Passed), local: f64) {
        self.warm.larder.push(seconds);
        self.warm.reference.push(local);
        self.warm_requests.larder.push(count(passed.requests));
    }
}

impl From<Rows> for Vec<Row> {
    fn from(rows: Rows) -> Self {
        vec![rows.bytes, rows.requests, rows.cold, rows.warm, rows.warm_requests]
    }
}

/// Where the tables are read.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    /// In this bucket of this server.
    S3(&'a str, &'a Signer),
    /// The files themselves.
    Local,
}

/// All queries.
fn queries(way: Way<'_>, files: &Path) -> Result<Answer> {
    let (place, signer) = match way {
        Way::S3(bucket, signer) => (format!("s3://{bucket}"), Some(signer)),
        Way::Local => (path(files)?.to_owned(), None),
    };
    let line = python(&["run", &place], signer)?;
    serde_json::from_str(&line).with_context(|| format!("DuckDB said {line:?}"))
}

fn python(arguments: &[&str], signer: Option<&Signer>) -> Result<String> {
    let mut command = Command::new(PathBuf::from(PYTHON));
    command.arg(SCRIPT).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    if let Some(signer) = signer {
        command
            .env("BENCH_S3", signer.address.to_string())
            .env("AWS_ACCESS_KEY_ID", &signer.keys.access)
            .env("AWS_SECRET_ACCESS_KEY", &signer.keys.secret);
    }
    let done = command.output().with_context(|| format!("{PYTHON} could not be run"))?;
    if !done.status.success() {
        bail!("{SCRIPT} {} failed", arguments.join(" "));
    }
    Ok(String::from_utf8(done.stdout)?)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the scratch directory's name is not UTF-8")
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
