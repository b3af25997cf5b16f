// SPDX-License-Identifier: Apache-2.0
//! Free: drops what is held of a file, or of all below a prefix. The store is not asked.

use std::sync::Arc;

use larder_cluster::wire::message::{FreeReply, FreeRequest};
use larder_core::{Error, Key, Path, Result};
use larder_meta::{Fact, Known};

use crate::{Worker, mount::Mount};

/// Files dropped per step, so that no step holds anything for long.
const STEP: usize = 1_000;

impl Worker {
    pub(crate) async fn answer_free(&self, request: FreeRequest) -> Result<FreeReply> {
        let mount = self.mounts.get(&request.path.mount)?;
        let worker = self.shared();
        let task = tokio::task::spawn_blocking(move || worker.free(&mount, &request));
        task.await.map_err(|error| Error::internal("free was abandoned").with_source(error))?
    }

    fn free(self: &Arc<Self>, mount: &Mount, request: &FreeRequest) -> Result<FreeReply> {
        let mut reply = FreeReply::default();
        mount.forget_listings();
        if !request.recursive {
            if let Some(known) = self.meta.status(&request.path)? {
                self.free_one(mount, &request.path, &known, &mut reply)?;
            }
            return Ok(reply);
        }
        let mut after: Option<Key> = None;
        loop {
            let prefix = request.path.key.as_str();
            let name = &request.path.mount;
            let found = self.meta.statuses(name, prefix, after.as_ref(), STEP)?;
            let Some((last, _)) = found.last() else { return Ok(reply) };
            after = Some(last.clone());
            for (key, known) in found {
                self.free_one(mount, &Path::new(name.clone(), key), &known, &mut reply)?;
            }
        }
    }

    fn free_one(
        &self,
        mount: &Mount,
        path: &Path,
        known: &Known,
        reply: &mut FreeReply,
    ) -> Result<()> {
        if let Fact::Present(status) = &known.fact {
            let content = mount.content_id(&path.key, &status.version);
            reply.bytes += self.pages.remove(content)?;
            reply.files += 1;
        }
        self.meta.remove_status(path)
    }
}
