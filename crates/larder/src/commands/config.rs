// SPDX-License-Identifier: Apache-2.0
//! `larder config check | show | docs`.

use larder_core::Result;

use super::Format;
use crate::{
    arguments::{ConfigCommand, Overrides},
    config,
    effective::Effective,
    exit::Failure,
    output, up,
};

pub(super) fn run<'a>(
    asked: &'a ConfigCommand,
    format: Format,
    gather: impl Fn(Option<&'a Overrides>) -> Result<Effective>,
) -> Result<(), Failure> {
    match asked {
        ConfigCommand::Docs => output::data(config::reference().as_bytes()),
        ConfigCommand::Check(overrides) => {
            let effective = gather(Some(overrides))?;
            up::check(&effective.config)?;
            let file = effective
                .file
                .as_deref()
                .map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            output::say(&format!("{file}: no mistakes, {} mounts", effective.config.mount.len()));
            Ok(())
        }
        ConfigCommand::Show(overrides) => show(&gather(Some(overrides))?, format),
    }
}

fn show(effective: &Effective, format: Format) -> Result<(), Failure> {
    for shown in effective.layers.shown() {
        match (format, &shown.value) {
            (Format::Json, _) => output::json(&shown)?,
            (Format::Text, Some(value)) => {
                output::line(&format!("{} = {value}  # {}", shown.key, shown.source))?;
            }
            (Format::Text, None) => output::line(&format!("# {} is not set", shown.key))?,
        }
    }
    Ok(())
}
