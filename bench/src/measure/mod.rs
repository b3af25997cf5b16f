// SPDX-License-Identifier: Apache-2.0
//! The benches, one file each. Each starts what it needs and measures a thing and its reference
//! in the same minute, round by round, each side in turn first.

pub mod amplification;
pub mod data;
pub mod fuse_read;
pub mod memory;
pub mod miss;
pub mod noise;
pub mod pages;
pub mod parquet;
pub mod plan;
pub mod s3_get;
pub mod scene;
pub mod small_files;
pub mod stat;
pub mod store_proxy;
