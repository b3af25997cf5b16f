// SPDX-License-Identifier: Apache-2.0
//! What is said when everything serves: to people on stderr, with `--json` to programs on stdout.

use larder_client::Filesystem;
use larder_core::ByteSize;
use larder_http::FaceAddress;
use serde::Serialize;

use super::{caches::Cache, faces::Faces};
use crate::{commands::Format, exit::Failure, output};

/// The line of `up --json`.
#[derive(Serialize)]
struct Started<'a> {
    pid: u32,
    faces: &'a [FaceAddress],
    credentials: String,
    mounts: Vec<String>,
    caches: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    path: String,
    size: ByteSize,
}

pub(super) fn started(
    faces: &Faces,
    filesystem: &Filesystem,
    caches: &[Cache],
    format: Format,
) -> Result<(), Failure> {
    let credentials = faces.credentials.display().to_string();
    for face in &faces.addresses {
        output::say(&format!("{:8} {}", face.face, face.address));
    }
    output::say(&format!("{:8} {credentials} (profile default)", "keys"));
    for mount in filesystem.mounts().iter() {
        output::say(&format!("{:8} {} = {}", "mount", mount.name, mount.uri));
    }
    for cache in caches {
        output::say(&format!("{:8} {}, up to {}", "cache", cache.path.display(), cache.size));
    }
    output::say("ready");
    if format == Format::Text {
        return Ok(());
    }
    let place = |cache: &Cache| Place { path: cache.path.display().to_string(), size: cache.size };
    output::json(&Started {
        pid: std::process::id(),
        faces: &faces.addresses,
        credentials,
        mounts: filesystem.mounts().iter().map(|mount| mount.name.to_string()).collect(),
        caches: caches.iter().map(place).collect(),
    })
}
