// SPDX-License-Identifier: Apache-2.0
//! A version as one local file, for clients on this machine.

use larder_cluster::wire::message::WholeRequest;
use larder_core::{ByteRange, Extent, Result, SEGMENT_SIZE};
use larder_pages::Access;

use crate::Worker;

impl Worker {
    pub(crate) fn answer_whole(&self, request: &WholeRequest) -> Result<Option<Extent>> {
        let mount = self.mounts.get(&request.path.mount)?;
        let content = mount.content_id(&request.path.key, &request.status.version);
        Ok(self.pages.whole(content, request.status.length))
    }

    /// Notes one read of each segment: what is read without asking would else look cold, and a
    /// smaller cache as good as this one (ADR 31).
    pub(crate) fn count_whole_read(&self, request: &WholeRequest) -> Result<()> {
        let mount = self.mounts.get(&request.path.mount)?;
        let content = mount.content_id(&request.path.key, &request.status.version);
        let length = request.status.length;
        let starts = (0..length).step_by(usize::try_from(SEGMENT_SIZE).unwrap_or(usize::MAX));
        for start in starts {
            let range = ByteRange::new(start, (start + SEGMENT_SIZE).min(length));
            self.advisor.read(&mount, &Access::new(content, length, range, 0));
        }
        Ok(())
    }
}
