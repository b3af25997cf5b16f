// SPDX-License-Identifier: Apache-2.0
//! Versions that lie whole in one local file.

use std::{os::unix::fs::FileExt, sync::Arc};

use crate::pantry::{PAGE, Pantry, filesystem, noise, path};

#[tokio::test]
async fn a_local_file_is_handed_out_only_while_every_byte_of_it_is_right() {
    let pantry = Arc::new(Pantry::default());
    // Checked on the spot, and by a thread that is waited for.
    for length in [5 * PAGE + 1, 40 * PAGE] {
        pantry.put("a", &noise(length));
        let (filesystem, local) = (filesystem(&pantry), pantry.file("a"));
        let handle = filesystem.open(&path("a")).await.unwrap();
        *pantry.whole.lock().unwrap() = false;
        assert!(filesystem.local_file(&handle).await.is_none(), "not whole");
        *pantry.whole.lock().unwrap() = true;
        for _ in 0..3 {
            let found = filesystem.local_file(&handle).await.unwrap();
            assert_eq!(found.file.metadata().unwrap().len(), length as u64);
        }
        let (at, mut byte) = (length as u64 - 1, [0]);
        local.read_exact_at(&mut byte, at).unwrap();
        local.write_all_at(&[!byte[0]], at).unwrap();
        assert!(filesystem.local_file(&handle).await.is_none(), "a byte is wrong");
        let told = pantry.reads.lock().unwrap().last().unwrap().suspects.clone();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0 as usize, (length - 1) / PAGE);
        local.write_all_at(&byte, at).unwrap();
        assert!(filesystem.local_file(&handle).await.is_some(), "right again");
        local.set_len(length as u64 + 1).unwrap();
        assert!(filesystem.local_file(&handle).await.is_none(), "not an exact copy");
    }
}
