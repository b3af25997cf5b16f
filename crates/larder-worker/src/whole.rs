// SPDX-License-Identifier: Apache-2.0
//! A version as one local file, for clients on this machine.

use larder_cluster::wire::message::WholeRequest;
use larder_core::{Extent, Result};

use crate::Worker;

impl Worker {
    pub(crate) fn answer_whole(&self, request: &WholeRequest) -> Result<Option<Extent>> {
        let mount = self.mounts.get(&request.path.mount)?;
        let content = mount.content_id(&request.path.key, &request.status.version);
        Ok(self.pages.whole(content, request.status.length))
    }
}
