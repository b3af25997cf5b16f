// SPDX-License-Identifier: Apache-2.0
//! Where the list of workers and mounts comes from.
//!
//! One registry exists so far, the one of a single process. A trait comes with the second.

pub mod local;
