// SPDX-License-Identifier: Apache-2.0
//! The catalogue's account: what is taken of each directory, and the gauge of all of it.

use crate::{catalogue::Catalogue, evict::LaneIndex};

impl Catalogue {
    /// Counts bytes that lie on disk already.
    pub(crate) fn count(&mut self, directory: LaneIndex, bytes: u64) {
        self.lane(directory).quota.count(bytes);
        self.metrics.pages_resident_bytes.inc_by(bytes.cast_signed());
    }

    /// Takes bytes before they are written, if the directory has room.
    pub(crate) fn try_take(&mut self, directory: LaneIndex, bytes: u64) -> bool {
        let taken = self.lane(directory).quota.try_take(bytes);
        if taken {
            self.metrics.pages_resident_bytes.inc_by(bytes.cast_signed());
        }
        taken
    }

    /// Gives back bytes that are gone from the disk, or were never written.
    pub(crate) fn give_back(&mut self, directory: LaneIndex, bytes: u64) {
        self.lane(directory).quota.give_back(bytes);
        self.metrics.pages_resident_bytes.dec_by(bytes.cast_signed());
    }

    /// Bytes of removed contents that readers still hold.
    pub(crate) fn leaving_bytes(&self, directory: LaneIndex) -> u64 {
        let here = self.leaving.values().filter(|leaving| leaving.directory == directory);
        here.map(|leaving| leaving.bytes).sum()
    }
}
