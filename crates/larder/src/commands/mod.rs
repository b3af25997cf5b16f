// SPDX-License-Identifier: Apache-2.0
//! The commands, one file each: a function from typed options to data on stdout.

mod cat;
mod completions;
mod config;
mod doctor;
mod explain;
mod free;
mod load;
mod ls;
mod man;
mod shown;
mod stat;
mod status;

use crate::{
    arguments::{Arguments, Command, Origins},
    control::Control,
    effective::Effective,
    exit::{Exit, Failure},
    up,
};

/// Runs the command.
pub(crate) fn run(arguments: Arguments, origins: &Origins) -> Result<(), Failure> {
    let Arguments { everywhere, command } = arguments;
    let format = if everywhere.json { Format::Json } else { Format::Text };
    let gather = |overrides| Effective::gather(&everywhere, overrides, origins);
    match command {
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
        Command::Config(asked) => config::run(&asked, format, gather),
        Command::Up(options) => up::run(gather(Some(&options.overrides))?, format),
        Command::Doctor(overrides) => doctor::run(gather(Some(&overrides))?, format),
        Command::Status => {
            asking(gather(None)?, async |control| status::run(control, format).await)
        }
        Command::Ls(options) => {
            let effective = gather(None)?;
            block_on(ls::run(&effective.state, &options, format))
        }
        Command::Stat(one) => {
            asking(gather(None)?, async |control| stat::run(control, &one.path, format).await)
        }
        Command::Cat(options) => {
            asking(gather(None)?, async |control| cat::run(control, &options).await)
        }
        Command::Load(one) => {
            asking(gather(None)?, async |control| load::run(control, &one.path, format).await)
        }
        Command::Free(options) => {
            asking(gather(None)?, async |control| free::run(control, &options, format).await)
        }
        Command::Explain(one) => {
            asking(gather(None)?, async |control| explain::run(control, &one.path, format).await)
        }
    }
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people and line-wise tools.
    Text,
    /// One JSON value a line.
    Json,
}

/// Connects to the running larder and runs `command` with it.
fn asking(
    effective: Effective,
    command: impl AsyncFnOnce(Control) -> Result<(), Failure>,
) -> Result<(), Failure> {
    block_on(async { command(Control::connect(&effective.state).await?).await })
}

/// Runs a small command on this thread.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("can't start a runtime: {error}")))?;
    runtime.block_on(work)
}
