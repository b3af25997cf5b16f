// SPDX-License-Identifier: Apache-2.0
//! The miss: what is not resident is fetched once, streamed to all who wait, and kept behind.
//!
//! `fetch` is one request's bytes on their way in: a window that readers follow byte by byte and
//! the page store takes over page by page. `flights` knows all fetches under way, so that a reader
//! of bytes half in flight attaches instead of asking again. `drive` moves the bytes, `intake`
//! makes runs and pages of the store's chunks. `plan` says how far one request goes, by what `cost`
//! has learnt of the store, and `streams` how many at once its bandwidth needs. No reader waits for
//! disk or for the rest of a page, and the store is never read further ahead than somebody wants.

mod cost;
mod drive;
mod fetch;
mod flights;
mod intake;
mod plan;
mod streams;

pub(crate) use cost::StoreCost;
pub(crate) use drive::Source;
pub(crate) use fetch::{Attachment, Step};
pub(crate) use flights::{Flights, Gap};
pub(crate) use plan::{Joining, More, Stretch};
pub(crate) use streams::Streams;
