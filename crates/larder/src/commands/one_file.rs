// SPDX-License-Identifier: Apache-2.0
//! Commands about one file that were given a mount or a directory: they say what it is and what
//! to type instead. The store is asked for that only after it said that there is no such file.

use std::path::Path as Directory;

use larder_client::message::{Explanation, ListPage};
use larder_core::Path;

use crate::{
    control::Control,
    exit::{Exit, Failure},
};

/// What a command does with one file, and what stands for it where there are many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verb {
    /// As it is typed.
    pub(super) name: &'static str,
    /// What to type for a directory; it is followed by the path.
    pub(super) instead: &'static str,
}

/// Runs `command`, which is about the one file `path`.
pub(super) async fn about(
    state: &Directory,
    verb: Verb,
    path: &str,
    command: impl AsyncFnOnce(Control) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if path.trim_matches('/').is_empty() {
        let sentence = format!("{path} holds the mounts; see them with `larder ls /`");
        return Err(Failure::new(Exit::Usage, sentence));
    }
    let asked: Path = path.parse()?;
    if asked.key.is_root() {
        let control = Control::connect(state).await?;
        let _there: Explanation = control.get("/v1/explain", &[("path", path)]).await?;
        return Err(refused(verb, &asked, "a mount"));
    }
    match command(Control::connect(state).await?).await {
        Err(failure) if failure.exit == Exit::NotFound && is_directory(state, &asked).await => {
            Err(refused(verb, &asked, "a directory"))
        }
        outcome => outcome,
    }
}

/// Whether something lies below `path`. A store that does not say so leaves the error as it was.
async fn is_directory(state: &Directory, path: &Path) -> bool {
    let below = below(path);
    let Ok(control) = Control::connect(state).await else { return false };
    let query = [("path", below.as_str()), ("delimiter", "/"), ("max", "1")];
    let page: Result<ListPage, Failure> = control.get("/v1/list", &query).await;
    page.is_ok_and(|page| !page.entries.is_empty() || !page.prefixes.is_empty())
}

fn refused(verb: Verb, path: &Path, what: &str) -> Failure {
    let Verb { name, instead } = verb;
    let below = below(path);
    Failure::new(
        Exit::Usage,
        format!("{path} is {what}, and `larder {name}` is about one file; try `{instead} {below}`"),
    )
}

/// The path with one slash behind it.
fn below(path: &Path) -> String {
    let path = path.to_string();
    if path.ends_with('/') { path } else { path + "/" }
}
