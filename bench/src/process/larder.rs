// SPDX-License-Identifier: Apache-2.0
//! Larder itself, as a user would start it: `larder up` with its options.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};
use larder_client::LoadProgress;

use super::{child::Server, wait::free_address};
use crate::load::{
    connection::Connection,
    signing::{Keys, REGION, Signer},
};

/// How long it may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// An under storage that speaks S3.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it is.
    pub address: SocketAddr,
    /// The key pair it knows.
    pub keys: Keys,
}

/// What a Larder is started with.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where its state, cache and log go.
    pub folder: PathBuf,
    /// Its one mount: the name and the URI behind it.
    pub mount: (&'a str, String),
    /// What an `s3://` mount reads from.
    pub store: Option<Store>,
    /// Where the name space is mounted, if anywhere.
    pub fuse: Option<PathBuf>,
    /// The control group of the memory controller it runs in, if one of its own.
    pub memory_group: Option<PathBuf>,
}

/// A running Larder; it ends when dropped.
#[derive(Debug)]
pub struct Larder {
    /// The process.
    pub server: Server,
    /// Its S3 face, with its own key pair.
    pub s3: Signer,
    http: SocketAddr,
    fuse: Option<PathBuf>,
    program: PathBuf,
    state: PathBuf,
}

impl Larder {
    /// Starts it and waits until it is ready.
    pub fn start(settings: &Settings<'_>) -> Result<Self> {
        if !settings.program.is_file() {
            bail!(
                "there is no Larder at {}: build it (cargo build --release -p larder) or name it \
                 by --larder",
                settings.program.display()
            );
        }
        let (state, cache) = (settings.folder.join("state"), settings.folder.join("cache"));
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&cache)?;
        let (s3, http) = (free_address()?, free_address()?);
        let mut command = command_in(settings.memory_group.as_deref(), settings.program);
        isolate(&mut command, settings.store.as_ref());
        command
            .arg("up")
            .args(["--state".as_ref(), state.as_os_str()])
            .args(["--cache", &format!("{}:64GiB", cache.display())])
            .args(["--mount", &format!("{}={}", settings.mount.0, settings.mount.1)])
            .args(["--s3", &s3.to_string(), "--http", &http.to_string()]);
        if let Some(folder) = &settings.fuse {
            fs::create_dir_all(folder)?;
            command.args(["--fuse".as_ref(), folder.as_os_str()]);
        }
        let mut server = Server::start("larder", &mut command, &settings.folder)?;
        server.wait(READY_TIMEOUT, || ready(http))?;
        server.wait_listening(s3, READY_TIMEOUT)?;
        if let Some(folder) = &settings.fuse {
            server.wait(READY_TIMEOUT, || is_mounted(folder).then_some(()))?;
        }
        let keys = Keys::from_file(&state.join("credentials"))?;
        let s3 = Signer { address: s3, keys };
        let (program, fuse) = (settings.program.to_path_buf(), settings.fuse.clone());
        Ok(Self { server, s3, http, fuse, program, state })
    }

    /// Runs `larder load` of a path to its end; what it said last. Whatever was not loaded, or
    /// could not be kept, is an error.
    pub fn load(&self, path: &str) -> Result<LoadProgress> {
        let mut command = Command::new(&self.program);
        command.args(["--json", "load", path, "--state"]).arg(&self.state);
        let done = command.output()?;
        let said = String::from_utf8_lossy(&done.stdout);
        let last = said.lines().last().map(serde_json::from_str::<LoadProgress>);
        match last {
            Some(Ok(last)) if done.status.success() && last.done && last.bytes_not_kept == 0 => {
                Ok(last)
            }
            _ => bail!("{path} was not loaded: {}", String::from_utf8_lossy(&done.stderr)),
        }
    }

    /// The value of one of its own metrics, by name and labels as they are printed; nothing while
    /// it was never counted.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.http);
        let mut page = Vec::new();
        let sink = |part: &[u8]| page.extend_from_slice(part);
        let reply = Connection::open(self.http)?.exchange(request.as_bytes(), sink)?;
        if reply.status != 200 {
            bail!("larder's metrics answered with status {}", reply.status);
        }
        let page = String::from_utf8_lossy(&page);
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }
}

impl Drop for Larder {
    /// A mount that outlived its process would hang whoever looks at it.
    fn drop(&mut self) {
        let Some(folder) = self.fuse.take() else { return };
        if let Err(error) = self.server.end() {
            eprintln!("larder could not be ended: {error:#}");
        }
        if is_mounted(&folder) {
            eprintln!("larder left {} mounted; unmounting it", folder.display());
            // Nothing more can be done here; the folder is named above.
            let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(&folder).status();
        }
    }
}

/// The program, as a member of `group` before it begins: it looks at its limit at start.
fn command_in(group: Option<&Path>, program: &Path) -> Command {
    let Some(group) = group else { return Command::new(program) };
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
    command.arg(group.join("cgroup.procs")).arg(program);
    command
}

/// Only the store of the bench: no keys, endpoints or profiles of whoever runs it.
fn isolate(command: &mut Command, store: Option<&Store>) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    if let Some(store) = store {
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", store.address))
            .env("AWS_ACCESS_KEY_ID", &store.keys.access)
            .env("AWS_SECRET_ACCESS_KEY", &store.keys.secret)
            .env("AWS_REGION", REGION);
    }
}

fn ready(http: SocketAddr) -> Option<()> {
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {http}\r\n\r\n");
    let reply = Connection::open(http).ok()?.exchange(request.as_bytes(), |_| {}).ok()?;
    (reply.status == 200).then_some(())
}

/// Whether something is mounted there: a dead mount point would show the disk below it.
fn is_mounted(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folder = folder.to_string_lossy();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&*folder))
}
