// SPDX-License-Identifier: Apache-2.0
//! What a slab says of itself and of its slots, as bytes: the header and one entry per slot.
//!
//! They come back from a disk, so they are hostile until parsed: each carries a checksum over
//! itself, and an entry's is mixed with the slab's own random number and the slot, so neither an
//! entry of another slab nor one of another slot is believed. Both are 32 bytes at multiples of
//! 32: no sector holds half of one.
//!
//! Layout, little endian:
//!
//! ```text
//! header: "larderslab" · version u8 · class u8 · slab's random number u64 · zero · CRC-32C u32
//! entry:  content u128 · CRC-32C of the bytes u32 · length less one u16 · end of the class's
//!         name u16 · admission u32, in Unix seconds · CRC-32C u32
//! ```
//!
//! The last two are zero for a file without a class, as they were before there were classes.

use larder_core::{ContentId, crc32c};

use super::class::{Class, ENTRY_BYTES, HEADER_BYTES};
use crate::class::Admitted;

const MAGIC: &[u8; 10] = b"larderslab";
const VERSION: u8 = 1;
const HEADER: usize = HEADER_BYTES as usize;
const ENTRY: usize = ENTRY_BYTES as usize;

/// What a slab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) class: Class,
    /// Drawn when the slab was made: entries are bound to it.
    pub(crate) random: u64,
}

/// Where a small file comes from, as much as an entry has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// The end of its class's name, which tells it apart from nearly all others; 0: none.
    pub(crate) class: u16,
    pub(crate) admitted: Admitted,
}

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) content: ContentId,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
    pub(crate) origin: Stamp,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..10].copy_from_slice(MAGIC);
        bytes[10] = VERSION;
        bytes[11] = self.class.number();
        bytes[12..20].copy_from_slice(&self.random.to_le_bytes());
        let sum = crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header in `bytes`; `None` when this version did not write it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.try_into().ok()?;
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let ours = body.starts_with(MAGIC)
            && body[10] == VERSION
            && crc32c(body) == u32::from_le_bytes(*sum);
        let random = u64::from_le_bytes(body[12..20].try_into().ok()?);
        ours.then_some(Self { class: Class::numbered(body[11])?, random })
    }
}

impl Entry {
    pub(crate) fn encode(&self, slab: &Header, slot: u32) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..16].copy_from_slice(&self.content.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.checksum.to_le_bytes());
        let length = u16::try_from(self.length - 1).expect("a small file has at most 64 KiB");
        bytes[20..22].copy_from_slice(&length.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.origin.class.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.origin.admitted.0.to_le_bytes());
        let sum = bound(&bytes[..ENTRY - 4], slab, slot);
        bytes[ENTRY - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The entry in `bytes`; `None` when nothing lies in the slot, as far as one can tell.
    pub(crate) fn parse(bytes: &[u8], slab: &Header, slot: u32) -> Option<Self> {
        let bytes: &[u8; ENTRY] = bytes.try_into().ok()?;
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        let content = u128::from_le_bytes(*body.first_chunk()?);
        // Most slots of a young slab were never written.
        if content == 0 || bound(body, slab, slot) != u32::from_le_bytes(*sum) {
            return None;
        }
        let length = u32::from(u16::from_le_bytes(*body[20..].first_chunk()?)) + 1;
        let fits = Class::of(u64::from(length)) == Some(slab.class);
        let checksum = u32::from_le_bytes(*body[16..].first_chunk()?);
        let class = u16::from_le_bytes(*body[22..].first_chunk()?);
        let admitted = Admitted(u32::from_le_bytes(*body[24..].first_chunk()?));
        let origin = Stamp { class, admitted };
        fits.then_some(Self { content: ContentId(content), length, checksum, origin })
    }
}

fn bound(body: &[u8], slab: &Header, slot: u32) -> u32 {
    // Mixed in by their own sum rather than appended: no copy of the body.
    let mut place = [0; 12];
    place[..8].copy_from_slice(&slab.random.to_le_bytes());
    place[8..].copy_from_slice(&slot.to_le_bytes());
    crc32c(body) ^ crc32c(&place).rotate_left(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn header() -> Header {
        Header { class: Class::of(5000).unwrap(), random: 77 }
    }

    const ENTRY_OF_OURS: Entry = Entry {
        content: ContentId(5),
        length: 5000,
        checksum: 9,
        origin: Stamp { class: 77, admitted: Admitted(1_800_000_000) },
    };

    #[test]
    fn they_read_back_in_their_own_place_only() {
        assert_eq!(Header::parse(&header().encode()), Some(header()));
        let bytes = ENTRY_OF_OURS.encode(&header(), 3);
        assert_eq!(Entry::parse(&bytes, &header(), 3), Some(ENTRY_OF_OURS));
        assert_eq!(Entry::parse(&bytes, &header(), 4), None);
        assert_eq!(Entry::parse(&bytes, &Header { random: 78, ..header() }, 3), None);
        let short = Entry { length: 100, ..ENTRY_OF_OURS };
        assert_eq!(Entry::parse(&short.encode(&header(), 3), &header(), 3), None, "another class");
        assert_eq!(Entry::parse(&[0; 32], &header(), 0), None);
    }

    proptest! {
        #[test]
        fn damage_is_refused(at in 0_usize..32, bit in 0_u8..8) {
            let mut bytes = ENTRY_OF_OURS.encode(&header(), 3);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Entry::parse(&bytes, &header(), 3), None);
            let mut bytes = header().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Header::parse(&bytes), None);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, slot: u32) {
            prop_assert!(Header::parse(&bytes).is_none());
            prop_assert!(Entry::parse(&bytes, &header(), slot).is_none());
        }
    }
}
