// SPDX-License-Identifier: Apache-2.0
//! `larder config check | show | docs`.

use larder_core::Result;
use serde::Serialize;

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
        ConfigCommand::Docs if format == Format::Json => {
            config::documented().try_for_each(|setting| output::json(&setting))
        }
        ConfigCommand::Docs => output::data(config::reference().as_bytes()),
        ConfigCommand::Check(overrides) => {
            let checked = gather(Some(overrides))
                .and_then(|effective| up::check(&effective.config).map(|()| effective));
            tell(checked, format)
        }
        ConfigCommand::Show(overrides) => show(&gather(Some(overrides))?, format),
    }
}

/// What `config check --json` found.
#[derive(Debug, Default, Serialize)]
struct Checked {
    /// The file that was read, if there was one.
    file: Option<String>,
    /// How many mounts there are.
    mounts: usize,
    /// A sentence for each mistake.
    problems: Vec<String>,
}

fn tell(outcome: Result<Effective>, format: Format) -> Result<(), Failure> {
    let checked = match &outcome {
        Ok(effective) => Checked {
            file: effective.file.as_deref().map(|file| file.display().to_string()),
            mounts: effective.config.mount.len(),
            problems: Vec::new(),
        },
        Err(error) => {
            let problems = error.to_string().lines().map(str::to_owned).collect();
            Checked { problems, ..Checked::default() }
        }
    };
    if format == Format::Json {
        output::json(&checked)?;
    }
    outcome?;
    let file = checked.file.as_deref().unwrap_or("no file");
    output::say(&format!("{file}: no mistakes, {} mounts", checked.mounts));
    Ok(())
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
