// SPDX-License-Identifier: Apache-2.0
//! The eviction policy on traces, beside published ones: miss ratios, no disk, no clock.
//!
//! `generate` and `format` give traces, `reference` holds the published policies, `larder` drives
//! the page store's own policy, `compare` replays each trace at several cache sizes.

mod compare;
pub mod format;
pub mod generate;
mod larder;
pub mod reference;
pub mod trace;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use trace::Trace;

/// Replays the generated traces, or those of `files`, and prints the table; or only writes the
/// generated traces to `export`. Whether nothing failed: there is no floor, the table is read.
pub fn run(files: &[PathBuf], export: Option<&Path>, json: Option<&Path>) -> Result<bool> {
    if let Some(directory) = export {
        fs::create_dir_all(directory)?;
        for trace in generate::all() {
            format::write(directory, &trace)?;
        }
        return Ok(true);
    }
    let traces: Vec<Trace> = match files {
        [] => generate::all(),
        files => files.iter().map(|file| format::read(file)).collect::<Result<_>>()?,
    };
    let mut results = Vec::new();
    for trace in &traces {
        eprintln!("replaying {}", trace.name);
        results.extend(compare::sizes(trace));
    }
    println!("{}", compare::table(&results));
    if let Some(path) = json {
        fs::write(path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(true)
}
