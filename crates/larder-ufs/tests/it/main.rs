// SPDX-License-Identifier: Apache-2.0
//! The room against its front door.

mod budget;
mod hostile;
mod layers;
mod local;
mod server;
mod stores;
