// SPDX-License-Identifier: Apache-2.0
//! The record of one segment: which pages lie in which directory, and the checksum of each.
//!
//! Records come back from a database that this crate does not own, so they are hostile until
//! parsed: each carries a version and a checksum over itself and its own key.
//!
//! Layout, little endian: version u8 · directory u128 · content length u64 · page set 32 bytes ·
//! class u64 · admission u32, in Unix seconds · one CRC-32C u32 per page of the set, in order ·
//! CRC-32C u32 of all before it and of the key. Version 1 had neither class nor admission.

use std::ops::Range;

use larder_core::crc32c;

use crate::{
    Class, IndexKey,
    class::{Admitted, Origin},
    page_set::PageSet,
};

const VERSION: u8 = 2;
const VERSION_WITHOUT_ORIGIN: u8 = 1;
const HEAD: usize = 1 + 16 + 8 + PageSet::ENCODED;
const ORIGIN: usize = 8 + 4;

/// Who a directory is, apart from its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DirectoryId(pub(crate) u128);

/// What is known about the resident pages of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) directory: DirectoryId,
    /// The length of the whole content.
    pub(crate) length: u64,
    pub(crate) origin: Origin,
    pages: PageSet,
    /// One per page of `pages`, in order.
    checksums: Vec<u32>,
}

impl Record {
    pub(crate) fn new(directory: DirectoryId, length: u64) -> Self {
        let origin = Origin::default();
        Self { directory, length, origin, pages: PageSet::default(), checksums: Vec::new() }
    }

    pub(crate) fn pages(&self) -> PageSet {
        self.pages
    }

    /// The checksum of `page`, if the record claims the page.
    pub(crate) fn checksum(&self, page: u32) -> Option<u32> {
        let claimed = self.pages.contains(page);
        claimed.then(|| self.checksums[self.pages.rank(page)])
    }

    /// The checksums of consecutive pages, all of which the record claims.
    pub(crate) fn checksums(&self, run: Range<u32>) -> &[u32] {
        let from = self.pages.rank(run.start);
        &self.checksums[from..from + run.len()]
    }

    /// Claims `page`, or corrects its checksum.
    pub(crate) fn insert(&mut self, page: u32, checksum: u32) {
        let rank = self.pages.rank(page);
        if self.pages.contains(page) {
            self.checksums[rank] = checksum;
        } else {
            self.pages.insert(page);
            self.checksums.insert(rank, checksum);
        }
    }

    /// The same record without the pages that are not in `kept`.
    pub(crate) fn retain(&self, kept: &PageSet) -> Self {
        let mut record = Self { origin: self.origin, ..Self::new(self.directory, self.length) };
        for page in self.pages.and(kept).iter() {
            record.pages.insert(page);
            record.checksums.push(self.checksums[self.pages.rank(page)]);
        }
        record
    }

    /// What the record weighs in memory.
    pub(crate) fn weight(&self) -> u64 {
        (size_of::<Self>() + self.checksums.capacity() * 4) as u64
    }

    pub(crate) fn encode(&self, key: &IndexKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + ORIGIN + self.checksums.len() * 4 + 20);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.directory.0.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.pages.to_bytes());
        bytes.extend_from_slice(&self.origin.class.0.to_le_bytes());
        bytes.extend_from_slice(&self.origin.admitted.0.to_le_bytes());
        for checksum in &self.checksums {
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        let sum = sum_with_key(&bytes, key);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The record in `bytes`; `None` when they are not one that this version wrote for `key`.
    pub(crate) fn parse(key: &IndexKey, bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let (head, rest) = body.split_at_checked(HEAD)?;
        if sum_with_key(body, key) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (origin, sums) = match head[0] {
            VERSION => {
                let (origin, sums) = rest.split_first_chunk::<ORIGIN>()?;
                let (class, admitted) = origin.split_at(8);
                let class = Class(u64::from_le_bytes(class.try_into().ok()?));
                let admitted = Admitted(u32::from_le_bytes(admitted.try_into().ok()?));
                (Origin { class, admitted }, sums)
            }
            VERSION_WITHOUT_ORIGIN => (Origin::default(), rest),
            _ => return None,
        };
        let (directory, rest) = head[1..].split_first_chunk::<16>()?;
        let (length, pages) = rest.split_first_chunk::<8>()?;
        let length = u64::from_le_bytes(*length);
        let pages = PageSet::from_bytes(pages.first_chunk()?);
        let possible = PageSet::possible(key.segment, length);
        let fits = length <= larder_core::page::FILE_LENGTH_MAX
            && pages.within(possible) == pages
            && sums.len() == pages.count() as usize * 4;
        let checksums = sums
            .chunks_exact(4)
            .map(|sum| u32::from_le_bytes(sum.try_into().expect("chunks of four bytes")));
        fits.then(|| Self {
            directory: DirectoryId(u128::from_le_bytes(*directory)),
            length,
            origin,
            pages,
            checksums: checksums.collect(),
        })
    }
}

fn sum_with_key(body: &[u8], key: &IndexKey) -> u32 {
    // The key's own sum is mixed in rather than its bytes appended: no copy of the body.
    crc32c(body) ^ crc32c(&key.to_bytes()).rotate_left(1)
}

#[cfg(test)]
mod tests {
    use larder_core::{ContentId, SegmentIndex};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const KEY: IndexKey = IndexKey { content: ContentId(7), segment: SegmentIndex(1) };

    fn record() -> Record {
        let mut record = Record::new(DirectoryId(3), 1 << 30);
        record.origin = Origin { class: Class(77), admitted: Admitted(1_800_000_000) };
        for page in [9, 0, 255, 64] {
            record.insert(page, page * 11);
        }
        record
    }

    #[test]
    fn a_record_reads_back_under_its_own_key_only() {
        let bytes = record().encode(&KEY);
        assert_eq!(Record::parse(&KEY, &bytes), Some(record()));
        assert_eq!(record().checksum(64), Some(64 * 11));
        assert_eq!(record().checksum(65), None);
        assert_eq!(record().checksums(64..65), [64 * 11]);
        let other = IndexKey { segment: SegmentIndex(2), ..KEY };
        assert_eq!(Record::parse(&other, &bytes), None);
    }

    #[test]
    fn a_record_of_the_version_before_is_read() {
        let mut bytes = record().encode(&KEY);
        bytes.truncate(bytes.len() - 4);
        bytes[0] = 1;
        bytes.drain(HEAD..HEAD + ORIGIN);
        let sum = sum_with_key(&bytes, &KEY);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let read = Record { origin: Origin::default(), ..record() };
        assert_eq!(Record::parse(&KEY, &bytes), Some(read));
    }

    #[test]
    fn pages_behind_the_end_are_refused() {
        let mut record = Record::new(DirectoryId(3), 1);
        record.insert(1, 0);
        let key = IndexKey { segment: SegmentIndex(0), ..KEY };
        assert_eq!(Record::parse(&key, &record.encode(&key)), None);
    }

    #[test]
    fn retaining_drops_the_others() {
        let kept = record().retain(&[0, 64, 5].into_iter().collect());
        assert_eq!(kept.pages().iter().collect::<Vec<_>>(), [0, 64]);
        assert_eq!(kept.checksum(64), Some(64 * 11));
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_refused(at in 0_usize..85, bit in 0_u8..8) {
            let mut bytes = record().encode(&KEY);
            prop_assert_eq!(bytes.len(), 89);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Record::parse(&KEY, &bytes), None);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, segment in any::<u32>()) {
            let key = IndexKey { segment: SegmentIndex(segment), ..KEY };
            prop_assert!(Record::parse(&key, &bytes).is_none());
        }
    }
}
