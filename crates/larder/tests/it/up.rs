// SPDX-License-Identifier: Apache-2.0
//! `up` and the commands that talk to it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
    time::Duration,
};

use larder_core::Clock;

use crate::{
    command, ended, larder,
    process::{Running, arguments},
};

#[test]
fn without_a_running_larder_every_question_ends_with_4() {
    let home = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["status"][..],
        &["ls"],
        &["stat", "/a/b"],
        &["cat", "/a/b"],
        &["load", "/a/b"],
        &["free", "/a/b"],
        &["explain", "/a/b"],
    ] {
        let asked = larder(home.path(), arguments);
        assert_eq!((asked.code, asked.stdout.as_str()), (4, ""), "{arguments:?}");
        assert!(asked.stderr.contains("start one with `larder up`"), "{}", asked.stderr);
    }
}

#[test]
fn a_file_is_listed_read_loaded_explained_and_freed() {
    let running = Running::start();
    let content: Vec<u8> = (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    fs::write(running.data().join("big file+%"), &content).expect("written");
    fs::write(running.data().join("sub/x"), "hi\n").expect("written");
    assert_eq!(running.ask(&["ls"]).stdout, "data/\n");
    assert_eq!(running.ask(&["ls", "/data"]).stdout, "big file+%\nsub/\n");
    assert_eq!(running.ask(&["ls", "-r", "/data/"]).stdout, "big file+%\nsub/x\n");
    let listed = running.ask_json(&["ls", "/data/sub"]);
    assert_eq!((&listed[0]["path"], &listed[0]["length"]), (&"/data/sub/x".into(), &3.into()));

    let stat = running.ask_json(&["stat", "/data/big file+%"]);
    assert_eq!(stat[0]["status"]["length"], content.len());
    let cat = command(running.home.path()).args(["cat", "/data/big file+%"]).output();
    assert!(cat.expect("runs").stdout == content);
    assert_eq!(running.ask(&["cat", "/data/sub/x", "--offset", "1", "--length", "1"]).stdout, "i");

    let loaded = running.ask_json(&["load", "/data"]);
    let last = &loaded.last().expect("a line");
    assert_eq!((&last["files_loaded"], &last["done"]), (&2.into(), &true.into()));
    let explained = &running.ask_json(&["explain", "/data/big file+%"])[0];
    assert_eq!(explained["resident_pages"], explained["total_pages"]);
    assert_eq!(explained["resident_bytes"], content.len());
    let freed = &running.ask_json(&["free", "/data/", "--recursive"])[0];
    assert_eq!(freed["files"], 2);
    assert_eq!(running.ask_json(&["explain", "/data/big file+%"])[0]["resident_pages"], 0);

    let status = &running.ask_json(&["status"])[0];
    assert_eq!((&status["ready"], &status["mounts"][0]["name"]), (&true.into(), &"data".into()));
    assert!(running.ask(&["status"]).stdout.contains("ready"));
    for missing in
        [&["stat", "/data/no"][..], &["cat", "/data/no"], &["load", "/data/no"], &["ls", "/sea/x"]]
    {
        assert_eq!(running.ask(missing).code, 3, "{missing:?}");
    }
}

#[test]
fn a_mount_and_a_directory_are_no_files_and_say_what_to_type() {
    let running = Running::start();
    fs::write(running.data().join("sub/x"), "hi\n").expect("written");
    for (arguments, said) in [
        (&["cat", "/data"][..], "/data/ is a mount, and `larder cat` is about one file"),
        (&["cat", "/data"], "try `larder ls /data/`"),
        (&["cat", "/data/sub"], "/data/sub is a directory"),
        (&["cat", "/data/sub/"], "try `larder ls /data/sub/`"),
        (&["stat", "/data/sub"], "try `larder ls --long /data/sub/`"),
        (&["explain", "/data/"], "/data/ is a mount"),
        (&["free", "/data"], "try `larder free --recursive /data/`"),
        (&["cat", "/"], "see them with `larder ls /`"),
    ] {
        let refused = running.ask(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(refused.stderr.contains(said), "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    }
    let missing = running.ask(&["cat", "/sea"]);
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("mounted: data"), "{}", missing.stderr);
    let freed = running.ask(&["free", "/data/sub"]);
    assert!(freed.stderr.contains("larder free --recursive /data/sub/"), "{}", freed.stderr);
}

#[test]
fn what_is_resident_survives_a_restart_and_a_kill() {
    let running = Running::start();
    fs::write(running.data().join("f"), vec![7; 300_000]).expect("written");
    assert_eq!(running.ask(&["load", "/data"]).code, 0);
    let worker = running.ask_json(&["status"])[0]["workers"][0]["id"].clone();
    let (code, said, home) = running.terminate();
    assert_eq!(code, 0, "{said}");
    assert!(!home.path().join(".local/state/larder/larder.sock").exists());

    let running = Running::start_in(home);
    assert_eq!(running.ask_json(&["status"])[0]["workers"][0]["id"], worker);
    let explained = &running.ask_json(&["explain", "/data/f"])[0];
    assert_eq!(explained["resident_pages"], 5, "{explained}");
    // A killed process leaves its socket and its locks; neither is in the way.
    let running = Running::start_in(running.kill());
    let cat = command(running.home.path()).args(["cat", "/data/f"]).output().expect("runs");
    assert!(cat.stdout == vec![7; 300_000]);
}

#[test]
fn two_processes_never_share_a_state_a_cache_or_a_port() {
    let running = Running::start();
    let home = running.home.path();
    let second: Vec<String> = arguments(home);
    let refused = ended(command(home).args(&second).output().expect("runs"));
    assert_eq!(refused.code, 7);
    assert!(refused.stderr.contains("already running (pid "), "{}", refused.stderr);

    let apart = ["--state", "other", "--cache", "cache:64MiB"];
    let refused = ended(command(home).args(&second).args(apart).output().expect("runs"));
    assert_eq!(refused.code, 7, "{}", refused.stderr);
    assert!(refused.stderr.contains("cache"), "{}", refused.stderr);

    let taken = TcpListener::bind("127.0.0.1:0").expect("free");
    let port = taken.local_addr().expect("bound").to_string();
    for face in ["--s3", "--http"] {
        let mount = format!("data=file://{}/data", home.display());
        let both = if face == "--s3" { "--http" } else { "--s3" };
        let third = ["up", "--state", "third", "--mount", &mount, face, &port, both, "127.0.0.1:0"];
        let refused = larder(home, &third);
        assert_eq!(refused.code, 7, "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("{port} is taken")), "{}", refused.stderr);
    }
}

#[test]
fn a_store_that_can_never_work_ends_the_start() {
    let home = tempfile::tempdir().expect("a directory");
    let missing = larder(home.path(), &["up", "--mount", "a=file:///no/such/directory"]);
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("/no/such/directory does not exist"), "{}", missing.stderr);
    fs::write(home.path().join("file"), "x").expect("written");
    let mount = format!("a=file://{}/file", home.path().display());
    let no_directory = larder(home.path(), &["up", "--mount", &mount]);
    assert_eq!(no_directory.code, 3, "{}", no_directory.stderr);
    assert!(no_directory.stderr.contains("/file"), "{}", no_directory.stderr);
}

#[test]
fn a_silent_store_is_not_waited_for() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("free");
    let home = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[[mount]]\nname = \"far\"\nuri = \"s3://bucket\"\nendpoint = \"http://{}\"\n\
         anonymous = true\n",
        silent.local_addr().expect("bound")
    );
    fs::create_dir(home.path().join("data")).expect("made");
    fs::write(home.path().join("data/x"), "hi\n").expect("written");
    fs::write(home.path().join("l.toml"), config).expect("written");
    let clock = Clock::system();
    let begun = clock.elapsed();
    let running = Running::start_with(home, &["--config", "l.toml"]);
    let trouble = || {
        let status = running.ask_json(&["status"]).remove(0);
        let mounts = status["workers"][0]["mounts"].as_array().expect("a list").clone();
        let far = mounts.iter().find(|mount| mount["record"]["name"] == "far").expect("mounted");
        far["last_error"].as_str().map(str::to_owned)
    };
    // It serves before the question to the store has run out of time, if this machine is quick.
    let early = trouble();
    assert!(early.is_none() || clock.elapsed() - begun > Duration::from_secs(3), "{early:?}");
    assert_eq!(running.ask(&["cat", "/data/x"]).stdout, "hi\n");
    let heard = (0..200).find_map(|_| {
        thread::park_timeout(Duration::from_millis(50));
        trouble()
    });
    assert_eq!(heard.as_deref(), Some("no answer within 3 s"));
    assert!(running.ask(&["status"]).stdout.contains("no answer within 3 s"));
    let (code, said, _home) = running.terminate();
    assert_eq!(code, 0);
    assert!(said.contains("the store does not answer"), "{said}");
}

#[test]
fn the_doctor_names_everything_that_is_broken() {
    let home = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("free");
    // Nobody listens on a port that was just given back.
    let closed = TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("bound");
    let config = format!(
        "[s3]\nlisten = \"{}\"\ncredentials_files = [\"keys\"]\n\
         [fuse]\nmountpoint = \"full\"\n\
         [[cache]]\npath = \"file\"\nsize = \"1GiB\"\n\
         [[mount]]\nname = \"gone\"\nuri = \"file:///no/such\"\n\
         [[mount]]\nname = \"down\"\nuri = \"s3://bucket\"\n\
         endpoint = \"http://{closed}\"\nanonymous = true\n",
        taken.local_addr().expect("bound")
    );
    fs::write(home.path().join("l.toml"), config).expect("written");
    fs::write(home.path().join("file"), "x").expect("written");
    fs::write(home.path().join("keys"), "[default]\nhunter2\n").expect("written");
    fs::create_dir_all(home.path().join("full/x")).expect("made");
    let doctor = larder(home.path(), &["doctor", "--config", "l.toml", "--json"]);
    assert_eq!(doctor.code, 1, "{}", doctor.stdout);
    let checks: Vec<serde_json::Value> =
        doctor.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (verdict, subject, words) in [
        ("fail", "s3", "can't be used"),
        ("fail", "keys", "line 2"),
        ("fail", "fuse", "not empty"),
        ("fail", "cache", "can't be written"),
        ("fail", "mount", "gone: "),
        ("warn", "mount", "down: "),
        ("ok", "state", "nothing runs here"),
    ] {
        let found = checks.iter().any(|check| {
            let finding = check["finding"].as_str().expect("text");
            check["verdict"] == verdict && check["subject"] == subject && finding.contains(words)
        });
        assert!(found, "{verdict} {subject} {words}: {}", doctor.stdout);
    }
    assert!(!doctor.stdout.contains("hunter2"));
    let text = larder(home.path(), &["doctor", "--config", "l.toml"]);
    assert_eq!(text.code, 1);
    assert!(text.stdout.lines().count() == checks.len() && text.stdout.contains("\nfail  cache"));
}

#[test]
fn a_place_that_can_not_be_used_ends_with_2() {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(home.path().join("data")).expect("made");
    fs::create_dir_all(home.path().join("foreign/pages")).expect("made");
    fs::write(home.path().join("file"), "x").expect("written");
    for (place, said) in [
        (["--cache", "file:64MiB"], "is a file"),
        (["--cache", "file/below:64MiB"], "is a file"),
        (["--cache", "foreign:64MiB"], "larder did not make"),
        (["--cache", "tiny:1KiB"], "the least is"),
        (["--state", "file"], "is a file"),
    ] {
        let up = arguments(home.path());
        let refused = ended(command(home.path()).args(up).args(place).output().expect("runs"));
        assert_eq!(refused.code, 2, "{place:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{place:?}: {}", refused.stderr);
    }
}

#[test]
fn the_http_face_answers_and_keys_are_private() {
    let running = Running::start();
    let get = |path: &str| {
        let address = running.address("http");
        let host = address.strip_prefix("http://").expect("an URL");
        let mut stream = TcpStream::connect(host).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("answered");
        reply
    };
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("larder_pages_capacity_bytes 67108864"));
    assert!(get("/api/v1/status").contains("\"ready\":true"));
    let credentials = running.home.path().join(".local/state/larder/credentials");
    let secret = fs::read_to_string(&credentials).expect("made");
    let secret = secret.lines().last().expect("a line").rsplit(' ').next().expect("a word");
    let mode = fs::metadata(&credentials).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!running.started.to_string().contains(secret));
    let (code, said, _home) = running.terminate();
    assert_eq!(code, 0);
    assert!(!said.contains(secret) && said.contains("ready\n"), "{said}");
}
