// SPDX-License-Identifier: Apache-2.0
//! nginx against nginx: what the harness itself adds. A ratio off 1 is the error of this machine
//! today, and what other benches show below that distance from their floor proves nothing.

use anyhow::Result;

use super::{
    data::Set,
    plan::Plan,
    s3_get::{Side, compare},
};
use crate::{
    load::signing::{Keys, Signer},
    process::nginx::Nginx,
    report::row::{Bound, Row},
};

const SETS: [Set; 2] = [Set { size: 1 << 20, count: 64 }, Set { size: 4 << 10, count: 512 }];

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let (one, other) = (plan.scratch_folder()?, plan.scratch_folder()?);
    let root = one.path().join("files");
    for set in SETS {
        set.write(&root)?;
    }
    let ours = Nginx::start(&root, one.path())?;
    let theirs = Nginx::start(&root, other.path())?;
    let keys = Keys { access: "nobody".into(), secret: "nothing".into() };
    let signer = Signer { address: ours.address, keys };
    let mut rows = Vec::new();
    for set in SETS {
        let requests: Result<Vec<_>> =
            set.paths().map(|path| signer.get(&format!("/{path}"), set.size)).collect();
        let requests = requests?;
        let sides = [&ours, &theirs].map(|nginx| Side {
            pid: nginx.server.pid(),
            address: nginx.address,
            requests: &requests,
        });
        rows.extend(compare(plan, ("noise", &set.name()), sides)?);
    }
    for row in &mut rows {
        row.bound = row.bound.map(|_| Bound::AtLeast(0.9));
    }
    Ok(rows)
}
