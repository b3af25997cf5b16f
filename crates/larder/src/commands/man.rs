// SPDX-License-Identifier: Apache-2.0
//! `larder man [DIR]`: manual pages from the declarations of the arguments.

use std::{fs, io, path::Path};

use crate::{
    arguments,
    exit::{Exit, Failure},
    output,
};

pub(super) fn run(directory: Option<&Path>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, format!("can't write the manual pages: {error}"))
    };
    match directory {
        Some(directory) => {
            fs::create_dir_all(directory).map_err(failed)?;
            clap_mangen::generate_to(arguments::command(), directory).map_err(failed)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(arguments::command()).render(&mut page).map_err(failed)?;
            output::data(&page)
        }
    }
}
