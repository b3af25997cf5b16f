// SPDX-License-Identifier: Apache-2.0
//! The socket file: made with mode 0600 in a directory of mode 0700, taken over from a process
//! that died, never from one that lives.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use larder_core::{Error, Result};
use tokio::net::{UnixListener, UnixStream};

use super::routes::router;
use crate::{Facts, serve::serve};

/// Bytes of a socket's path at most (`sun_path` of unix(7), with its final NUL).
const PATH_LENGTH_MAX: usize = 107;

/// The bound control socket. Dropping it removes the socket file.
#[derive(Debug)]
pub struct ControlFace {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, removed with its owner.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl ControlFace {
    /// Makes the socket. Its directory is set to mode 0700.
    ///
    /// # Errors
    /// `AlreadyExists` when a living process answers there; `Invalid` when it can't be made.
    pub async fn bind(path: &Path) -> Result<Self> {
        if path.as_os_str().len() > PATH_LENGTH_MAX {
            return Err(Error::invalid(format!(
                "the path of the control socket, {}, is longer than {PATH_LENGTH_MAX} bytes; \
                 choose a shorter state directory with --state",
                path.display()
            )));
        }
        let failed = |error: io::Error| {
            Error::invalid(format!("can't make the control socket {}", path.display()))
                .with_source(error)
        };
        if let Some(directory) = path.parent() {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::PermissionDenied => Error::denied(format!(
                        "the state directory {} belongs to another user; name one of your own \
                         with --state",
                        directory.display()
                    )),
                    _ => failed(error),
                }
            })?;
        }
        remove_stale(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        // Between bind and here only the directory's mode protects the socket, which is enough.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Answers until `shutdown` resolves, then removes the socket.
    pub async fn run(self, facts: Facts, shutdown: impl Future<Output = ()>) {
        serve(self.listener, router(facts), shutdown).await;
        drop(self.file);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Someone may have removed it already; nothing depends on it being gone.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes a socket that nobody answers on.
async fn remove_stale(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        return Err(Error::invalid(format!("{shown} is in the way and is not a socket")));
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            Err(Error::already_exists(format!("larder is already running{pid} on {shown}")))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| {
                Error::invalid(format!("can't remove the stale socket {shown}")).with_source(error)
            }),
        Err(error) => {
            Err(Error::invalid(format!("can't tell who owns {shown}")).with_source(error))
        }
    }
}
