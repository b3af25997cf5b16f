// SPDX-License-Identifier: Apache-2.0
//! Statuses, spans, conditions and raw names.

use larder_core::{ByteRange, ErrorKind, Key, Span, Version};

use crate::Condition;

use super::suite::{Got, Keys, Suite, equal, pattern};

pub(super) async fn check(suite: &Suite) -> Result<(), String> {
    spans(suite).await?;
    empty(suite).await?;
    conditions(suite).await?;
    absence(suite).await?;
    names(suite).await
}

async fn spans(suite: &Suite) -> Result<(), String> {
    // More than one chunk of every adapter, and no round number.
    let content = pattern(1_300_007, 1);
    let length = content.len() as u64;
    let written = suite.put("spans", &content).await?;
    let told = suite.stat("spans").await;
    equal("stat after write", told.as_ref(), Ok(&written))?;
    let range = |start, end| Span::Range(ByteRange::new(start, end));
    let spans = [
        Span::All,
        Span::From(0),
        Span::From(1),
        Span::From(length - 1),
        range(0, 1),
        range(0, length),
        range(65_535, 65_537),
        range(524_287, 1_048_577),
        range(length - 1, length),
        range(length - 1, length + 1000),
        range(1, u64::MAX),
        Span::Last(1),
        Span::Last(length),
        Span::Last(length + 1),
        Span::Last(600_000),
    ];
    for span in spans {
        let expected = span.resolve(length).expect("spans above lie in the file");
        let bytes = content.slice(expected.start as usize..expected.end as usize);
        let got = suite.get("spans", span, &Condition::None).await?;
        let Got::Bytes { status, first, bytes: found } = got else {
            return Err(format!("read {span:?}: {got:?} instead of bytes"));
        };
        equal(format_args!("first byte of {span:?}"), first, expected.start)?;
        if found != bytes {
            return Err(format!("read {span:?}: wrong bytes"));
        }
        equal(format_args!("status in the reply to {span:?}"), &status, &written)?;
    }
    for span in [Span::From(length), range(length, length + 1), range(5, 5), Span::Last(0)] {
        let got = suite.get("spans", span, &Condition::None).await?;
        equal(format_args!("read {span:?}"), got, Got::OutOfRange(written.clone()))?;
    }
    Ok(())
}

async fn empty(suite: &Suite) -> Result<(), String> {
    let written = suite.put("empty", &pattern(0, 0)).await?;
    equal("bytes of an empty file", suite.whole("empty").await?.len(), 0)?;
    for span in [Span::From(0), Span::Range(ByteRange::new(0, 1)), Span::Last(1)] {
        let got = suite.get("empty", span, &Condition::None).await?;
        let promised = Got::OutOfRange(written.clone());
        equal(format_args!("read {span:?} of an empty file"), got, promised)?;
    }
    Ok(())
}

async fn conditions(suite: &Suite) -> Result<(), String> {
    let old = suite.put("versioned", &pattern(1000, 2)).await?;
    let new = suite.put("versioned", &pattern(1001, 3)).await?;
    if old.version == new.version {
        return Err("two contents have one version".to_owned());
    }
    let behind = Span::From(5000);
    let cases = [
        (Span::All, Condition::Match(old.version.clone()), Some(Got::Failed(ErrorKind::Stale))),
        (behind, Condition::Match(old.version.clone()), Some(Got::Failed(ErrorKind::Stale))),
        (Span::Last(3), Condition::NoneMatch(new.version.clone()), Some(Got::Unchanged)),
        (Span::All, Condition::NoneMatch(new.version.clone()), Some(Got::Unchanged)),
        (behind, Condition::Match(new.version.clone()), Some(Got::OutOfRange(new.clone()))),
        (Span::Last(0), Condition::Match(old.version.clone()), Some(Got::Failed(ErrorKind::Stale))),
        (Span::Last(3), Condition::Match(new.version.clone()), None),
        (Span::All, Condition::NoneMatch(old.version.clone()), None),
        (Span::All, Condition::Match(Version::new("none")), Some(Got::Failed(ErrorKind::Stale))),
    ];
    for (span, condition, promised) in cases {
        let got = suite.get("versioned", span, &condition).await?;
        match promised {
            Some(promised) => equal(format_args!("read {span:?} if {condition:?}"), got, promised)?,
            None if matches!(&got, Got::Bytes { status, .. } if *status == new) => {}
            None => return Err(format!("read {span:?} if {condition:?}: {got:?}, not bytes")),
        }
    }
    Ok(())
}

async fn absence(suite: &Suite) -> Result<(), String> {
    suite.put("dir/file", &pattern(1, 4)).await?;
    let long = ["l".repeat(200), "l".repeat(200), "l".repeat(200)].join("/");
    let names = ["nothing", "dir", "dir/", "dir/file/below", "dir/../dir/file", long.as_str()];
    for name in names {
        let odd = name.contains("/../") || name.ends_with('/');
        if odd && suite.capabilities.keys == Keys::Aliased {
            continue;
        }
        equal(format_args!("stat {name:?}"), suite.stat(name).await, Err(ErrorKind::NotFound))?;
        let got = suite.get(name, Span::All, &Condition::None).await?;
        equal(format_args!("read {name:?}"), got, Got::Failed(ErrorKind::NotFound))?;
        let got = suite.get(name, Span::Last(4), &Condition::Match(Version::new("x"))).await?;
        if !matches!(got, Got::Failed(ErrorKind::NotFound | ErrorKind::Stale)) {
            return Err(format!("conditional read of {name:?}: {got:?}"));
        }
        let deleted = suite.store.delete(&suite.key(name)).await;
        deleted.map_err(|error| format!("delete of the missing {name:?}: {error}"))?;
    }
    let copied = suite.store.copy(&suite.key("nothing"), &suite.key("copied")).await;
    let kind = copied.map_err(|error| error.kind()).err();
    equal("copy of a missing file", kind, Some(ErrorKind::NotFound))?;
    let root = Key::new("").expect("the empty key is legal");
    let kind = suite.store.stat(&root).await.map_err(|error| error.kind()).err();
    equal("stat of the mount itself", kind, Some(ErrorKind::NotFound))
}

/// Names that a careless client would change.
const PLAIN: [&str; 12] = [
    "names/a+b %25 ü?#",
    "names/with space",
    " names/ leads and trails ",
    "names/%2F",
    "names/a&b=c;d:e@f$g,h!i*j'k(l)m",
    "names/\"quoted\" <tag> \\ | ^ ` {x}",
    "names/日本語/🦀",
    "names/e\u{301} is not é",
    "names/..hidden",
    "names/...",
    "names/tab\tand newline\n",
    "names/~tilde-_.",
];

/// Names that no file system can hold beside each other.
const RAW: [&str; 15] = [
    "raw",
    "raw/",
    "raw//",
    "raw/a",
    "raw//a",
    "raw/a/",
    "raw/a//b",
    "raw/./a",
    "raw/../a",
    "/a",
    "//a",
    "..",
    "../a",
    ".",
    "raw/k/../e",
];

async fn names(suite: &Suite) -> Result<(), String> {
    let mut names = PLAIN.to_vec();
    match suite.capabilities.keys {
        Keys::Raw => names.extend(RAW),
        Keys::Refused => refusals(suite).await?,
        Keys::Aliased => {}
    }
    for (seed, name) in names.iter().enumerate() {
        suite.put(name, &pattern(seed + 10, seed as u64)).await?;
    }
    for (seed, name) in names.iter().enumerate() {
        let found = suite.whole(name).await?;
        if found != pattern(seed + 10, seed as u64) {
            return Err(format!("{name:?} holds the bytes of another key"));
        }
        let length = suite.stat(name).await.map(|status| status.length);
        equal(format_args!("length of {name:?}"), length, Ok(seed as u64 + 10))?;
    }
    for name in &names {
        let deleted = suite.store.delete(&suite.key(name)).await;
        deleted.map_err(|error| format!("delete {name:?}: {error}"))?;
        equal(format_args!("stat {name:?}"), suite.stat(name).await, Err(ErrorKind::NotFound))?;
    }
    Ok(())
}

async fn refusals(suite: &Suite) -> Result<(), String> {
    suite.put("raw/a", &pattern(1, 5)).await?;
    for name in ["raw/", "raw//a", "/a", "..", "raw/../raw/a", "raw/./a"] {
        equal(format_args!("stat {name:?}"), suite.stat(name).await, Err(ErrorKind::NotFound))?;
        let body = Box::pin(futures::stream::empty());
        let key = suite.key(name);
        let written = suite.store.write(&key, 0, body, &Default::default()).await;
        let kind = written.map_err(|error| error.kind()).err();
        equal(format_args!("write of {name:?}"), kind, Some(ErrorKind::Invalid))?;
    }
    Ok(())
}
