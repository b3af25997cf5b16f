// SPDX-License-Identifier: Apache-2.0
//! One directory, as the catalogue sees it: its account, whether its disk is trusted, and whether
//! it is wanted.

use crate::{Scrubbed, quota::Quota};

/// Whether a directory is wanted, apart from whether its disk works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes pages.
    Serving,
    /// It takes none, and what lies there is being dropped.
    Draining,
    /// Nothing lies there and nothing is open there: it can be taken away.
    Drained,
}

/// One directory, as the catalogue sees it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) quota: Quota,
    pub(crate) segments: u64,
    pub(crate) small_files: u64,
    /// Why the disk is not trusted, if it is not.
    pub(crate) fault: Option<String>,
    pub(crate) standing: Standing,
    /// Its files are being compared with the records.
    pub(crate) comparing: bool,
    /// Its slabs are being read.
    pub(crate) loading: bool,
    /// How far the scrubber is.
    pub(crate) scrubbed: Scrubbed,
}

impl Lane {
    pub(crate) fn new(quota: Quota) -> Self {
        let standing = Standing::Serving;
        let scrubbed = Scrubbed::default();
        Self {
            quota,
            segments: 0,
            small_files: 0,
            fault: None,
            standing,
            comparing: false,
            loading: false,
            scrubbed,
        }
    }

    /// Claims the comparison of files with records, where it is due and nobody does it yet.
    pub(crate) fn claim_comparison(&mut self) -> bool {
        let due = !self.comparing && self.takes_pages() && self.quota.unrecorded() > 0;
        self.comparing |= due;
        due
    }

    /// Whether new pages may go there.
    pub(crate) fn takes_pages(&self) -> bool {
        self.fault.is_none() && self.standing == Standing::Serving
    }
}
