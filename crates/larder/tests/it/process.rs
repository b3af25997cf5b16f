// SPDX-License-Identifier: Apache-2.0
//! A running `larder up` over a directory, ended with its test.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Ended, command, larder};

/// Longer than anything here takes on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A process that serves the directory `data` as the mount `data`.
pub(crate) struct Running {
    pub(crate) home: TempDir,
    /// What it said on stdout when it was ready.
    pub(crate) started: serde_json::Value,
    child: Child,
}

impl Running {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(home.path().join("data/sub")).expect("made");
        Self::start_in(home)
    }

    /// Starts over what an earlier process left.
    pub(crate) fn start_in(home: TempDir) -> Self {
        Self::start_with(home, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(home: TempDir, more: &[&str]) -> Self {
        let mut child = command(home.path())
            .args(arguments(home.path()))
            .args(["--json", "--cache", "cache:64MiB"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = tell.send(line);
        });
        let line = told.recv_timeout(WAIT_MAX).expect("ready or ended in time");
        let Ok(started) = serde_json::from_str(&line) else {
            let _ = child.kill();
            let mut said = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut said);
            panic!("it did not start: {said}");
        };
        Self { home, started, child }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Runs a command that talks to it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ended {
        larder(self.home.path(), arguments)
    }

    /// The same, whose JSON is parsed line by line.
    pub(crate) fn ask_json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let ended = self.ask(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        let parse = |line| serde_json::from_str(line).expect("JSON");
        ended.stdout.lines().map(parse).collect()
    }

    pub(crate) fn address(&self, face: &str) -> String {
        let faces = self.started["faces"].as_array().expect("a list");
        let found = faces.iter().find(|found| found["face"] == face).expect("this face serves");
        found["address"].as_str().expect("text").to_owned()
    }

    /// Asks it to end; its exit code, what it said, and its home for a next start.
    pub(crate) fn terminate(mut self) -> (i32, String, TempDir) {
        self.signal(rustix::process::Signal::TERM);
        let mut stderr = self.child.stderr.take().expect("piped");
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            let _ = tell.send(said);
        });
        let said = told.recv_timeout(WAIT_MAX).expect("it ends in time");
        let code = self.child.wait().expect("ours").code().expect("not killed");
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().expect("a directory"));
        (code, said, home)
    }

    /// Ends it as a power cut would; its home for a next start.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
        std::mem::replace(&mut self.home, tempfile::tempdir().expect("a directory"))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
        rustix::process::kill_process(pid, signal).expect("it lives");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `up` over `data` on free ports.
pub(crate) fn arguments(home: &Path) -> Vec<String> {
    let mount = format!("data=file://{}/data", home.display());
    let free = "127.0.0.1:0";
    ["up", "--mount", &mount, "--s3", free, "--http", free].map(str::to_owned).to_vec()
}
