// SPDX-License-Identifier: Apache-2.0
//! The store proxy itself: is its delay right, is its rate right, is it fast enough not to be
//! what other benches measure.

use anyhow::Result;

use super::{data::Set, plan::Plan};
use crate::{
    load::{
        generator::{Load, Outcome, Until, quantile},
        signing::{Keys, Prepared, Signer},
    },
    process::{cpu::cpu_seconds, nginx::Nginx, store_proxy::StoreProxy},
    proxy::control::Pace,
    report::row::{Bound, Row},
};

const SMALL: Set = Set { size: 4 << 10, count: 50 };
const LARGE: Set = Set { size: 64 << 20, count: 2 };
const DELAY_MS: f64 = 20.0;
const BYTES_PER_S: u64 = 250_000_000;
/// A thread has to wake up when the timer is due.
const DELAY_ERROR_MS: f64 = 1.5;
const RATE_ERROR_PERCENT: f64 = 3.0;
/// Well above the 250 MB/s that it is asked to imitate.
const GB_PER_CPU_S_FLOOR: f64 = 1.0;

/// Runs the bench.
pub fn measure(plan: &Plan) -> Result<Vec<Row>> {
    let folder = plan.scratch_folder()?;
    let root = folder.path().join("files");
    SMALL.write(&root)?;
    LARGE.write(&root)?;
    let nginx = Nginx::start(&root, folder.path())?;
    let proxy = StoreProxy::start(nginx.address, folder.path())?;
    let row = |case: &str, figure| Row {
        bench: "store-proxy",
        case: case.to_owned(),
        figure,
        ..Row::default()
    };
    let bounded = |row, bound| Row { bound: Some(bound), ..row };
    let mut delay = bounded(row("20 ms", "delay error, ms"), Bound::AtMost(DELAY_ERROR_MS));
    let mut rate = bounded(row("2 Gbit/s", "rate error, %"), Bound::AtMost(RATE_ERROR_PERCENT));
    let mut speed = row("64MiB", "MB / s");
    let mut cost = bounded(row("64MiB", "GB / CPU s"), Bound::AtLeast(GB_PER_CPU_S_FLOOR));
    for _ in 0..plan.rounds() {
        set_pace(&proxy, DELAY_MS, 0)?;
        let delayed = load(&proxy, SMALL)?;
        set_pace(&proxy, 0.0, 0)?;
        let at_once = load(&proxy, SMALL)?;
        let median = |outcome: &Outcome| quantile(&outcome.total, 0.5).as_secs_f64() * 1e3;
        delay.larder.push((median(&delayed) - median(&at_once) - DELAY_MS).abs());
        let before = cpu_seconds(proxy.server.pid())?;
        let outcome = load(&proxy, LARGE)?;
        let cpu = cpu_seconds(proxy.server.pid())? - before;
        speed.larder.push(bytes_per_s(&outcome) / 1e6);
        cost.larder.push(bytes_per_s(&outcome) * outcome.wall.as_secs_f64() / 1e9 / cpu.max(0.01));
        set_pace(&proxy, 0.0, BYTES_PER_S)?;
        let capped = bytes_per_s(&load(&proxy, LARGE)?) / 250e6;
        rate.larder.push((capped - 1.0).abs() * 100.0);
    }
    Ok(vec![delay, rate, speed, cost])
}

fn set_pace(proxy: &StoreProxy, delay_ms: f64, bytes_per_s: u64) -> Result<()> {
    proxy.set_pace(&Pace { delay_ms: Some(delay_ms), bytes_per_s: Some(bytes_per_s) })
}

/// Every file of the set once, on one connection, through the proxy.
fn load(proxy: &StoreProxy, set: Set) -> Result<Outcome> {
    let keys = Keys { access: "nobody".into(), secret: "nothing".into() };
    let signer = Signer { address: proxy.listen, keys };
    let requests: Result<Vec<Prepared>> =
        set.paths().map(|path| signer.get(&format!("/{path}"), set.size)).collect();
    let (address, until) = (proxy.listen, Until::Once);
    Load { address, requests: &requests?, connections: 1, until }.run()
}

#[expect(clippy::cast_precision_loss, reason = "figures of a run stay far below 2^52")]
fn bytes_per_s(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 / outcome.wall.as_secs_f64()
}
