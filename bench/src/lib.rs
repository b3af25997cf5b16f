// SPDX-License-Identifier: Apache-2.0
//! What Larder is measured and tested with.
//!
//! The store proxy stands between Larder and an under storage: it counts, delays and breaks
//! requests, so that a test never has to believe Larder's own metrics.

pub mod proxy;
pub mod quantity;
