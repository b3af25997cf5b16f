// SPDX-License-Identifier: Apache-2.0
//! The HTTP face: two listeners that translate and never decide.
//!
//! [`PublicFace`] answers on TCP what anybody on this network may know: health, readiness,
//! metrics and status. It never gives a byte of a file and changes nothing, so it needs no key.
//! [`ControlFace`] answers on a Unix socket in the state directory, which only its owner can
//! reach: list, stat, cat, load, free, explain, cache. File data over TCP is the S3 face's
//! business, which checks signatures.

mod control;
mod problem;
mod public;
mod readiness;
mod scrape;
mod serve;
mod status;

pub use control::{ControlFace, FreeBody, LoadBody, LoadLine, StatAnswer};
pub use problem::Problem;
pub use public::{HttpSettings, PublicFace};
pub use readiness::Readiness;
pub use status::{FaceAddress, Facts, StatusDocument};
