// SPDX-License-Identifier: Apache-2.0
//! The metadata store of one worker: what it knows about files, and which pages it holds.
//!
//! An embedded, memory-mapped B-tree (LMDB) in one local directory. Statuses lie in the order of
//! (mount, raw key), so that neighbours share pages and a prefix is one range scan; residency
//! records are opaque bytes of the page store. Nothing here asks an under storage, judges a
//! listing or knows a page; it is a cache of knowledge, and losing it costs speed only.

mod database;
mod directory;
mod environment;
mod fact;
mod freshness;
mod key;
mod overlay;
mod record;
mod store;
mod writer;

pub use fact::{Fact, Known};
pub use freshness::{Verdict, judge};
pub use store::{MetaStore, Options, Visit};
