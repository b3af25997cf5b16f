// SPDX-License-Identifier: Apache-2.0
//! The worker at its front door: real page store and metadata store, a store in memory that
//! counts what it is asked.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod advice;
mod counting;
mod freshness;
mod kitchen;
mod misses;
mod priority;
mod reads;
mod rules;
mod streams;
mod trouble;
