// SPDX-License-Identifier: Apache-2.0
//! Under storages: where data truly lives.
//!
//! One narrow trait ([`under_storage`]), an adapter for each kind of store, layers that add one
//! concern each ([`layer`]: retry, budget, meter, fault), the opening of a mount ([`mount`]), a
//! store in memory for tests ([`memory`]) and the suite that every implementation and every
//! wrapper passes ([`conformance`]). SDK types and HTTP codes stay inside; what comes out are the
//! words of `larder_core`.

pub mod conformance;
pub mod environment;
pub mod layer;
mod local;
pub mod memory;
pub mod mount;
pub mod priority;
mod s3;
pub mod under_storage;

pub use under_storage::{
    ByteStream, Condition, Content, ListEntry, ListPage, ListRequest, ListStart, PartInfo,
    ReadOutcome, UnderStorage,
};
