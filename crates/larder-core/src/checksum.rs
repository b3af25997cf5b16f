// SPDX-License-Identifier: Apache-2.0
//! The one checksum of Larder: CRC-32C (Castagnoli, RFC 3720 appendix B.4), computed at fill and
//! compared at every read. Hardware instructions are used where the machine has them.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    low_half(checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC-32C of bytes that lie in several places, in order.
#[must_use]
pub fn crc32c_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    low_half(digest.finalize())
}

fn low_half(sum: u64) -> u32 {
    u32::try_from(sum & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::{crc32c, crc32c_of_parts};

    /// The test vectors of RFC 3720 appendix B.4.
    #[test]
    fn rfc_3720_vectors() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
    #[test]
    fn parts_sum_up_to_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for cut in [0, 1, 7, 4096, 69_999] {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(crc32c_of_parts([front, back]), crc32c(&bytes), "cut at {cut}");
        }
        assert_eq!(crc32c_of_parts([]), crc32c(&[]));
    }
}
