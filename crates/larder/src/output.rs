// SPDX-License-Identifier: Apache-2.0
//! stdout is data, stderr is talk. A reader that closes the pipe (`larder cat … | head`) ends
//! the program quietly.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Writes bytes to stdout.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::silent(Exit::Ok);
        }
        Failure::new(Exit::Failed, format!("can't write to stdout: {error}"))
    })
}

/// Writes text and a line end to stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    data(format!("{text}\n").as_bytes())
}

/// Writes a value as one line of JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("can't write JSON: {error}")))?;
    line(&text)
}

/// Says something on stderr. A closed stderr is nobody's trouble.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether somebody watches stderr, so that a bar may be drawn there.
pub(crate) fn watched() -> bool {
    io::stderr().is_terminal()
}
