// SPDX-License-Identifier: Apache-2.0
//! Odd names, extended attributes, and directories read out of order.

use std::{fs, io::ErrorKind, process::Command};

use larder_core::Freshness;
use rustix::{
    fs::{Dir, Mode, OFlags, getxattr, getxattr_query, listxattr, listxattr_query, open},
    io::Errno,
};

use crate::support::{Mounted, can_mount};

#[test]
fn odd_names_are_as_documented() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::Always);
    let longest = "n".repeat(255);
    let odd = ["a b", "a+b %25 ü?#", "line\nbreak", "'\"\\", "…", longest.as_str(), "-rf", "~"];
    for name in odd {
        mounted.store.put(name, name.to_owned());
    }
    let left_out = ["double//slash", "/lead", "./dot", "d/../dots", "marker/"];
    for key in left_out {
        mounted.store.put(key, "unreachable or a marker");
    }
    mounted.store.put(&"n".repeat(256), "too long");
    mounted.store.put("both", "the file");
    mounted.store.put("both/below", "the one below");
    for name in odd {
        assert_eq!(mounted.read(name).unwrap(), name.as_bytes());
    }
    let mut names = mounted.names("");
    names.sort();
    let mut wanted: Vec<&str> = odd.to_vec();
    wanted.extend(["both", "d", "double", "marker"]);
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    assert_eq!(mounted.names("double"), [""; 0]);
    assert_eq!(mounted.names("marker"), [""; 0]);
    assert_eq!(mounted.read("both").unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(mounted.read("both/below").unwrap(), b"the one below");
    let error = mounted.read(&"n".repeat(256)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    let deep = [longest.as_str(); 5].join("/");
    assert!(mounted.read(&deep).is_err(), "a key that no store can hold");
}

#[test]
fn facts_are_extended_attributes() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    mounted.store.put("d/a", "hello");
    let get = |name: &str, fact: &str| {
        let mut buffer = [0; 256];
        let count = getxattr(mounted.path(name), fact, &mut buffer)?;
        Ok::<_, Errno>(String::from_utf8(buffer[..count].to_vec()).unwrap())
    };
    assert_eq!(get("d/a", "user.larder.uri").unwrap(), "mem://d/a");
    assert_eq!(get("d/a", "user.larder.version").unwrap(), "1");
    assert_eq!(get("d/a", "user.larder.resident_pages").unwrap(), "1");
    assert_eq!(get("d/a", "user.larder.total_pages").unwrap(), "2");
    assert_eq!(get("d/a", "user.larder.age_ms").unwrap(), "7");
    assert_eq!(get("d", "user.larder.uri").unwrap(), "mem://d/");
    assert_eq!(get("d", "user.larder.version"), Err(Errno::NODATA));
    assert_eq!(get("d/a", "user.other"), Err(Errno::NODATA));
    let path = mounted.path("d/a");
    assert_eq!(getxattr_query(&path, "user.larder.uri").unwrap(), 9);
    assert_eq!(getxattr(&path, "user.larder.uri", &mut [0; 8]), Err(Errno::RANGE));
    let mut names = vec![0; listxattr_query(&path).unwrap()];
    assert_eq!(listxattr(&path, &mut names).unwrap(), names.len());
    assert_eq!(listxattr(&path, &mut [0; 3]), Err(Errno::RANGE));
    assert_eq!(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).count(), 5);
    assert_eq!(listxattr_query(mounted.directory.path()).unwrap(), 0);
}

#[test]
fn a_directory_can_be_rewound_and_sought_in() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    for at in 0..2_500 {
        mounted.store.put(&format!("d/{at:04}"), "x");
    }
    let directory =
        open(mounted.path("d"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut directory = Dir::new(directory).unwrap();
    let name = |entry: Option<rustix::io::Result<rustix::fs::DirEntry>>| {
        let entry = entry.unwrap().unwrap();
        (entry.file_name().to_str().unwrap().to_owned(), entry.offset())
    };
    let all: Vec<_> = std::iter::from_fn(|| Some(directory.read()?.unwrap())).collect();
    assert_eq!(all.len(), 2_502);
    let (back, wanted) = (all[500].offset(), all[501].file_name().to_owned());
    directory.seek(back).unwrap();
    assert_eq!(name(directory.read()).0.as_bytes(), wanted.as_bytes());
    directory.rewind();
    let again: Vec<_> = std::iter::from_fn(|| Some(directory.read()?.unwrap())).collect();
    assert_eq!(again.len(), 2_502);
    mounted.store.put("d/9999", "x");
    directory.rewind();
    let fresh: Vec<_> = std::iter::from_fn(|| Some(directory.read()?.unwrap())).collect();
    assert_eq!(fresh.len(), 2_503, "rewinding looks anew");
}

#[test]
fn other_programs_read_it_by_mmap_and_by_copying_in_the_kernel() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(Freshness::default());
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 9) as u8).collect();
    mounted.store.put("big", content.clone());
    let outside = tempfile::tempdir().unwrap();
    let copy = outside.path().join("copy");
    fs::copy(mounted.path("big"), &copy).unwrap();
    assert!(fs::read(&copy).unwrap() == content);
    let script = "import mmap,sys; f=open(sys.argv[1],'rb'); \
        m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); \
        sys.stdout.buffer.write(m[2000000:2000100])";
    let output = Command::new("python3").args(["-c", script]).arg(mounted.path("big")).output();
    match output {
        Ok(output) => assert_eq!(output.stdout, content[2_000_000..2_000_100]),
        Err(_) => eprintln!("SKIPPED: no python3 here to map a file with"),
    }
}
