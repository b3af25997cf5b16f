// SPDX-License-Identifier: Apache-2.0
//! The commands, one file each: a function from typed options to data on stdout.

mod advise;
mod cache;
mod cat;
mod completions;
mod config;
mod doctor;
mod explain;
mod free;
mod load;
mod ls;
mod man;
mod one_file;
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
use one_file::Verb;

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
        Command::Advise => {
            asking(gather(None)?, async |control| advise::run(control, format).await)
        }
        Command::Ls(options) => {
            let effective = gather(None)?;
            block_on(ls::run(&effective.state, &options, format))
        }
        Command::Stat(one) => {
            let verb = Verb { name: "stat", instead: "larder ls --long" };
            let stat = async |control| stat::run(control, &one.path, format).await;
            about(gather(None)?, verb, &one.path, stat)
        }
        Command::Cat(options) => {
            let verb = Verb { name: "cat", instead: "larder ls" };
            let cat = async |control| cat::run(control, &options).await;
            about(gather(None)?, verb, &options.path, cat)
        }
        Command::Load(one) => {
            asking(gather(None)?, async |control| load::run(control, &one.path, format).await)
        }
        Command::Free(options) if options.recursive => {
            asking(gather(None)?, async |control| free::run(control, &options, format).await)
        }
        Command::Free(options) => {
            let verb = Verb { name: "free", instead: "larder free --recursive" };
            let free = async |control| free::run(control, &options, format).await;
            about(gather(None)?, verb, &options.path, free)
        }
        Command::Cache(asked) => {
            asking(gather(None)?, async |control| cache::run(control, &asked, format).await)
        }
        Command::Explain(one) => {
            let verb = Verb { name: "explain", instead: "larder ls" };
            let explain = async |control| explain::run(control, &one.path, format).await;
            about(gather(None)?, verb, &one.path, explain)
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

/// The same for a command about one file, which a mount or a directory is not.
fn about(
    effective: Effective,
    verb: Verb,
    path: &str,
    command: impl AsyncFnOnce(Control) -> Result<(), Failure>,
) -> Result<(), Failure> {
    block_on(one_file::about(&effective.state, verb, path, command))
}

/// Runs a small command on this thread.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("can't start a runtime: {error}")))?;
    runtime.block_on(work)
}
