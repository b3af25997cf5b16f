// SPDX-License-Identifier: Apache-2.0
//! A worker: it owns metadata and pages, answers what clients ask, and fetches what is missing.
//!
//! One file per kind of request (`status`, `read`, `list`, `load`, `free`, `explain`, `whole`); the
//! miss has a room of its own, and `rules` says what of the cache which files may have. The worker
//! knows no client and no face; it is reached through
//! [`larder_cluster::wire::service::Service`], which [`Worker`] implements.
//!
//! Lock order: the table of fetches, then one fetch's state; the page store and the metadata
//! store may be asked while the table is held, never the other way round.

mod advise;
mod disks;
mod explain;
mod free;
mod index;
mod list;
mod load;
mod miss;
mod mount;
mod read;
mod report;
mod rules;
mod single;
mod status;
mod whole;
mod worker;

pub use index::ResidencyIndex;
pub use mount::Store;
pub use rules::{RULES_MAX, Rule, RulePath, check_rules};
pub use worker::{Parts, Worker};
