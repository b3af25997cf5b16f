// SPDX-License-Identifier: Apache-2.0
//! `larder stat PATH`.

use larder_http::StatAnswer;

use super::{Format, shown};
use crate::{control::Control, exit::Failure, output};

pub(super) async fn run(control: Control, path: &str, format: Format) -> Result<(), Failure> {
    let answer: StatAnswer = control.get("/v1/stat", &[("path", path)]).await?;
    if format == Format::Json {
        return output::json(&answer);
    }
    let status = &answer.status;
    let mut lines = vec![
        format!("path      {}", answer.path),
        format!("length    {}", status.length),
        format!("version   {}", status.version),
        format!("modified  {}", shown::instant(status.modified)),
        format!("known     since {} ({})", shown::duration(answer.age), answer.outcome.as_str()),
    ];
    if let Some(attributes) = &status.attributes {
        lines.extend(attributes.content_type.iter().map(|kind| format!("type      {kind}")));
        let user = attributes.user.iter();
        lines.extend(user.map(|(name, value)| format!("meta      {name}: {value}")));
    }
    output::line(&lines.join("\n"))
}
