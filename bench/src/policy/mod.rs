// SPDX-License-Identifier: Apache-2.0
//! The eviction policy on traces, beside published ones: miss ratios, no disk, no clock.
//!
//! `generate` and `format` give traces, `reference` holds the published policies, `larder` drives
//! the page store's own policy, `compare` replays each trace at several cache sizes.

mod advise;
mod compare;
pub mod format;
pub mod generate;
mod larder;
pub mod reference;
pub mod tpch;
pub mod trace;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

use trace::Trace;

/// The sampled curve may differ from the full simulator by so many percentage points.
const POINTS_MAX: f64 = 3.0;

/// Replays the generated traces, or those of `files`, and prints the table; or only writes the
/// generated traces to `export`. Whether nothing failed: there is no floor, the table is read.
pub fn run(files: &[PathBuf], export: Option<&Path>, json: Option<&Path>) -> Result<bool> {
    if let Some(directory) = export {
        fs::create_dir_all(directory)?;
        for trace in traces(&[])? {
            format::write(directory, &trace)?;
        }
        return Ok(true);
    }
    let traces = traces(files)?;
    let mut results = Vec::new();
    for trace in &traces {
        eprintln!("replaying {}", trace.name);
        results.extend(compare::sizes(trace));
    }
    println!("{}", compare::table(&results));
    save(json, &results)?;
    Ok(true)
}

/// The curve that `larder advise` samples against the full simulator, on the same traces. Whether
/// they are within `POINTS_MAX` of each other on each.
pub fn advise(files: &[PathBuf], segments: Option<usize>, json: Option<&Path>) -> Result<bool> {
    let mut results = Vec::new();
    let mut traces = traces(files)?;
    if files.is_empty() {
        traces.extend(generate::large());
    }
    for trace in &traces {
        eprintln!("replaying {}", trace.name);
        results.extend(advise::sizes(trace, segments));
    }
    println!("{}", advise::table(&results));
    save(json, &results)?;
    Ok(results.iter().all(|result| result.points <= POINTS_MAX))
}

fn traces(files: &[PathBuf]) -> Result<Vec<Trace>> {
    match files {
        [] => {
            let mut traces = generate::all();
            traces.push(tpch::trace()?);
            Ok(traces)
        }
        files => files.iter().map(|file| format::read(file)).collect(),
    }
}

fn save(json: Option<&Path>, results: &impl Serialize) -> Result<()> {
    let Some(path) = json else { return Ok(()) };
    fs::write(path, serde_json::to_vec_pretty(results)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
