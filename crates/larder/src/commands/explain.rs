// SPDX-License-Identifier: Apache-2.0
//! `larder explain PATH`: what the cache holds of one file, and why.

use larder_client::message::Explanation;
use larder_core::ByteSize;

use super::{Format, shown};
use crate::{control::Control, exit::Failure, output};

pub(super) async fn run(control: Control, path: &str, format: Format) -> Result<(), Failure> {
    let told: Explanation = control.get("/v1/explain", &[("path", path)]).await?;
    if format == Format::Json {
        return output::json(&told);
    }
    let (version, length) = match &told.status {
        Some(status) => (status.version.to_string(), status.length.to_string()),
        None => ("not known".to_owned(), "not known".to_owned()),
    };
    let age = told.age.map_or_else(|| "not known".to_owned(), shown::duration);
    let resident = ByteSize(told.resident_bytes);
    let (here, all) = (told.resident_pages, told.total_pages);
    let lines = [
        format!("path       {}", told.path),
        format!("store      {}", told.uri),
        format!("owner      worker {}", told.owner),
        format!("version    {version}"),
        format!("length     {length}"),
        format!("age        {age}"),
        format!("freshness  {}", told.freshness),
        format!("resident   {here} of {all} pages, {resident}"),
        format!("fetches    {} under way", told.fetches),
        format!("rule       {}", told.rule.as_ref().map_or("none".to_owned(), shown::rule)),
    ];
    output::line(&lines.join("\n"))
}
