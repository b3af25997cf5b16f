// SPDX-License-Identifier: Apache-2.0
//! The command line. The doc comments are the help and the manual page.

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{config::Source, exit::Exit};

/// A decentralized cache and data access layer for object stores and file systems.
///
/// `larder up` serves mounts through S3, HTTP and FUSE; the other commands talk to a running
/// larder over the control socket in its state directory.
#[derive(Debug, Parser)]
#[command(name = "larder", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    /// The configuration file [default: ~/.config/larder/larder.toml, where it exists].
    #[arg(long, global = true, value_name = "FILE", env = "LARDER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The state directory [default: ~/.local/state/larder].
    #[arg(long, global = true, value_name = "DIR", env = "LARDER_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug, trace or a filter.
    #[arg(long, global = true, value_name = "LEVEL", env = "LARDER_LOG")]
    pub(crate) log: Option<String>,
    /// Write data as JSON, one value a line. Bytes of files, completions and manual pages stay as
    /// they are.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve mounts through S3, HTTP and FUSE until SIGTERM or SIGINT.
    Up(Up),
    /// How the running larder is doing.
    Status,
    /// What half, twice and four times the cache would have saved, estimated from a sample of the
    /// reads since the start.
    Advise,
    /// List a directory; `/` lists the mounts.
    Ls(Ls),
    /// What is known about one file; the store is asked if the mount's freshness rule says so.
    Stat(OnePath),
    /// Write the bytes of one file to stdout.
    Cat(Cat),
    /// Make a file, or all files below a directory, resident.
    Load(OnePath),
    /// Drop what is resident of a file.
    Free(Free),
    /// The cache directories: list them, add one, drain one, take one back into service.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// What the cache holds of one file and why, without asking the store.
    Explain(OnePath),
    /// Check, show or document the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for what would keep larder from working well, and say what to do.
    Doctor(Overrides),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory, or the first one to stdout.
    Man {
        /// The directory; made if missing.
        directory: Option<PathBuf>,
    },
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// Flags that go over the configuration file.
#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// Mount a store under a name: lake=s3://bucket/prefix or data=file:///directory. May be
    /// repeated; a name that the file has gets this URI.
    #[arg(long, value_name = "NAME=URI")]
    pub(crate) mount: Vec<String>,
    /// Keep pages in this directory, at most so many bytes: /fast/cache:100GiB. May be repeated;
    /// replaces the directories of the file.
    #[arg(long, value_name = "DIR[:SIZE]")]
    pub(crate) cache: Vec<String>,
    /// Where the S3 face listens [default: 127.0.0.1:9710].
    #[arg(long, value_name = "ADDR", env = "LARDER_S3")]
    pub(crate) s3: Option<String>,
    /// Where the HTTP face listens [default: 127.0.0.1:9711].
    #[arg(long, value_name = "ADDR", env = "LARDER_HTTP")]
    pub(crate) http: Option<String>,
    /// Mount everything below this directory by FUSE.
    #[arg(long, value_name = "DIR", env = "LARDER_FUSE")]
    pub(crate) fuse: Option<PathBuf>,
}

/// A path in Larder's name space.
#[derive(Debug, Args)]
pub(crate) struct OnePath {
    /// `/mount/key`.
    pub(crate) path: String,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// `/mount/directory`; `/` lists the mounts.
    #[arg(default_value = "/")]
    pub(crate) path: String,
    /// Everything below, not only the next level.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Length, time of modification and version too.
    #[arg(long, short)]
    pub(crate) long: bool,
}

/// Arguments of `cat`.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// `/mount/key`.
    pub(crate) path: String,
    /// The first byte.
    #[arg(long, default_value_t = 0)]
    pub(crate) offset: u64,
    /// How many bytes; all that follow unless given.
    #[arg(long)]
    pub(crate) length: Option<u64>,
}

/// Arguments of `free`.
#[derive(Debug, Args)]
pub(crate) struct Free {
    /// `/mount/key`.
    pub(crate) path: String,
    /// Everything whose key starts with this one.
    #[arg(long, short)]
    pub(crate) recursive: bool,
}

/// What to do with the cache directories of the running larder.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// How each is.
    List,
    /// Use one more until the next start; write `[[cache]]` into the configuration to keep it.
    Add {
        /// The directory and what it may hold, such as /fast/cache:100GiB.
        #[arg(value_name = "DIR:SIZE")]
        directory: String,
    },
    /// Put nothing new there and drop what there is; `list` says when it is drained and can be
    /// taken away. Holds over restarts.
    Drain {
        /// The directory.
        directory: PathBuf,
    },
    /// Use it again: it was drained, or its disk failed or was full.
    Resume {
        /// The directory.
        directory: PathBuf,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Look for mistakes, name each with its line, and end with 2 if there are any.
    Check(Overrides),
    /// Print the effective configuration and where each value came from.
    Show(Overrides),
    /// Print the reference of all settings as Markdown, with `--json` as data.
    Docs,
}

/// The command with its exit codes in the help.
pub(crate) fn command() -> clap::Command {
    let table = Exit::table();
    Arguments::command().after_help(table.clone()).mut_subcommands(move |subcommand| {
        let about = subcommand.get_name() == "help";
        if about { subcommand } else { subcommand.after_long_help(table.clone()) }
    })
}

/// The arguments of this process. `Err` is clap's own: help, version or a usage error.
pub(crate) fn parse() -> Result<(Arguments, Origins), clap::Error> {
    let matches = command().try_get_matches()?;
    let arguments = Arguments::from_arg_matches(&matches)?;
    Ok((arguments, Origins(matches)))
}

/// Which arguments came from the environment and which from the command line.
#[derive(Debug)]
pub(crate) struct Origins(ArgMatches);

impl Origins {
    /// Where the argument `id` came from.
    pub(crate) fn of(&self, id: &str) -> Source {
        let mut matches = &self.0;
        loop {
            if let Ok(Some(_)) = matches.try_contains_id(id).map(|found| found.then_some(()))
                && matches.value_source(id) == Some(clap::parser::ValueSource::EnvVariable)
            {
                return Source::Environment;
            }
            match matches.subcommand() {
                Some((_, inner)) => matches = inner,
                None => return Source::Flag,
            }
        }
    }
}
