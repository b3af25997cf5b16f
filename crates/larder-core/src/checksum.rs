// SPDX-License-Identifier: Apache-2.0
//! The one checksum of Larder: CRC-32C (Castagnoli, RFC 3720 appendix B.4), computed at fill and
//! compared at every read. Hardware instructions are used where the machine has them.
//!
//! A page has one checksum. Whoever reads a few bytes of it again and again wants to compare less
//! than 64 KiB each time: [`BlockSums`] are the checksums of its blocks, and that of the page
//! follows from them, so they are proven by what proves the page, in the same pass.

use crc_fast::{CrcAlgorithm, Digest, checksum};

use crate::PAGE_SIZE;

/// Bytes of a block: the least of a page that can be compared by itself.
pub const BLOCK_SIZE: u64 = 4 << 10;

/// Blocks of a whole page.
const PAGE_BLOCKS: usize = (PAGE_SIZE / BLOCK_SIZE) as usize;

/// The polynomial of CRC-32C, bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1, bits reflected.
const ONE: u32 = 1 << 31;

/// What a block behind it makes of each byte of a checksum.
static BEHIND_A_BLOCK: [[u32; 256]; 4] = behind_a_block();

/// CRC-32C of each block of one page, the last of which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSums {
    page: u32,
    blocks: [u32; PAGE_BLOCKS],
}

impl BlockSums {
    /// The checksums of the blocks of `page`, which has 1 to 65,536 bytes.
    #[must_use]
    pub fn of(page: &[u8]) -> Self {
        let mut sums = Self { page: 0, blocks: [0; PAGE_BLOCKS] };
        for (sum, block) in sums.blocks.iter_mut().zip(page.chunks(BLOCK_SIZE as usize)) {
            *sum = crc32c(block);
            sums.page = join(sums.page, *sum, block.len() as u64);
        }
        sums
    }

    /// The checksum of the whole page.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.page
    }

    /// The checksum of one block of the page.
    #[must_use]
    pub fn block(&self, at: usize) -> Option<u32> {
        self.blocks.get(at).copied()
    }
}

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

/// The checksum of bytes in two parts: `front` is that of the first, `back` that of the second,
/// which is so many bytes long.
fn join(front: u32, back: u32, back_length: u64) -> u32 {
    let moved = if back_length == BLOCK_SIZE {
        let bytes = front.to_le_bytes().into_iter().zip(&BEHIND_A_BLOCK);
        bytes.fold(0, |moved, (byte, table)| moved ^ table[byte as usize])
    } else {
        multiply(power_of_x(8 * back_length), front)
    };
    moved ^ back
}

const fn behind_a_block() -> [[u32; 256]; 4] {
    let factor = power_of_x(8 * BLOCK_SIZE);
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 4 {
        let mut value = 0;
        while value < 256 {
            tables[byte][value] = multiply(factor, (value as u32) << (8 * byte));
            value += 1;
        }
        byte += 1;
    }
    tables
}

/// The product of two polynomials modulo that of CRC-32C.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

/// x to this power modulo the polynomial of CRC-32C.
const fn power_of_x(mut exponent: u64) -> u32 {
    let (mut power, mut square) = (ONE, ONE >> 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = multiply(power, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    power
}

fn low_half(sum: u64) -> u32 {
    u32::try_from(sum & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_SIZE, BlockSums, crc32c, crc32c_of_parts};

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

    #[test]
    fn the_sum_of_a_page_follows_from_those_of_its_blocks() {
        let bytes: Vec<u8> = (0..65_536_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        for length in [1, 4095, 4096, 4097, 8192, 40_000, 65_535, 65_536] {
            let page = &bytes[..length];
            let sums = BlockSums::of(page);
            assert_eq!(sums.page(), crc32c(page), "{length} bytes");
            for (at, block) in page.chunks(BLOCK_SIZE as usize).enumerate() {
                assert_eq!(sums.block(at), Some(crc32c(block)), "block {at} of {length} bytes");
            }
        }
        assert_eq!(BlockSums::of(&bytes).block(16), None);
    }
}
