// SPDX-License-Identifier: Apache-2.0
//! The worker at its front door: real page store and metadata store, a store in memory that
//! counts what it is asked.

mod counting;
mod freshness;
mod kitchen;
mod misses;
mod reads;
mod trouble;
