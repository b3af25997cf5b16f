// SPDX-License-Identifier: Apache-2.0
//! Usage, configuration, completions and manual pages.

use std::fs;

use crate::{command, ended, larder};

#[test]
fn usage_errors_end_with_2_and_say_what_is_right() {
    let home = tempfile::tempdir().expect("a directory");
    for (arguments, said) in [
        (&["nonsense"][..], "unrecognized subcommand 'nonsense'"),
        (&["up"], "--mount lake=s3://my-bucket"),
        (&["up", "--mount", "lake"], "write NAME=URI"),
        (&["up", "--mount", "Lake=s3://abc"], "'Lake' is not a mount name"),
        (&["up", "--mount", "a=gs://abc"], "s3://bucket, s3://bucket/prefix or file:///directory"),
        (&["up", "--mount", "a=file:///", "--s3", "9710"], "listen (address:port)"),
        (&["up", "--log", "loud", "--mount", "a=file:///"], "'loud' is not a log level"),
        (&["up", "--config", "none.toml"], "can't read the configuration file none.toml"),
    ] {
        let ended = larder(home.path(), arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn check_names_file_line_and_key_of_every_mistake() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("l.toml");
    fs::write(&file, "[s3]\nlisen = 1\n\n[[mount]]\nname = \"a\"\nfreshness = \"60\"\n")
        .expect("ok");
    let checked = larder(home.path(), &["config", "check", "--config", "l.toml"]);
    assert_eq!(checked.code, 2);
    let lines: Vec<&str> = checked.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{}", checked.stderr);
    assert_eq!(
        lines[0],
        "larder: l.toml:2: there is no setting 'lisen' in [s3]; did you mean 'listen'?"
    );
    assert_eq!(lines[1], "l.toml:4: this [[mount]] needs uri (text)");
    assert!(lines[2].starts_with("l.toml:6: mount.freshness (duration"), "{}", lines[2]);

    let checked = larder(home.path(), &["config", "check", "--config", "l.toml", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&checked.stdout).expect("one JSON value");
    assert_eq!((checked.code, told["problems"].as_array().map(Vec::len)), (2, Some(3)), "{told}");

    fs::write(&file, "[[mount]]\nname = \"a\"\nuri = \"s3://abc\"\n").expect("written");
    assert_eq!(larder(home.path(), &["config", "check", "--config", "l.toml"]).code, 0);
    let checked = larder(home.path(), &["config", "check", "--config", "l.toml", "--json"]);
    assert_eq!(checked.stdout, "{\"file\":\"l.toml\",\"mounts\":1,\"problems\":[]}\n");
    let secret = "[[mount]]\nname = \"a\"\nuri = \"s3://abc\"\nendpoint = \"http://u:hunter2@h\"\n";
    fs::write(&file, secret).expect("written");
    let checked = larder(home.path(), &["config", "check", "--config", "l.toml"]);
    assert_eq!(checked.code, 2);
    assert!(!checked.stderr.contains("hunter2"), "{}", checked.stderr);
}

#[test]
fn check_says_what_is_wrong_with_rules() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("l.toml");
    let start = "[[mount]]\nname = \"a\"\nuri = \"file:///\"\n\
                 [[cache]]\npath = \"c\"\nsize = \"1GiB\"\n";
    let right = "[[rules]]\npath = \"/a/x\"\npin = \"1GiB\"\npriority = \"high\"\nttl = \"7d\"\n\
                 quota = \"2GiB\"\nquota_files = 1000\n\
                 [[rules]]\npath = \"/a/tmp\"\ncache = false\n";
    fs::write(&file, format!("{start}{right}")).expect("written");
    let checked = larder(home.path(), &["config", "check", "--config", "l.toml"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for (rules, said) in [
        ("path = \"a/x\"", "l.toml:8: rules.path (path): 'a/x' is not a path of Larder"),
        ("pin = \"1GiB\"", "l.toml:7: this [[rules]] needs path (path)"),
        ("path = \"/a\"\npriority = \"urgent\"", "rules.priority (`low`, `normal` or `high`)"),
        ("path = \"/a\"\npins = \"1GiB\"", "did you mean 'pin'?"),
        ("path = \"/b/x\"\npin = \"1\"", "rule /b/x: there is no mount 'b'; known: a"),
        ("path = \"/a\"\npin = \"2GiB\"", "pin 2 GiB and the cache directories hold 1 GiB"),
        ("path = \"/a\"\ncache = false\nttl = \"1d\"", "rule /a: cache = false leaves nothing"),
        ("path = \"/a\"\nquota_files = -1", "rules.quota_files (number)"),
    ] {
        fs::write(&file, format!("{start}[[rules]]\n{rules}\n")).expect("written");
        let checked = larder(home.path(), &["config", "check", "--config", "l.toml"]);
        assert_eq!(checked.code, 2, "{rules}");
        assert!(checked.stderr.contains(said), "{rules}: {}", checked.stderr);
    }
}

#[test]
fn show_tells_where_each_value_came_from() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join(".config/larder/larder.toml");
    fs::create_dir_all(file.parent().expect("not the root")).expect("made");
    fs::write(&file, "[http]\nlisten = \"127.0.0.1:7\"\n").expect("written");
    let output = command(home.path())
        .env("LARDER_S3", "127.0.0.1:8")
        .args(["config", "show", "--mount", "a=s3://abc"])
        .output();
    let shown = ended(output.expect("the binary runs"));
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for line in [
        "http.listen = \"127.0.0.1:7\"  # file, line 2",
        "s3.listen = \"127.0.0.1:8\"  # environment",
        "mount[0].uri = \"s3://abc\"  # flag",
        "mount[0].freshness = \"60s\"  # default",
        "# memory_budget is not set",
    ] {
        assert!(shown.stdout.lines().any(|found| found == line), "{line}\n{}", shown.stdout);
    }
}

#[test]
fn completions_manual_pages_and_documentation_come_from_the_code() {
    let home = tempfile::tempdir().expect("a directory");
    let completions = larder(home.path(), &["completions", "bash"]);
    assert!(completions.stdout.contains("_larder()"), "{}", completions.stderr);
    assert_eq!(larder(home.path(), &["completions", "tcsh"]).code, 2);
    assert_eq!(larder(home.path(), &["man", "pages"]).code, 0);
    let page = fs::read_to_string(home.path().join("pages/larder-up.1")).expect("written");
    assert!(page.contains("mount") && page.contains("Exit codes"), "{page}");
    let help = larder(home.path(), &["--help"]);
    assert!(help.stdout.contains("4  no larder runs with this state directory"));
    let docs = larder(home.path(), &["config", "docs"]);
    assert!(docs.stdout.contains("## `[[mount]]`, any number of times"));
    let docs = larder(home.path(), &["config", "docs", "--json"]);
    let settings: Vec<serde_json::Value> =
        docs.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let listen = settings.iter().find(|setting| setting["key"] == "s3.listen").expect("there");
    assert_eq!(listen["default"], "127.0.0.1:9710");
    assert!(settings.iter().any(|setting| setting["key"] == "mount[].uri"));
}
