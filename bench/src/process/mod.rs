// SPDX-License-Identifier: Apache-2.0
//! The servers that a bench starts and stops: nginx, Larder, the store proxy.
//!
//! Each lives on free ports and in a scratch directory, and is ended by its id when its value is
//! dropped, whatever happened before.

pub mod child;
pub mod cpu;
pub mod larder;
pub mod memory_group;
pub mod nginx;
pub mod store_proxy;
pub mod wait;
