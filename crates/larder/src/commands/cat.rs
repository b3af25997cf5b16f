// SPDX-License-Identifier: Apache-2.0
//! `larder cat PATH`: bytes to stdout as they come.

use crate::{arguments::Cat, control::Control, exit::Failure, output};

pub(super) async fn run(control: Control, options: &Cat) -> Result<(), Failure> {
    let offset = options.offset.to_string();
    let length = options.length.map(|length| length.to_string());
    let mut query = vec![("path", options.path.as_str()), ("offset", offset.as_str())];
    query.extend(length.as_deref().map(|length| ("length", length)));
    let mut reply = control.get_stream("/v1/cat", &query).await?;
    while let Some(piece) = reply.next().await? {
        output::data(&piece)?;
    }
    Ok(())
}
