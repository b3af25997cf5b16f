// SPDX-License-Identifier: Apache-2.0
//! The directory to mount on: what lies there before, and taking the mount off it again.
//!
//! `/proc/self/mountinfo` is asked before the directory itself, because a call on a mount whose
//! server is gone fails, and on one whose server hangs it never returns. A dead mount of Larder's
//! own (its process was killed) is taken away; anything else is left alone and named.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{self, Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use larder_core::{Error, Result};
use rustix::{
    io::Errno,
    mount::{UnmountFlags, unmount},
};

/// What the kernel calls our mounts.
pub(crate) const SUBTYPE: &str = "larder";
/// How long a mount that lies there may take to answer.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Dead mounts that may lie on top of each other.
const DEAD_MOUNTS_MAX: usize = 16;

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// `major:minor`.
    pub(crate) device: String,
    /// For example `fuse.larder`.
    pub(crate) kind: String,
}

/// How to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detach {
    /// Only if nobody uses it.
    IfIdle,
    /// From sight at once; it ends with its last user.
    Lazily,
}

/// Makes sure that `directory` can be mounted on; answers its absolute path.
///
/// # Errors
/// One sentence that says what is in the way and what to do about it.
pub(crate) fn prepare(directory: &Path) -> Result<PathBuf> {
    check_fuse()?;
    let absolute = absolute(directory)?;
    for _ in 0..DEAD_MOUNTS_MAX {
        let Some(line) = mounted_at(&absolute)? else { return check_directory(&absolute) };
        remove_dead(&absolute, &line)?;
    }
    Err(Error::unavailable(format!(
        "more than {DEAD_MOUNTS_MAX} dead mounts lie on {}; unmount them with `umount -l`",
        absolute.display()
    )))
}

/// What is mounted exactly at `point`, topmost; the path is absolute and without links.
pub(crate) fn mounted_at(point: &Path) -> Result<Option<MountLine>> {
    let text = fs::read("/proc/self/mountinfo").map_err(|error| {
        Error::unavailable("/proc/self/mountinfo can't be read; is /proc mounted?")
            .with_source(error)
    })?;
    Ok(find_line(&text, point))
}

/// Takes the mount at `point` away.
pub(crate) fn detach(point: &Path, how: Detach) -> io::Result<()> {
    let flags = match how {
        Detach::IfIdle => UnmountFlags::NOFOLLOW,
        Detach::Lazily => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match unmount(point, flags) {
        Ok(()) => Ok(()),
        // Only root may unmount by itself; a user's own mounts are fusermount3's business.
        Err(Errno::PERM) => detach_by_program(point, how),
        Err(error) => Err(error.into()),
    }
}

fn detach_by_program(point: &Path, how: Detach) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg(match how {
        Detach::IfIdle => "-u",
        Detach::Lazily => "-uz",
    });
    let command = command.arg("--").arg(point).stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::new(io::ErrorKind::ResourceBusy, said.trim().to_owned()))
}

/// Whether this machine can do FUSE at all.
fn check_fuse() -> Result<()> {
    if !Path::new("/dev/fuse").exists() {
        return Err(Error::unsupported(
            "there is no /dev/fuse on this machine; load the module with `modprobe fuse`, or give \
             the container the device with `--device /dev/fuse --cap-add SYS_ADMIN`",
        ));
    }
    let root = rustix::process::geteuid().is_root();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !root && !std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists()) {
        return Err(Error::unsupported(
            "fusermount3 is not installed, without which only root can mount; install it with \
             `apt install fuse3`",
        ));
    }
    Ok(())
}

/// The path without links, but for its last component: that may be a dead mount, which can't be
/// looked at.
fn absolute(directory: &Path) -> Result<PathBuf> {
    let shown = directory.display();
    let wrong = |error: io::Error| explain(directory, error);
    let absolute = path::absolute(directory).map_err(wrong)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::invalid(format!("{shown} can't be a mount point; name a directory")));
    };
    let beside = parent.canonicalize().map_err(wrong)?.join(name);
    if mounted_at(&beside)?.is_some() {
        return Ok(beside);
    }
    beside.canonicalize().map_err(wrong)
}

fn explain(directory: &Path, error: io::Error) -> Error {
    let shown = directory.display();
    let error_kind = error.kind();
    let message = match error_kind {
        io::ErrorKind::NotFound => {
            return Error::not_found(format!(
                "the mount point {shown} does not exist; create the directory first"
            ));
        }
        io::ErrorKind::PermissionDenied => {
            return Error::denied(format!("no permission to use {shown} as a mount point"));
        }
        _ => format!("{shown} can't be used as a mount point"),
    };
    Error::invalid(message).with_source(error)
}

/// Clears a dead mount of ours away; refuses anything else.
fn remove_dead(point: &Path, line: &MountLine) -> Result<()> {
    let (shown, kind) = (point.display(), &line.kind);
    match probe(point) {
        Probe::Alive => Err(Error::already_exists(format!(
            "{shown} is a mount point already ({kind}); unmount it with `umount {shown}` or choose \
             another directory"
        ))),
        Probe::Silent => Err(Error::unavailable(format!(
            "the mount at {shown} ({kind}) does not answer; unmount it with `umount -l {shown}` or \
             choose another directory"
        ))),
        Probe::Dead if *kind == format!("fuse.{SUBTYPE}") => {
            tracing::info!(mountpoint = %shown, "taking away the mount of a larder that is gone");
            detach(point, Detach::Lazily).map_err(|error| {
                Error::denied(format!(
                    "a dead mount lies on {shown}; unmount it with `umount -l {shown}`"
                ))
                .with_source(error)
            })
        }
        Probe::Dead => Err(Error::already_exists(format!(
            "a dead mount ({kind}) lies on {shown}; unmount it with `fusermount3 -uz {shown}` or \
             choose another directory"
        ))),
    }
}

/// Whether a mount's server is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Alive,
    Dead,
    Silent,
}

fn probe(point: &Path) -> Probe {
    let (sender, receiver) = mpsc::channel();
    let point = point.to_owned();
    // The thread may hang as long as the mount does; it is given up then.
    let asked = thread::Builder::new().name("larder-probe".into()).spawn(move || {
        let _ = sender.send(fs::metadata(point));
    });
    if asked.is_err() {
        return Probe::Silent;
    }
    match receiver.recv_timeout(PROBE_WAIT_MAX) {
        Ok(Err(error)) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {
            Probe::Dead
        }
        Ok(_) => Probe::Alive,
        Err(_) => Probe::Silent,
    }
}

fn check_directory(point: &Path) -> Result<PathBuf> {
    let shown = point.display();
    let wrong = |error: io::Error| explain(point, error);
    if !fs::metadata(point).map_err(wrong)?.is_dir() {
        return Err(Error::not_a_directory(format!(
            "the mount point {shown} is not a directory; choose an empty directory"
        )));
    }
    if fs::read_dir(point).map_err(wrong)?.next().is_some() {
        return Err(Error::not_empty(format!(
            "the mount point {shown} is not empty; what is in it would be hidden, so choose an \
             empty directory"
        )));
    }
    Ok(point.to_owned())
}

/// The last line for `point`, which is the topmost mount there. Lines that make no sense are
/// passed over.
fn find_line(text: &[u8], point: &Path) -> Option<MountLine> {
    let lines = text.split(|&byte| byte == b'\n');
    let mut matching = lines.filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = fields.nth(2)?;
        let mounted = fields.nth(1)?;
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (unescape(mounted) == point).then(|| MountLine { device: text(device), kind: text(kind) })
    });
    matching.next_back()
}

/// Blanks and the like stand as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| byte == b'\\');
        let code = digits.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(plain)
}

/// Where the kernel keeps how far a mount is read ahead.
pub(crate) fn read_ahead_file(device: &str) -> PathBuf {
    let name: &OsStr = OsStr::from_bytes(device.as_bytes());
    Path::new("/sys/class/bdi").join(name).join("read_ahead_kb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_is_found_whatever_its_name() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            40 27 0:50 / /mnt/a\\040b\\134 ro shared:1 master:2 - fuse.sshfs s rw\n\
            nonsense\n\n- - -\n\
            41 27 0:51 / /mnt/a\\040b\\134 ro,nosuid - fuse.larder larder ro\n\
            42 27 0:52 / /mnt/a\\040b rw - tmpfs x\\0 rw\n";
        let at = |point: &str| find_line(text, Path::new(point));
        let larder = MountLine { device: "0:51".into(), kind: "fuse.larder".into() };
        assert_eq!(at("/mnt/a b\\"), Some(larder));
        assert_eq!(at("/mnt/a b").expect("there").kind, "tmpfs");
        assert_eq!(at("/mnt"), None);
        assert_eq!(unescape(b"\\"), OsString::from("\\"));
        assert_eq!(unescape(b"\\9999"), OsString::from("\\9999"));
    }
}
