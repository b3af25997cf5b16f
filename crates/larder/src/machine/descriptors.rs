// SPDX-License-Identifier: Apache-2.0
//! The limit of open descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits of open descriptors of this process; `u64::MAX` stands for none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DescriptorLimit {
    /// What holds now.
    pub(crate) soft: u64,
    /// How far it may be raised.
    pub(crate) hard: u64,
}

impl DescriptorLimit {
    /// The limits of this process.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        Self { soft: number(limit.current), hard: number(limit.maximum) }
    }
}

/// Raises the limit as far as it goes; what holds then.
pub(crate) fn raise_descriptor_limit() -> DescriptorLimit {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it can't be raised the old limit holds, and the doctor says so.
    let _ = setrlimit(Resource::Nofile, raised);
    DescriptorLimit::of_process()
}
