// SPDX-License-Identifier: Apache-2.0
//! `larder cache list | add DIR:SIZE | drain DIR | resume DIR`.

use std::path::{Path, absolute};

use larder_client::message::{CacheChange, CacheRequest, DiskReport};
use larder_core::{ByteSize, Error};
use larder_http::StatusDocument;

use super::{Format, status};
use crate::{arguments::CacheCommand, control::Control, exit::Failure, output};

pub(super) async fn run(
    control: Control,
    asked: &CacheCommand,
    format: Format,
) -> Result<(), Failure> {
    let disks: Vec<DiskReport> = match request(asked)? {
        Some(request) => control.post("/v1/cache", &request).await?,
        None => {
            let status: StatusDocument = control.get("/v1/status", &[]).await?;
            status.workers.into_iter().flat_map(|worker| worker.disks).collect()
        }
    };
    if format == Format::Json {
        return output::json(&disks);
    }
    output::line(&status::disks(&disks))
}

fn request(asked: &CacheCommand) -> Result<Option<CacheRequest>, Error> {
    let (directory, change) = match asked {
        CacheCommand::List => return Ok(None),
        CacheCommand::Add { directory } => {
            let split = directory.rsplit_once(':').filter(|(path, _)| !path.is_empty());
            let (path, size) = split.ok_or_else(|| {
                Error::invalid(format!("{directory}: write DIR:SIZE, such as /fast/cache:100GiB"))
            })?;
            let size: ByteSize = size.parse()?;
            (Path::new(path), CacheChange::Add { size_bytes: size.0 })
        }
        CacheCommand::Drain { directory } => (directory.as_path(), CacheChange::Drain),
        CacheCommand::Resume { directory } => (directory.as_path(), CacheChange::Resume),
    };
    let full = absolute(directory).map_err(|error| {
        Error::invalid(format!("can't tell where {} is", directory.display())).with_source(error)
    })?;
    let directory = full
        .to_str()
        .ok_or_else(|| Error::invalid(format!("the path {} is not UTF-8", directory.display())))?;
    Ok(Some(CacheRequest { directory: directory.to_owned(), change }))
}
