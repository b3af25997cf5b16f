// SPDX-License-Identifier: Apache-2.0
//! `larder doctor`: what would keep larder from working well, each with what to do about it.
//!
//! It changes nothing but for a draft file that shows whether a directory can be written. With a
//! larder running it also asks that one.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use larder_client::message::DiskState;
use larder_core::{ByteSize, Clock, Metrics, Random};
use larder_fuse::{Passthrough, passthrough_obstacle};
use larder_http::{FaceAddress, StatusDocument};
use larder_s3::Keys;
use larder_ufs::{layer::budget::Budgets, mount::Seams};
use serde::Serialize;

use super::Format;
use crate::{
    control::Control,
    credentials::add_file,
    effective::Effective,
    exit::{Exit, Failure},
    machine::{DescriptorLimit, Disk, default_budget, memory_limit, mounted_at},
    output,
    up::{Finding, check, open_stores, probe},
};

/// Fewer descriptors than this and a busy S3 face runs out.
const DESCRIPTORS_MIN: u64 = 4096;
/// Less free space than this and pages will not be kept.
const FREE_MIN: u64 = 1 << 30;
/// File systems that are not disks of this machine.
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    verdict: Verdict,
    subject: &'static str,
    finding: String,
}

impl Check {
    fn new(verdict: Verdict, subject: &'static str, finding: impl Into<String>) -> Self {
        Self { verdict, subject, finding: finding.into() }
    }
}

pub(super) fn run(effective: Effective, format: Format) -> Result<(), Failure> {
    let mut worst = Verdict::Ok;
    super::block_on(async {
        let running = running(&effective).await;
        let mut checks = vec![state(&effective, running.as_ref())];
        checks.extend(caches(&effective));
        checks.extend(running.iter().flat_map(out_of_service));
        checks.extend(running.iter().flat_map(rotten));
        checks.push(ports("s3", effective.config.s3.listen.0, running.as_ref()));
        checks.push(ports("http", effective.config.http.listen.0, running.as_ref()));
        checks.extend(credentials(&effective));
        checks.push(fuse(&effective));
        checks.extend(mountpoint(&effective, running.as_ref()));
        checks.push(descriptors());
        checks.push(memory(&effective));
        checks.extend(mounts(&effective).await);
        for check in checks {
            worst = worst.max(check.verdict);
            tell(&check, format)?;
        }
        Ok(())
    })?;
    if worst == Verdict::Fail { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

fn tell(check: &Check, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(check);
    }
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    output::line(&format!("{verdict:5} {:12} {}", check.subject, check.finding))
}

async fn running(effective: &Effective) -> Option<StatusDocument> {
    let control = Control::connect(&effective.state).await.ok()?;
    control.get("/v1/status", &[]).await.ok()
}

fn state(effective: &Effective, running: Option<&StatusDocument>) -> Check {
    let subject = "state";
    let shown = effective.state.display();
    match (writable(&effective.state), running) {
        (Err(why), _) => {
            let todo = format!("{shown} can't be written ({why}); choose another with --state");
            Check::new(Verdict::Fail, subject, todo)
        }
        (Ok(()), Some(status)) => {
            let (version, pid) = (&status.version, status.pid);
            Check::new(Verdict::Ok, subject, format!("{shown}: larder {version} runs, pid {pid}"))
        }
        (Ok(()), None) => Check::new(Verdict::Ok, subject, format!("{shown}: nothing runs here")),
    }
}

fn caches(effective: &Effective) -> Vec<Check> {
    let mut directories: Vec<_> =
        effective.config.cache.iter().map(|cache| (cache.path.clone(), cache.size)).collect();
    if directories.is_empty() {
        directories.push((effective.state.join("cache"), None));
    }
    directories.iter().map(|(path, size)| cache(path, *size)).collect()
}

/// Cache directories that the running larder does not use as it was told to.
fn out_of_service(status: &StatusDocument) -> Vec<Check> {
    let disks = status.workers.iter().flat_map(|worker| &worker.disks);
    let checks = disks.filter_map(|disk| {
        let (shown, state) = (&disk.directory, disk.state.as_str());
        let again = format!("`larder cache resume {shown}`");
        let (verdict, todo) = match disk.state {
            DiskState::Faulty => {
                let why = disk.fault.as_deref().unwrap_or("its disk failed");
                (Verdict::Fail, format!("{why}; when the disk works again, {again}"))
            }
            DiskState::Full => {
                (Verdict::Warn, format!("make room there, then {again}, or lower its size"))
            }
            DiskState::Drained => {
                (Verdict::Ok, format!("it can be taken away; to use it again, {again}"))
            }
            DiskState::Serving | DiskState::Comparing | DiskState::Draining => return None,
        };
        Some(Check::new(verdict, "cache", format!("{shown}: {state}; {todo}")))
    });
    checks.collect()
}

/// Cache directories where the scrubber found rot.
fn rotten(status: &StatusDocument) -> Vec<Check> {
    let disks = status.workers.iter().flat_map(|worker| &worker.disks);
    let checks = disks.filter_map(|disk| {
        let pages = disk.scrub?.rotten_pages;
        let shown = &disk.directory;
        let todo = format!(
            "{shown}: {pages} pages that nobody read were rotten and are dropped; its disk may be \
             failing, look at it (smartctl -a) or `larder cache drain {shown}`"
        );
        (pages > 0).then(|| Check::new(Verdict::Warn, "cache", todo))
    });
    checks.collect()
}

fn cache(path: &Path, size: Option<ByteSize>) -> Check {
    let subject = "cache";
    let shown = path.display();
    if let Err(why) = writable(path) {
        let todo = format!("{shown} can't be written ({why}); fix it or choose another --cache");
        return Check::new(Verdict::Fail, subject, todo);
    }
    let disk = match Disk::of(path) {
        Ok(disk) => disk,
        Err(error) => return Check::new(Verdict::Fail, subject, error.to_string()),
    };
    let Disk { free, total, kind } = disk;
    let facts = format!("{shown} on {kind}, {free} of {total} free");
    if REMOTE.contains(&kind.as_str()) {
        let todo = format!("{facts}; use a disk of this machine, a cache over a network is slow");
        return Check::new(Verdict::Warn, subject, todo);
    }
    if free.0 < FREE_MIN {
        let todo = format!("{facts}; make room or lower the size, pages will not be kept");
        return Check::new(Verdict::Warn, subject, todo);
    }
    match size {
        Some(size) if size > total => {
            let todo = format!("{facts}; a size of {size} never fits, lower it");
            Check::new(Verdict::Fail, subject, todo)
        }
        _ => Check::new(Verdict::Ok, subject, facts),
    }
}

/// Whether a file can be made in `directory`, or in its nearest parent that exists.
fn writable(directory: &Path) -> Result<(), String> {
    let there = directory.ancestors().find(|ancestor| ancestor.exists());
    let there = there.unwrap_or(Path::new("."));
    let draft = there.join(format!(".larder-doctor-{}", std::process::id()));
    let written = fs::write(&draft, b"x").map_err(|error| error.to_string());
    // Removing fails only where writing did.
    let _ = fs::remove_file(&draft);
    written
}

fn ports(subject: &'static str, wanted: SocketAddr, running: Option<&StatusDocument>) -> Check {
    let url = format!("http://{wanted}");
    let ours = running.is_some_and(|status| status.faces.iter().any(|face| face.address == url));
    if ours {
        return Check::new(Verdict::Ok, subject, format!("{wanted} is served by this larder"));
    }
    match TcpListener::bind(wanted) {
        Ok(_) => {
            let open = if wanted.ip().is_loopback() { "" } else { ", open to the network" };
            Check::new(Verdict::Ok, subject, format!("{wanted} is free{open}"))
        }
        Err(error) => {
            let todo = format!("{wanted} can't be used ({error}); choose another with --{subject}");
            Check::new(Verdict::Fail, subject, todo)
        }
    }
}

/// Key pairs that the S3 face is given beside its own.
fn credentials(effective: &Effective) -> Vec<Check> {
    let files = effective.config.s3.credentials_files.iter().flatten();
    let check = |file: &PathBuf| match add_file(&mut Keys::new(), file) {
        Ok(()) => Check::new(Verdict::Ok, "keys", format!("{} can be used", file.display())),
        Err(error) => Check::new(Verdict::Fail, "keys", error.to_string()),
    };
    files.map(check).collect()
}

/// The directory to mount on. What is mounted there is not touched: it may hang.
fn mountpoint(effective: &Effective, running: Option<&StatusDocument>) -> Option<Check> {
    let subject = "fuse";
    let point = effective.config.fuse.mountpoint.as_deref()?;
    let absolute = without_links(point);
    let shown = absolute.display().to_string();
    let ours = |face: &FaceAddress| face.face == "fuse" && face.address == shown;
    if running.is_some_and(|status| status.faces.iter().any(ours)) {
        let finding = format!("{shown} is served by this larder");
        return Some(Check::new(Verdict::Ok, subject, finding));
    }
    let todo = if let Some(kind) = mounted_at(&absolute) {
        format!("{shown} is a mount point already ({kind}); unmount it or choose another directory")
    } else {
        match fs::read_dir(&absolute).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {
                let finding = format!("{shown} is an empty directory");
                return Some(Check::new(Verdict::Ok, subject, finding));
            }
            Ok(true) => format!("{shown} is not empty; choose an empty directory"),
            Err(error) => format!("{shown} can't be mounted on ({error}); make that directory"),
        }
    };
    Some(Check::new(Verdict::Fail, subject, todo))
}

/// The absolute path, without links but for its last part, which may be a mount that hangs.
fn without_links(point: &Path) -> PathBuf {
    let absolute = std::path::absolute(point).unwrap_or_else(|_| point.to_owned());
    let beside = absolute.parent().and_then(|parent| parent.canonicalize().ok());
    match (beside, absolute.file_name()) {
        (Some(beside), Some(name)) => beside.join(name),
        _ => absolute,
    }
}

/// Whether this machine has FUSE.
fn fuse(effective: &Effective) -> Check {
    let subject = "fuse";
    let wanted = effective.config.fuse.mountpoint.is_some();
    let verdict = if wanted { Verdict::Fail } else { Verdict::Warn };
    if !Path::new("/dev/fuse").exists() {
        let todo = "there is no /dev/fuse; load the module (modprobe fuse) or pass the device in";
        return Check::new(verdict, subject, todo);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join("fusermount3").exists());
    if !found && !rustix::process::geteuid().is_root() {
        let todo = "fusermount3 is missing; install the package fuse3";
        return Check::new(verdict, subject, todo);
    }
    let passthrough = match (effective.config.fuse.passthrough, passthrough_obstacle()) {
        (Passthrough::Off, _) => "passthrough is off by the settings".to_owned(),
        (Passthrough::Auto, None) => "the kernel can read whole files by itself".to_owned(),
        (Passthrough::Auto, Some(why)) => format!("no passthrough ({why})"),
    };
    let finding = format!("/dev/fuse is there and can be mounted; {passthrough}");
    Check::new(Verdict::Ok, subject, finding)
}

fn descriptors() -> Check {
    let DescriptorLimit { soft, hard } = DescriptorLimit::of_process();
    if hard < DESCRIPTORS_MIN {
        let todo =
            format!("only {hard} open files are allowed; raise it (ulimit -Hn, LimitNOFILE)");
        return Check::new(Verdict::Warn, "descriptors", todo);
    }
    Check::new(Verdict::Ok, "descriptors", format!("{soft} now, {hard} when larder is up"))
}

fn memory(effective: &Effective) -> Check {
    let limit = memory_limit();
    let budget = effective.config.general.memory_budget.unwrap_or_else(|| default_budget(&limit));
    let facts = format!("budget {budget} of {} that {} allows", limit.limit, limit.set_by);
    if budget.0 > limit.limit.0 / 2 {
        let todo = format!("{facts}; lower memory_budget, the page cache needs room too");
        return Check::new(Verdict::Warn, "memory", todo);
    }
    Check::new(Verdict::Ok, "memory", facts)
}

async fn mounts(effective: &Effective) -> Vec<Check> {
    let subject = "mount";
    if effective.config.mount.is_empty() {
        return vec![Check::new(
            Verdict::Warn,
            subject,
            "nothing is mounted; see `larder up --help`",
        )];
    }
    let seams = Seams {
        clock: Clock::system(),
        random: Random::new().into(),
        metrics: Metrics::new().into(),
        budgets: Budgets::default(),
    };
    let stores = check(&effective.config).and_then(|()| open_stores(&effective.config, &seams));
    let stores = match stores {
        Ok(stores) => stores,
        Err(error) => return vec![Check::new(Verdict::Fail, subject, error.to_string())],
    };
    let found = probe(&stores).await;
    let to_check = |(name, finding)| match finding {
        Finding::Answers => Check::new(Verdict::Ok, subject, format!("{name}: the store answers")),
        Finding::Silent(error) => {
            let todo = format!("{name}: {error}; is the store up, is the endpoint right?");
            Check::new(Verdict::Warn, subject, todo)
        }
        Finding::Refuses(error) => Check::new(Verdict::Fail, subject, format!("{name}: {error}")),
    };
    found.into_iter().map(to_check).collect()
}
