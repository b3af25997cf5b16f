// SPDX-License-Identifier: Apache-2.0
//! Reads of less than a page, again and again: each byte is compared with a checksum in the read
//! that gives it out, the worker is asked once, and what rots is noticed.

use std::{os::unix::fs::FileExt, sync::Arc};

use larder_client::{Filesystem, Handle};
use larder_core::{Generations, PageIndex, Random};

use crate::pantry::{PAGE, Pantry, filesystem, noise, path};

/// Pages 0, 2 and 4 are resident, the last of them short.
const LENGTH: usize = 4 * PAGE + 10_000;

struct Scene {
    pantry: Arc<Pantry>,
    filesystem: Arc<Filesystem>,
    bytes: Vec<u8>,
    handle: Handle,
}

impl Scene {
    async fn new(generations: Option<Arc<Generations>>) -> Self {
        let (pantry, bytes) = (Arc::new(Pantry::default()), noise(LENGTH));
        pantry.put("file", &bytes);
        *pantry.generations.lock().unwrap() = generations;
        let filesystem = filesystem(&pantry);
        let handle = filesystem.open(&path("file")).await.unwrap();
        Self { pantry, filesystem, bytes, handle }
    }

    /// Reads and compares with the truth.
    async fn read(&self, offset: usize, length: usize) {
        let mut into = vec![0; length];
        let count = self.filesystem.read_into(&self.handle, offset as u64, &mut into).await;
        let expected = &self.bytes[offset..(offset + length).min(LENGTH)];
        assert_eq!(count.unwrap(), expected.len(), "{length} bytes at {offset}");
        assert!(&into[..expected.len()] == expected, "wrong bytes of {length} at {offset}");
    }

    fn flip(&self, at: usize) {
        self.pantry.file("file").write_all_at(&[!self.bytes[at]], at as u64).unwrap();
    }

    fn asked(&self) -> usize {
        self.pantry.reads.lock().unwrap().len()
    }

    /// The pages that were reported as bad, over all reads.
    fn reported(&self) -> Vec<PageIndex> {
        let reads = self.pantry.reads.lock().unwrap();
        reads.iter().flat_map(|request| request.suspects.clone()).collect()
    }
}

#[tokio::test]
async fn the_worker_is_asked_once_and_counts_all() {
    let generations = Arc::new(Generations::new(1));
    let scene = Scene::new(Some(Arc::clone(&generations))).await;
    for offset in [2 * PAGE, 2 * PAGE + 1, 2 * PAGE + 4095, 3 * PAGE - 1] {
        for length in [1, 100, 4096, 4097, 9000] {
            scene.read(offset, length.min(3 * PAGE - offset)).await;
        }
    }
    scene.read(2 * PAGE, PAGE).await;
    assert_eq!(scene.asked(), 1);
    generations.end_all();
    scene.read(2 * PAGE, 4096).await;
    assert_eq!(scene.asked(), 2, "what was valid is not");
    scene.read(2 * PAGE, 4096).await;
    assert_eq!(scene.asked(), 2);
    drop(scene.handle);
    let (reads, bytes) = *scene.pantry.repeated.lock().unwrap();
    assert_eq!(reads, 4 * 5 + 1 - 1 + 1);
    assert_eq!(bytes as usize, (1 + 100 + 4096 + 4097 + 9000) * 3 - 1 + 5 + PAGE + 4096);
}

#[tokio::test]
async fn without_a_word_on_validity_the_worker_is_asked_each_time() {
    let scene = Scene::new(None).await;
    for _ in 0..3 {
        scene.read(2 * PAGE + 5, 100).await;
    }
    assert_eq!(scene.asked(), 3);
}

#[tokio::test]
async fn a_file_that_is_closed_by_its_owner_is_asked_for_again() {
    let scene = Scene::new(Some(Arc::new(Generations::new(1)))).await;
    scene.read(2 * PAGE, 100).await;
    // A new file under the old name: nobody else has the old one open.
    scene.pantry.put("file", &scene.bytes);
    scene.read(2 * PAGE, 100).await;
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn a_small_read_reads_the_blocks_it_touches_and_notices_what_rots_there() {
    for generations in [Some(Arc::new(Generations::new(1))), None] {
        let scene = Scene::new(generations).await;
        scene.read(2 * PAGE + 5000, 100).await;
        // In another block than those that are read.
        scene.flip(2 * PAGE + 9000);
        scene.read(2 * PAGE + 5000, 100).await;
        scene.read(2 * PAGE + 12_288, 4096).await;
        assert_eq!(scene.reported(), []);
        // In a block that is read, though not in the bytes that are asked for.
        scene.flip(2 * PAGE + 4096);
        scene.read(2 * PAGE + 8000, 100).await;
        assert_eq!(scene.reported(), [PageIndex(2)]);
    }
}

#[tokio::test]
async fn every_flip_in_what_is_read_is_noticed() {
    flips(300).await;
}

#[tokio::test]
#[ignore = "long: `just soak` runs it"]
async fn soak_flips_under_small_reads() {
    flips(10_000).await;
}

/// Flips a bit somewhere, and reads small parts until all of the file was read.
async fn flips(count: u64) {
    let random = Random::seeded(count);
    let scene = Scene::new(Some(Arc::new(Generations::new(1)))).await;
    let resident = |page: usize| page.is_multiple_of(2);
    // So that the checksums of all blocks are known.
    for page in (0..5).filter(|page| resident(*page)) {
        scene.read(page * PAGE, 1).await;
    }
    for flip in 1..=count {
        let at = loop {
            let at = random.below(LENGTH as u64) as usize;
            if resident(at / PAGE) {
                break at;
            }
        };
        let byte = scene.bytes[at] ^ (1 << random.below(8));
        scene.pantry.file("file").write_all_at(&[byte], at as u64).unwrap();
        let length = 1 + random.below(9000) as usize;
        let page = at / PAGE * PAGE;
        let end = (page + PAGE).min(LENGTH);
        for start in (page..end).step_by(length) {
            scene.read(start, length.min(end - start)).await;
        }
        assert_eq!(scene.reported().len() as u64, flip, "the flip at {at} was noticed");
    }
}
