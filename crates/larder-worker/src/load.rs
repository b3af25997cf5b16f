// SPDX-License-Identifier: Apache-2.0
//! Load: makes one file resident by walking over it; what is there already is not read.

use larder_cluster::wire::message::{LoadReply, LoadRequest};
use larder_core::{ByteRange, Result, Span};
use larder_ufs::priority::Class;

use crate::{Worker, rules::Treatment, status::Wish};

impl Worker {
    pub(crate) async fn answer_load(&self, request: LoadRequest) -> Result<LoadReply> {
        let mount = self.mounts.get(&request.path.mount)?;
        if self.rules.now().treatment(&request.path) == Treatment::Pass {
            let wish = Wish { attributes: false, span: None, class: Class::Bulk };
            let length = self.open_file(&mount, &request.path, wish).await?.status.length;
            return Ok(LoadReply { length, fetched_bytes: 0, not_kept_bytes: length });
        }
        let wish = Wish { attributes: false, span: Some(Span::All), class: Class::Bulk };
        let opened = self.open_file(&mount, &request.path, wish).await?;
        let length = opened.status.length;
        let all = ByteRange::new(0, length);
        let mut walk = self.walk(&mount, &request.path, &opened.status, all);
        walk.only_loads();
        walk.begun_by(opened.fetch);
        while walk.next().await?.is_some() {}
        let (content, fetched_bytes) = (walk.content, walk.from_store);
        drop(walk);
        if self.pages.presence(content, length).bytes < length {
            self.flights.settled(content).await;
        }
        let resident = self.pages.presence(content, length).bytes;
        Ok(LoadReply { length, fetched_bytes, not_kept_bytes: length.saturating_sub(resident) })
    }
}
