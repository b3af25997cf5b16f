// SPDX-License-Identifier: Apache-2.0
//! The suite that every under storage and every wrapper passes.
//!
//! It writes below one prefix of its own, looks only at the front door, and takes away what it
//! wrote. What a store by nature can't do is said in [`Capabilities`]; everything else is the
//! contract. The first broken promise ends it with a sentence that names call, key and finding.

mod listing;
mod reading;
mod suite;
mod writing;

pub use suite::{Capabilities, Keys, run};
