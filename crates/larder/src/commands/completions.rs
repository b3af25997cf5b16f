// SPDX-License-Identifier: Apache-2.0
//! `larder completions SHELL`.

use clap_complete::Shell;

use crate::{arguments, exit::Failure, output};

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(), "larder", &mut script);
    output::data(&script)
}
