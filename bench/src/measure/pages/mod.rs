// SPDX-License-Identifier: Apache-2.0
//! The page store, warm and full: reads of resident pages against `pread` of the same bytes, puts
//! into a full cache against the disk's own write rate.

mod put;
mod read;
mod sampling;
mod stack;

use anyhow::Result;

use super::plan::Plan;
use crate::report::row::Row;

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = read::measure(plan)?;
    rows.extend(put::measure(plan)?);
    Ok(rows)
}
