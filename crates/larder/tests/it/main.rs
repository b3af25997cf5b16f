// SPDX-License-Identifier: Apache-2.0
//! The binary as its users meet it: arguments in, exit code, stdout and stderr out.

mod configuration;
mod process;
mod up;

use std::{
    path::Path,
    process::{Command, Output},
};

/// What a finished command left behind.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `larder` with a state directory below `home` and none of the caller's settings.
fn larder(home: &Path, arguments: &[&str]) -> Ended {
    ended(command(home).args(arguments).output().expect("the binary runs"))
}

/// A command whose environment is only what a test needs.
fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.env_clear().env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command.current_dir(home);
    command
}

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).expect("only files are not text");
    let code = output.status.code().expect("not killed");
    Ended { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}
