// SPDX-License-Identifier: Apache-2.0
//! The one checksum of Larder: CRC-32C (Castagnoli, RFC 3720 appendix B.4), computed at fill and
//! compared at every read. Hardware instructions are used where the machine has them.

use crc_fast::{CrcAlgorithm, checksum};

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let sum = checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// The test vectors of RFC 3720 appendix B.4.
    #[test]
    fn rfc_3720_vectors() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
