// SPDX-License-Identifier: Apache-2.0
//! The front door: mounting, and unmounting within a bound.
//!
//! Unmounting waits a little for programs that still use the mount. Then it is detached: gone from
//! the tree at once, while what is open goes on working until it is closed or this process ends.
//! So a stop of Larder never hangs on somebody's open file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use larder_client::Filesystem;
use larder_core::{Error, Result};
use tokio::runtime;

use crate::{
    Settings,
    answer::Desk,
    attribute::Common,
    buffer::BufferPool,
    inode::InodeTable,
    kernel::Kernel,
    mountpoint::{self, Detach, SUBTYPE},
    namespace::Namespace,
    passthrough::{Passthrough, Ways, passthrough_obstacle},
    tree::Tree,
};

/// How long an unmount waits for the last user.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often it tries meanwhile.
const IDLE_WAIT_STEP: Duration = Duration::from_millis(50);
/// How long it waits for the threads of the session to end.
const END_WAIT_MAX: Duration = Duration::from_secs(2);
/// How far the kernel reads ahead. It begins with 128 KiB whatever the file system says.
const READ_AHEAD_KB: u32 = 4096;

/// A mounted FUSE face. Unmounts when dropped.
#[derive(Debug)]
pub struct FuseFace {
    mountpoint: PathBuf,
    /// `major:minor` of the mount, to know it from another that lies there later.
    device: String,
    unmounter: SessionUnmounter,
    /// Closed when the session has ended. Locked only so that a face can be shared.
    ended: Mutex<mpsc::Receiver<()>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mounted,
    Unmounted,
}

/// What of a mount is left when it is out of sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// They work until they are closed or the process ends.
    OpenFiles,
}

impl FuseFace {
    /// Mounts `filesystem` at the empty directory `mountpoint`. Work that has to wait for a store
    /// is done on `runtime`, whose timers must be enabled and which must outlive the mount.
    ///
    /// # Errors
    /// One sentence that says what is in the way: no such directory, not empty, in use, no FUSE
    /// on this machine, no permission.
    pub fn mount(
        settings: &Settings,
        mountpoint: &Path,
        filesystem: Arc<Filesystem>,
        runtime: runtime::Handle,
    ) -> Result<Self> {
        let mountpoint = mountpoint::prepare(mountpoint)?;
        let kernel = kernel(settings, filesystem, runtime);
        let tree = Arc::clone(&kernel.tree);
        let session = Session::new(kernel, &mountpoint, &config(settings));
        let mut session = session.map_err(|error| refused(&mountpoint, error))?;
        let mut unmounter = session.unmount_callable();
        let (ending, ended) = mpsc::channel();
        let run = move || {
            let result = session.run();
            if let Err(error) = result {
                tracing::warn!(%error, "the fuse session ended with an error");
            }
            drop(ending);
        };
        let spawned = thread::Builder::new().name("larder-fuse".into()).spawn(run);
        spawned.map_err(|error| Error::exhausted("no thread for the mount").with_source(error))?;
        let Ok(Some(line)) = mountpoint::mounted_at(&mountpoint) else {
            let _ = unmounter.unmount();
            let shown = mountpoint.display();
            return Err(Error::unavailable(format!("{shown} was unmounted while it was mounted")));
        };
        raise_read_ahead(&line.device);
        let passthrough = tree.ways.obstacle().unwrap_or("on");
        tracing::info!(mountpoint = %mountpoint.display(), passthrough, "mounted");
        let (device, ended, state) = (line.device, Mutex::new(ended), State::Mounted);
        Ok(Self { mountpoint, device, unmounter, ended, state })
    }

    /// Where it is mounted, as an absolute path without links.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Unmounts. Blocks for at most some five seconds, also while files are open: those go on
    /// working until they are closed, but the mount point is free.
    ///
    /// # Errors
    /// When the mount can't be taken away at all; the sentence says how to do it by hand.
    pub fn unmount(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        if self.state == State::Unmounted {
            return Ok(());
        }
        self.state = State::Unmounted;
        let mountpoint = self.mountpoint.clone();
        let shown = mountpoint.display();
        let mut left = Left::Nothing;
        if self.is_ours()? {
            left = self.detach().map_err(|error| {
                Error::unavailable(format!(
                    "{shown} could not be unmounted; do it with `umount -l {shown}`"
                ))
                .with_source(error)
            })?;
        }
        if left == Left::Nothing {
            self.wait_for_end(END_WAIT_MAX);
        }
        tracing::info!(mountpoint = %shown, "unmounted");
        Ok(())
    }

    fn wait_for_end(&mut self, bound: Duration) {
        // A message never comes: the channel closes when the session has ended.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(bound);
    }

    /// Whether it is this mount that lies at the mount point, and not none or another's.
    fn is_ours(&self) -> Result<bool> {
        let line = mountpoint::mounted_at(&self.mountpoint)?;
        Ok(line.is_some_and(|line| line.device == self.device))
    }

    fn detach(&mut self) -> io::Result<Left> {
        // The session's own way first, after which it does not try again at its end. For root it
        // fails while the mount is in use; for others it detaches at once.
        if self.unmounter.unmount().is_ok() {
            return Ok(Left::Nothing);
        }
        let tries = IDLE_WAIT_MAX.as_millis() / IDLE_WAIT_STEP.as_millis();
        for _ in 0..tries {
            match mountpoint::detach(&self.mountpoint, Detach::IfIdle) {
                Ok(()) => return Ok(Left::Nothing),
                // Nothing else ends the wait early: the session can't end while in use.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    self.wait_for_end(IDLE_WAIT_STEP);
                }
                Err(_) => break,
            }
        }
        tracing::warn!(mountpoint = %self.mountpoint.display(), "still in use, detaching it");
        mountpoint::detach(&self.mountpoint, Detach::Lazily)?;
        Ok(Left::OpenFiles)
    }
}

impl Drop for FuseFace {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!(%error, "unmounting failed");
        }
    }
}

fn kernel(settings: &Settings, filesystem: Arc<Filesystem>, runtime: runtime::Handle) -> Kernel {
    let common = Common {
        mounted: filesystem.clock().now().to_system_time(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let timeout = settings.operation_timeout();
    let desk = Arc::new(Desk::new(Arc::clone(&filesystem), runtime, timeout));
    let tree = Tree {
        namespace: Namespace::new(filesystem),
        common,
        buffers: BufferPool::new(usize::from(settings.threads.get())),
        inodes: InodeTable::default(),
        files: Default::default(),
        ways: ways(settings),
        listings: Default::default(),
    };
    Kernel { tree: Arc::new(tree), desk }
}

fn ways(settings: &Settings) -> Ways {
    let ways = Ways::default();
    let obstacle = match settings.passthrough {
        Passthrough::Auto => passthrough_obstacle(),
        Passthrough::Off => Some("off by the settings"),
    };
    if let Some(why) = obstacle {
        ways.obstruct(why);
    }
    ways
}

fn config(settings: &Settings) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
        MountOption::FSName(SUBTYPE.into()),
        // By this name, since a direct mount passes only such options on to the kernel.
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
    ];
    config.acl = if settings.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(usize::from(settings.threads.get()));
    config
}

fn refused(mountpoint: &Path, error: io::Error) -> Error {
    let shown = mountpoint.display();
    // What fusermount3 printed is in it, to the end of its line.
    let said = error.to_string().trim().to_owned();
    let error = io::Error::new(error.kind(), said.clone());
    if said.contains("user_allow_other") {
        return Error::denied(
            "allow_other needs a line `user_allow_other` in /etc/fuse.conf, which only root can \
             write; add it or leave allow_other out",
        );
    }
    if error.kind() == io::ErrorKind::PermissionDenied || said.contains("ermission") {
        return Error::denied(format!(
            "no permission to mount at {shown}; own the directory and have access to /dev/fuse, \
             or run as root"
        ))
        .with_source(error);
    }
    Error::unavailable(format!("mounting at {shown} failed")).with_source(error)
}

/// Only root may; without it, sequential reads of one thread are slower.
fn raise_read_ahead(device: &str) {
    let file = mountpoint::read_ahead_file(device);
    if let Err(error) = fs::write(&file, READ_AHEAD_KB.to_string()) {
        tracing::debug!(%error, file = %file.display(), "the read-ahead stays as it was");
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn what_fusermount_said_is_told_in_one_line() {
        let said = "fusermount3: mounting over filesystem type 0x1 is forbidden\n";
        let error = refused(Path::new("/mnt/x"), io::Error::other(said));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some(said.trim_end()));
        let denied = refused(Path::new("/mnt/x"), io::Error::other("Permission denied\n"));
        assert!(!denied.source().unwrap().to_string().contains('\n'));
    }
}
