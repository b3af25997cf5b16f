// SPDX-License-Identifier: Apache-2.0
//! Writing, copying, deleting, parts.

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_core::{Attributes, ByteRange, Error, ErrorKind};

use super::suite::{Suite, equal, pattern};

pub(super) async fn check(suite: &Suite) -> Result<(), String> {
    broken_uploads(suite).await?;
    attributes(suite).await?;
    copies(suite).await?;
    parts(suite).await
}

/// A body that is not what was told leaves the old content.
async fn broken_uploads(suite: &Suite) -> Result<(), String> {
    let old = pattern(100, 1);
    suite.put("broken", &old).await?;
    let chunk = || Ok(Bytes::from_static(b"0123456789"));
    let failing = || Err(Error::corrupt("a failing source"));
    let bodies: [(&str, u64, Vec<larder_core::Result<Bytes>>); 5] = [
        ("short", 50, vec![chunk()]),
        ("long", 15, vec![chunk(), chunk()]),
        ("longer by a chunk", 10, vec![chunk(), chunk()]),
        ("longer than nothing", 0, vec![chunk()]),
        ("failing", 20, vec![chunk(), failing()]),
    ];
    for (what, length, chunks) in bodies {
        for name in ["broken", "broken-new"] {
            let chunks = chunks.iter().map(|chunk| match chunk {
                Ok(chunk) => Ok(chunk.clone()),
                Err(error) => Err(error.duplicate()),
            });
            let body = stream::iter(chunks.collect::<Vec<_>>()).boxed();
            let key = suite.key(name);
            let written = suite.store.write(&key, length, body, &Attributes::default()).await;
            let kind = written.map_err(|error| error.kind()).err();
            let promised = if what == "failing" { ErrorKind::Corrupt } else { ErrorKind::Invalid };
            equal(format_args!("write of a body that is {what}"), kind, Some(promised))?;
        }
        if suite.whole("broken").await? != old {
            return Err(format!("a body that is {what} changed the content"));
        }
        let told = suite.stat("broken-new").await;
        equal(format_args!("stat behind a {what} body"), told, Err(ErrorKind::NotFound))?;
    }
    Ok(())
}

async fn attributes(suite: &Suite) -> Result<(), String> {
    if !suite.capabilities.attributes {
        return Ok(());
    }
    let given = Attributes {
        content_type: Some("text/x-larder; charset=utf-8".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        content_language: Some("de, en".to_owned()),
        content_disposition: Some("attachment; filename=\"a b.txt\"".to_owned()),
        cache_control: Some("max-age=3600, private".to_owned()),
        expires: Some("Thu, 01 Dec 2033 16:00:00 GMT".to_owned()),
        user: vec![
            ("colour".to_owned(), "dark  blue".to_owned()),
            ("n".to_owned(), "1".to_owned()),
        ],
        ..Attributes::default()
    };
    let bytes = pattern(20, 6);
    let written = suite.put_with("attributes", &bytes, &given).await?;
    let copied = suite.store.copy(&suite.key("attributes"), &suite.key("attributes-2")).await;
    let copied = copied.map_err(|error| format!("copy: {error}"))?;
    for (what, status) in [("write", written), ("copy", copied)] {
        let mut told = status.attributes.ok_or(format!("{what} tells no attributes"))?;
        told.user.sort();
        // A store may add what was not given; what was given must come back.
        let told = Attributes { storage_class: None, version_id: None, ..*told };
        equal(format_args!("attributes told by {what}"), &told, &given)?;
    }
    Ok(())
}

async fn copies(suite: &Suite) -> Result<(), String> {
    let bytes = pattern(200_000, 7);
    let source = suite.put("copy/source ü+%", &bytes).await?;
    suite.put("copy/target", &pattern(5, 8)).await?;
    for to in ["copy/target", "copy/new/deep+er"] {
        let from = suite.key("copy/source ü+%");
        let copied = suite.store.copy(&from, &suite.key(to)).await;
        let copied = copied.map_err(|error| format!("copy to {to:?}: {error}"))?;
        equal("length of a copy", copied.length, source.length)?;
        equal("stat of a copy", suite.stat(to).await, Ok(copied))?;
        if suite.whole(to).await? != bytes {
            return Err(format!("the copy {to:?} has other bytes"));
        }
    }
    Ok(())
}

async fn parts(suite: &Suite) -> Result<(), String> {
    let written = suite.put("parts", &pattern(30, 10)).await?;
    let part = suite.store.part(&suite.key("parts"), 1).await;
    if let Some((status, part)) = part.map_err(|error| format!("part 1: {error}"))? {
        equal("status told with a part", status.version, written.version)?;
        equal("range of the only part", part.range, ByteRange::new(0, 30))?;
        let second = suite.store.part(&suite.key("parts"), 2).await;
        let kind = second.map_err(|error| error.kind()).err();
        equal("part 2 of 1", kind, Some(ErrorKind::Invalid))?;
    }
    let missing = suite.store.part(&suite.key("parts-missing"), 1).await;
    let kind = missing.map_err(|error| error.kind()).err();
    equal("part of a missing file", kind, Some(ErrorKind::NotFound))
}
