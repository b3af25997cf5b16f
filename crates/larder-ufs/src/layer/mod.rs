// SPDX-License-Identifier: Apache-2.0
//! Layers: each wraps any under storage and adds one concern.
//!
//! A layer never changes what a call means; it passes the same conformance suite as what it
//! wraps. Each implementation carries `#[deny(clippy::missing_trait_methods)]`, so that a method
//! added to the trait can't be forgotten here.

pub mod budget;
pub mod fault;
pub mod meter;
pub mod retry;
