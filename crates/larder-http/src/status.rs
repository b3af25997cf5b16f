// SPDX-License-Identifier: Apache-2.0
//! The status document: what the process is, where it answers, how its workers are doing.

use std::sync::Arc;

use larder_client::{
    Filesystem, MountRecord,
    message::{MountReport, WorkerReport},
};
use serde::{Deserialize, Serialize};

use crate::Readiness;

/// What both listeners answer from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Larder's name space.
    pub filesystem: Arc<Filesystem>,
    /// What still has to happen.
    pub readiness: Readiness,
    /// Where each face answers.
    pub faces: Vec<FaceAddress>,
    /// The version of the binary.
    pub version: &'static str,
}

/// Where a face answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaceAddress {
    /// `s3`, `http`, `fuse` or `control`.
    pub face: String,
    /// An URL or a directory.
    pub address: String,
}

/// The status of a process, as `/api/v1/status` and `larder status --json` give it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The version of the binary.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Whether everything serves.
    pub ready: bool,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where each face answers.
    pub faces: Vec<FaceAddress>,
    /// What is mounted.
    pub mounts: Vec<MountRecord>,
    /// How each worker is doing.
    pub workers: Vec<WorkerReport>,
}

impl StatusDocument {
    /// Asks every worker; what it can't learn, it says.
    pub(crate) async fn gather(facts: &Facts) -> larder_core::Result<Self> {
        let reason = facts.readiness.reason();
        Ok(Self {
            version: facts.version.to_owned(),
            pid: std::process::id(),
            ready: reason.is_none(),
            reason,
            faces: facts.faces.clone(),
            mounts: facts.filesystem.mounts().to_vec(),
            workers: facts.filesystem.report().await?,
        })
    }

    /// Without what only the owner of the process should read: the text of a store's errors may
    /// name hosts and accounts, and the control socket is nobody else's business.
    pub(crate) fn for_everybody(mut self) -> Self {
        self.faces.retain(|face| face.face != "control");
        for worker in &mut self.workers {
            worker.mounts.iter_mut().for_each(hide_error_text);
        }
        self
    }
}

fn hide_error_text(mount: &mut MountReport) {
    if mount.last_error.is_some() {
        mount.last_error = Some("the last request to the store failed; see the log".to_owned());
    }
}
