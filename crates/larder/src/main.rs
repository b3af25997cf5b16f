// SPDX-License-Identifier: Apache-2.0
//! The one binary of Larder: arguments, configuration, and one file per command.
//!
//! It composes the rooms and decides nothing that one of them could decide. `up` runs everything
//! in this process; all other commands are small and talk to it over its control socket.

mod arguments;
mod commands;
mod config;
mod control;
mod credentials;
mod effective;
mod exit;
mod logging;
mod machine;
mod output;
mod state;
mod up;

use std::process::ExitCode;

use exit::Exit;

/// Smaller and faster than the system's for many short-lived buffers of mixed sizes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (arguments, origins) = match arguments::parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are data on stdout, everything else is talk; clap knows which.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() };
        }
    };
    match commands::run(arguments, &origins) {
        Ok(()) => Exit::Ok.code(),
        Err(failure) => {
            if !failure.message.is_empty() {
                output::say(&format!("larder: {}", failure.message));
            }
            failure.exit.code()
        }
    }
}
