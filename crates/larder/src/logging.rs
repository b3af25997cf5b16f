// SPDX-License-Identifier: Apache-2.0
//! Log lines on stderr, and panics as log lines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends log lines to stderr and panics into the log. Called once.
pub(crate) fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).with_target(false).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(%message, %place, %thread, "a defect in larder: a task panicked");
    }));
}

/// A bare level is for Larder's own crates; libraries say only what somebody must act on. The
/// one that checks signatures would say an error for each request it refuses, so that anybody
/// who reaches the port could fill the disk; refusals are counted in the metrics instead. Of the
/// library that finds credentials nothing is ever logged, whatever the level: it prints its
/// providers with the tokens they hold. Its errors reach the log as ours.
fn directives(level: &str) -> String {
    const SECRETIVE: &str = "reqsign_core=off,reqsign_aws_v4=off,reqsign_file_read_tokio=off";
    if level.contains(['=', ',']) {
        return format!("{level},{SECRETIVE}");
    }
    let libraries = if matches!(level, "off" | "error") { level } else { "warn" };
    format!("{libraries},larder={level},s3s=off,{SECRETIVE}")
}

#[cfg(test)]
mod tests {
    use super::directives;

    #[test]
    fn the_finder_of_credentials_is_silent_at_every_level() {
        for level in ["error", "trace", "info,reqsign_core=trace"] {
            assert!(directives(level).ends_with("reqsign_file_read_tokio=off"));
            let off = directives(level).rfind("reqsign_core=off").expect("there");
            assert!(off > directives(level).find("reqsign_core=trace").unwrap_or(0));
        }
        assert!(directives("info").starts_with("warn,larder=info,s3s=off,"));
    }
}
