// SPDX-License-Identifier: Apache-2.0
//! How far one request to the store goes: gaps are joined over resident pages between them where
//! a second request would cost more than the bytes between. Pure; the walk feeds it.
//!
//! Only a long read is worth it. Short ones (random access, columns, samples) get exactly their
//! pages, so that what many of them fetch together is never more than what they read.

use larder_core::ByteRange;

/// A read with less than this still to give gets exactly its pages.
const LONG_READ: u64 = 1 << 20;

/// What lies next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    Gap(ByteRange),
    Resident(ByteRange),
}

/// Whether there is a reason to look at what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Wanted,
    Done,
}

/// One request in the making.
#[derive(Debug)]
pub(crate) struct Joining {
    range: ByteRange,
    gap_bytes: u64,
    /// Resident bytes between the gaps that are joined.
    bridge_bytes: u64,
    bridge_max: u64,
    /// Resident bytes behind the last gap: a bridge if another gap follows soon enough.
    pending: ByteRange,
}

impl Joining {
    /// Begins with the gap in which the reader stands. `wanted` bytes are to be given from its
    /// start on; `bridge_max` bytes cost as much as another request.
    pub(crate) fn new(first: ByteRange, wanted: u64, bridge_max: u64) -> Self {
        Self {
            range: first,
            gap_bytes: first.length(),
            bridge_bytes: 0,
            bridge_max: if wanted < LONG_READ { 0 } else { bridge_max },
            pending: ByteRange::new(first.end, first.end),
        }
    }

    /// Takes in what follows.
    pub(crate) fn add(&mut self, stretch: Stretch) -> More {
        match stretch {
            Stretch::Gap(gap) => {
                self.bridge_bytes += self.pending.length();
                self.gap_bytes += gap.length();
                self.range.end = gap.end;
                self.pending = ByteRange::new(gap.end, gap.end);
                More::Wanted
            }
            Stretch::Resident(run) => {
                self.pending.end = run.end;
                let length = self.pending.length();
                // Never more bytes that are here than bytes that are not.
                let worth_it =
                    length <= self.bridge_max && self.bridge_bytes + length <= self.gap_bytes;
                if worth_it { More::Wanted } else { More::Done }
            }
        }
    }

    /// Where the next stretch begins.
    pub(crate) fn reached(&self) -> u64 {
        self.pending.end
    }

    /// What to ask for.
    pub(crate) fn range(&self) -> ByteRange {
        self.range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Where a request over gaps and resident runs in turn, given by their lengths, ends.
    fn join(lengths: &[u64], wanted: u64, bridge_max: u64) -> u64 {
        let mut joining = Joining::new(ByteRange::new(0, lengths[0]), wanted, bridge_max);
        for (at, length) in lengths.iter().enumerate().skip(1) {
            let range = ByteRange::new(joining.reached(), joining.reached() + length);
            let gap = at % 2 == 0;
            let stretch = if gap { Stretch::Gap(range) } else { Stretch::Resident(range) };
            if joining.add(stretch) == More::Done {
                break;
            }
        }
        joining.range().end
    }

    #[test]
    fn a_bridge_is_crossed_where_a_request_costs_more() {
        assert_eq!(join(&[100, 100, 100], MIB, 100), 300);
        assert_eq!(join(&[100, 100, 100], MIB, 99), 100, "the bytes cost more");
        assert_eq!(join(&[100, 100, 100], MIB - 1, 100), 100, "a short read");
        assert_eq!(join(&[100, 100], MIB, 100), 100, "nothing behind it");
        assert_eq!(join(&[100, 101, 100], MIB, 200), 100, "more is here than is not");
        assert_eq!(join(&[100, 100, 100, 50, 10, 90, 5], MIB, 200), 360);
    }
}
