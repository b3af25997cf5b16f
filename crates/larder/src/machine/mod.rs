// SPDX-License-Identifier: Apache-2.0
//! What the machine allows: memory, descriptors, disk.

mod descriptors;
mod disk;
mod memory;

pub(crate) use descriptors::{DescriptorLimit, raise_descriptor_limit};
pub(crate) use disk::{Disk, default_cache_size, mounted_at};
pub(crate) use memory::{default_budget, memory_limit};
