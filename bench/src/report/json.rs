// SPDX-License-Identifier: Apache-2.0
//! The same rows for machines, with what the machine was.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context, Result};
use larder_core::Clock;
use serde::Serialize;
use serde_json::{Value, json};

use super::row::{Row, Spread};

/// Writes `rows` to `path`.
pub fn save(path: &Path, effort: &str, rows: &[Row]) -> Result<()> {
    let rows: Result<Vec<Value>> = rows.iter().map(describe).collect();
    let report = json!({
        "unix_ms": Clock::system().now(),
        "effort": effort,
        "machine": machine(),
        "rows": rows?,
    });
    fs::write(path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn describe(row: &Row) -> Result<Value> {
    let mut value = serde_json::to_value(row)?;
    let spreads: [(&str, Vec<f64>); 3] = [
        ("larder_spread", row.larder.clone()),
        ("reference_spread", row.reference.clone()),
        ("ratio", row.ratios()),
    ];
    for (name, values) in spreads {
        value[name] = serde_json::to_value(Spread::of(&values))?;
    }
    value["holds"] = serde_json::to_value(row.holds())?;
    Ok(value)
}

/// What figures depend on. Nothing that names the machine or its owner.
#[derive(Serialize)]
struct Machine {
    kernel: String,
    cpus: usize,
    cpu_model: Option<String>,
    nginx: Option<String>,
}

fn machine() -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let version = Command::new("/usr/sbin/nginx").arg("-v").output().ok();
    Machine {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpus: thread::available_parallelism().map_or(1, usize::from),
        cpu_model: model.map(|model| model.trim_start_matches([' ', '\t', ':']).to_owned()),
        nginx: version.map(|out| String::from_utf8_lossy(&out.stderr).trim().to_owned()),
    }
}
