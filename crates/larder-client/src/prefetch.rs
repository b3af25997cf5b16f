// SPDX-License-Identifier: Apache-2.0
//! How far ahead of a read an open file will likely be wanted: judged from the reads so far.
//!
//! Pure, and kept for each handle: a few *streams*, each a run of reads that goes forward. A read
//! belongs to the stream it continues, also a little out of order, for the kernel's read-ahead
//! comes through several threads. The window of a stream grows with what was read in it; a reader
//! that jumps, goes backwards or leaves gaps has none, so that random reads fetch nothing but
//! their own pages. Several sequential readers on one handle are several streams.

use larder_core::ByteRange;

/// Streams remembered for one handle; a new one takes the place of the one unused for longest.
const STREAMS_MAX: usize = 4;
/// The window is so many times what the stream has read, up to the largest.
const GROWTH: u64 = 4;
/// The largest window.
const AHEAD_MAX: u64 = 16 << 20;
/// A read may come before others of its stream by so many times its own length.
const DISORDER: u64 = 2;
/// The farthest that a read may come before others of its stream.
const DISORDER_MAX: u64 = 2 << 20;
/// A read this long at the beginning of a file is the kernel's read-ahead for a sequential
/// reader already: it asks for less where somebody jumps about.
const CONFIDENT: u64 = 512 << 10;

/// The streams of one handle.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The one used last comes last.
    streams: Vec<Stream>,
}

/// A run of reads.
#[derive(Debug, Clone, Copy)]
struct Stream {
    begin: u64,
    /// The end of the furthest read.
    front: u64,
    /// Bytes of all its reads.
    read: u64,
    reads: u32,
}

impl Streams {
    /// Notes a read; answers how far behind it a fetch may run.
    pub(crate) fn note(&mut self, range: ByteRange) -> u64 {
        let length = range.length();
        let disorder = (length * DISORDER).min(DISORDER_MAX);
        let found = self.streams.iter().rposition(|stream| stream.continued_by(range, disorder));
        let Some(at) = found else {
            let confident = length >= CONFIDENT && range.start <= DISORDER_MAX;
            self.push(Stream { begin: range.start, front: range.end, read: length, reads: 1 });
            return if confident { window(length) } else { 0 };
        };
        let mut stream = self.streams.remove(at);
        let forward = range.end > stream.front;
        stream.begin = stream.begin.min(range.start);
        stream.front = stream.front.max(range.end);
        // What was read twice counts once.
        stream.read = (stream.read + length).min(stream.front - stream.begin);
        stream.reads += 1;
        self.push(stream);
        // What lies behind a read that came late is on its way already.
        if forward { stream.ahead(length) } else { 0 }
    }

    fn push(&mut self, stream: Stream) {
        if self.streams.len() == STREAMS_MAX {
            self.streams.remove(0);
        }
        self.streams.push(stream);
    }
}

impl Stream {
    fn continued_by(&self, range: ByteRange, disorder: u64) -> bool {
        range.start <= self.front.saturating_add(disorder)
            && range.start.saturating_add(disorder) >= self.front
    }

    fn ahead(&self, length: u64) -> u64 {
        // A reader that leaves out more than a quarter is not sequential.
        let dense = self.read >= (self.front - self.begin) / 4 * 3;
        // Two reads in a row may be chance where they are short.
        let confident = self.reads > 2 || length >= CONFIDENT;
        if dense && confident { window(self.read) } else { 0 }
    }
}

fn window(read: u64) -> u64 {
    read.saturating_mul(GROWTH).min(AHEAD_MAX)
}

#[cfg(test)]
mod tests {
    use larder_core::Random;

    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn note(streams: &mut Streams, start: u64, length: u64) -> u64 {
        streams.note(ByteRange::new(start, start + length))
    }

    /// Fetches as a worker would that ends one at the next that began; answers how many.
    fn fetches(reads: &[(u64, u64)], size: u64) -> usize {
        let (mut streams, mut fetched) = (Streams::default(), Vec::<ByteRange>::new());
        for (start, length) in reads {
            let ahead = note(&mut streams, *start, *length);
            let mut at = *start;
            while at < start + length {
                if let Some(over) = fetched.iter().find(|range| range.contains_offset(at)) {
                    at = over.end;
                    continue;
                }
                let wanted = (start + length + ahead).min(size);
                let next = fetched.iter().map(|range| range.start).filter(|start| *start > at);
                let end = next.min().unwrap_or(wanted).min(wanted);
                fetched.push(ByteRange::new(at, end));
                at = end;
            }
        }
        fetched.len()
    }

    trait Holds {
        fn contains_offset(&self, at: u64) -> bool;
    }

    impl Holds for ByteRange {
        fn contains_offset(&self, at: u64) -> bool {
            self.start <= at && at < self.end
        }
    }

    #[test]
    fn a_sequential_reader_needs_two_fetches_for_16_mib() {
        let reads: Vec<_> = (0..16).map(|at| (at * MIB, MIB)).collect();
        assert_eq!(fetches(&reads, 16 * MIB), 2);
        let reads: Vec<_> = (0..32).map(|at| (at * MIB / 2, MIB / 2)).collect();
        assert!(fetches(&reads, 16 * MIB) <= 3);
    }

    #[test]
    fn reads_a_little_out_of_order_are_sequential_too() {
        let mut reads: Vec<_> = (0..16).map(|at| (at * MIB, MIB)).collect();
        reads.chunks_mut(2).for_each(<[_]>::reverse);
        // Where a window ends, the piece that comes late is a fetch of its own.
        assert!(fetches(&reads, 16 * MIB) <= 4, "{}", fetches(&reads, 16 * MIB));
    }

    #[test]
    fn the_window_grows_with_what_is_read_and_has_an_end() {
        let mut streams = Streams::default();
        let windows: Vec<u64> =
            (0..80).map(|at| note(&mut streams, at * 128 * KIB, 128 * KIB)).collect();
        assert_eq!(windows[..3], [0, 0, 3 * 128 * KIB * GROWTH]);
        assert!(windows.is_sorted());
        assert_eq!(windows.last(), Some(&AHEAD_MAX));
        assert_eq!(note(&mut streams, 1 << 40, 128 * KIB), 0, "a jump");
    }

    #[test]
    fn random_reads_fetch_their_own_pages() {
        let (random, mut streams) = (Random::seeded(1), Streams::default());
        let (mut asked, mut ahead) = (0, 0);
        for _ in 0..2000 {
            let page = random.below(16_384);
            asked += 64 * KIB;
            ahead += note(&mut streams, page * 64 * KIB, 64 * KIB);
        }
        assert!(ahead * 100 <= asked * 5, "{ahead} ahead of {asked}");
    }

    #[test]
    fn a_reverse_or_strided_reader_has_no_window() {
        let mut streams = Streams::default();
        assert!((1..200).rev().all(|at| note(&mut streams, at * 64 * KIB, 64 * KIB) == 0));
        for stride in [2, 3, 10] {
            let mut streams = Streams::default();
            for at in 1..200 {
                assert_eq!(note(&mut streams, at * stride * 64 * KIB, 64 * KIB), 0, "{stride}");
            }
        }
    }

    #[test]
    fn interleaved_sequential_readers_are_streams_of_their_own() {
        let mut streams = Streams::default();
        let mut last = [0; 3];
        for at in 0..64 {
            for (reader, last) in (0..).zip(&mut last) {
                *last = note(&mut streams, reader * 1024 * MIB + at * 256 * KIB, 256 * KIB);
            }
        }
        assert_eq!(last, [AHEAD_MAX; 3]);
    }
}
