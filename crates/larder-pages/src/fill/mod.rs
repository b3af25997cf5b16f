// SPDX-License-Identifier: Apache-2.0
//! How pages come in: a bounded queue that never makes its caller wait, and threads that make
//! room, write, and record.

mod place;
mod queue;
mod small;
mod write;

pub(crate) use queue::{Batch, Done, Job, Queue, Queued, Waiting};
pub(crate) use write::run;
