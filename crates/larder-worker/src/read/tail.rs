// SPDX-License-Identifier: Apache-2.0
//! Footers: who begins to read a file at its end reads a table of contents there.
//!
//! Parquet, ORC, Arrow and zip end with a few bytes that say where the footer begins, which lies
//! right before them; a reader asks for those and then for the footer. Whole pages alone would
//! bring both in one request, unless the file's last page happens to be a short one. So the first
//! cold read of a file, where it is a short one of its end, brings the last [`TAIL`] bytes.
//! Recognised by what the reader does, whatever the file is called.

use larder_core::{ByteRange, ContentId, PAGE_SIZE};

use crate::Worker;

/// As much as Arrow's readers ask for at first; most footers are shorter.
pub(crate) const TAIL: u64 = PAGE_SIZE;

/// The last [`TAIL`] bytes, if a read of `asked` is a short one of the end of a longer file.
fn of_a_footer(length: u64, asked: ByteRange) -> Option<ByteRange> {
    let is_end = asked.end == length && !asked.is_empty() && asked.length() <= TAIL;
    (is_end && length > TAIL).then(|| ByteRange::new(length - TAIL, length))
}

impl Worker {
    /// What a read of `asked` should bring at least, if it is the first of this content and a
    /// footer lies there.
    pub(crate) fn tail(
        &self,
        content: ContentId,
        length: u64,
        asked: ByteRange,
    ) -> Option<ByteRange> {
        let tail = of_a_footer(length, asked)?;
        let is_first =
            self.pages.presence(content, length).bytes == 0 && self.flights.count(content) == 0;
        is_first.then_some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_read_by_a_short_read_of_the_end() {
        let length = 10 * TAIL + 5;
        let last = |bytes| ByteRange::new(length - bytes, length);
        assert_eq!(of_a_footer(length, last(8)), Some(last(TAIL)));
        assert_eq!(of_a_footer(length, last(TAIL)), Some(last(TAIL)));
        assert_eq!(of_a_footer(length, last(TAIL + 1)), None, "that is no footer");
        assert_eq!(of_a_footer(length, ByteRange::new(0, 8)), None);
        assert_eq!(of_a_footer(length, ByteRange::new(length - 9, length - 1)), None);
        assert_eq!(of_a_footer(TAIL, ByteRange::new(TAIL - 8, TAIL)), None, "a page has it all");
    }
}
