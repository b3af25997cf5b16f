// SPDX-License-Identifier: Apache-2.0
//! The control API: what `larder ls`, `cat`, `load` … ask of the running process, over a Unix
//! socket that only the owner of the state directory can reach.

mod routes;
mod socket;

pub use routes::{FreeBody, LoadBody, LoadLine, StatAnswer};
pub use socket::ControlFace;
