// SPDX-License-Identifier: Apache-2.0
//! Bytes come out as they went in, whatever carries them and whatever rots.

use std::sync::Arc;

use futures::TryStreamExt;
use larder_client::{Filesystem, ReadOptions};
use larder_core::{ByteRange, ErrorKind, PageIndex, Result, Span};

use crate::pantry::{PAGE, Pantry, filesystem, noise, path};

async fn read(filesystem: &Arc<Filesystem>, key: &str, span: Span) -> Result<Vec<u8>> {
    let options = ReadOptions { span, ..ReadOptions::default() };
    let reading = filesystem.read(&path(key), options).await?;
    let pieces: Vec<bytes::Bytes> = reading.body.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn async_and_blocking_reads_give_the_same_bytes() {
    let pantry = Arc::new(Pantry::default());
    let bytes = noise(10 * PAGE + 77);
    pantry.put("file", &bytes);
    let filesystem = filesystem(&pantry);
    let handle = Arc::new(filesystem.open(&path("file")).await.unwrap());
    let edges = [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 9 * PAGE + 5, bytes.len() - 1];
    for start in edges {
        for end in edges.into_iter().chain([bytes.len(), bytes.len() + 1000]) {
            if end <= start {
                continue;
            }
            let expected = &bytes[start..end.min(bytes.len())];
            let range = ByteRange::new(start as u64, end as u64);
            let got = read(&filesystem, "file", Span::Range(range)).await.unwrap();
            assert!(got == expected, "async {start}..{end}");
            let (blocking, handle) = (Arc::clone(&filesystem), Arc::clone(&handle));
            let task = tokio::task::spawn_blocking(move || {
                let mut into = vec![0; end - start];
                let count = blocking.read_at(&handle, start as u64, &mut into).unwrap();
                into.truncate(count);
                into
            });
            assert!(task.await.unwrap() == expected, "blocking {start}..{end}");
        }
    }
    assert!(read(&filesystem, "file", Span::From(bytes.len() as u64)).await.unwrap().is_empty());
}

#[tokio::test]
async fn rotten_pages_are_reported_and_never_served() {
    let pantry = Arc::new(Pantry::default());
    let bytes = noise(6 * PAGE);
    pantry.put("file", &bytes);
    let filesystem = filesystem(&pantry);
    *pantry.rotten.lock().unwrap() = vec![PageIndex(0), PageIndex(4)];
    assert!(read(&filesystem, "file", Span::All).await.unwrap() == bytes);
    let suspects: Vec<_> =
        pantry.reads.lock().unwrap().iter().map(|request| request.suspects.clone()).collect();
    assert_eq!(suspects, [vec![], vec![PageIndex(0)], vec![PageIndex(4)]]);
    let resumed = pantry.reads.lock().unwrap()[2].span;
    assert_eq!(resumed, Span::Range(ByteRange::new(4 * PAGE as u64, 6 * PAGE as u64)));

    *pantry.rotten.lock().unwrap() = vec![PageIndex(2)];
    let handle = filesystem.open(&path("file")).await.unwrap();
    let mut into = vec![0; bytes.len()];
    let count = filesystem.read_into(&handle, 0, &mut into).await.unwrap();
    assert!(into[..count] == bytes);
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_not_a_short_file() {
    let pantry = Arc::new(Pantry::default());
    pantry.put("file", &noise(6 * PAGE));
    let filesystem = filesystem(&pantry);
    *pantry.chunks_max.lock().unwrap() = Some(3);
    let error = read(&filesystem, "file", Span::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let handle = filesystem.open(&path("file")).await.unwrap();
    let error = filesystem.read_into(&handle, 0, &mut vec![0; 6 * PAGE]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_reader_that_does_not_poll_holds_one_buffer() {
    let pantry = Arc::new(Pantry::default());
    pantry.put("file", &noise(100 * PAGE));
    let filesystem = filesystem(&pantry);
    let mut slow = Vec::new();
    for _ in 0..16 {
        let reading = filesystem.read(&path("file"), ReadOptions::default()).await.unwrap();
        slow.push(reading);
    }
    let memory = filesystem.memory_used();
    assert!(memory <= 16 * 4 * PAGE as u64, "{memory} bytes for 16 readers");
    drop(slow);
    assert_eq!(filesystem.memory_used(), 0);
}

#[tokio::test]
async fn only_sequential_readers_fetch_ahead() {
    let pantry = Arc::new(Pantry::default());
    pantry.put("file", &noise(100 * PAGE));
    let filesystem = filesystem(&pantry);
    let handle = filesystem.open(&path("file")).await.unwrap();
    let mut into = vec![0; 2 * PAGE];
    for page in [0_u64, 2, 4, 6, 90, 92] {
        filesystem.read_into(&handle, page * PAGE as u64, &mut into).await.unwrap();
    }
    let ahead: Vec<u64> =
        pantry.reads.lock().unwrap().iter().map(|request| request.ahead >> 10).collect();
    // Two short reads in a row may be chance; a quarter of the 4 MiB budget is the most.
    assert_eq!(ahead, [0, 0, 1024, 1024, 0, 0]);
}
