// SPDX-License-Identifier: Apache-2.0
//! What Larder is measured and tested with.
//!
//! `proxy` stands between Larder and an under storage: it counts, delays and breaks requests, so
//! that a test never has to believe Larder's own metrics. `measure` holds one file per bench;
//! each starts its servers by `process`, loads them by `load`, and gives rows to `report`. `policy`
//! replays traces through the page store's eviction policy and through published ones.

pub mod load;
pub mod measure;
pub mod policy;
pub mod process;
pub mod proxy;
pub mod quantity;
pub mod report;
