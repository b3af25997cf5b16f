// SPDX-License-Identifier: Apache-2.0
//! What two processes must agree on: who is a worker and what is mounted (registry), who owns
//! what (ring), and what they say to each other (wire).
//!
//! The client and the worker never see each other; both see this crate. It opens no socket and
//! no file by itself; the transports and the registries that do live with their users.

pub mod member;
pub mod mounts;
pub mod registry;
pub mod ring;
pub mod wire;
