// SPDX-License-Identifier: Apache-2.0
//! A fixed number of bits.

/// Bits numbered from zero.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    words: Box<[u64]>,
    length: u32,
}

impl Bits {
    /// `length` bits, none set.
    pub(super) fn new(length: u32) -> Self {
        Self { words: vec![0; length.div_ceil(64) as usize].into(), length }
    }

    pub(super) fn contains(&self, at: u32) -> bool {
        self.words[at as usize / 64] & (1 << (at % 64)) != 0
    }

    /// Sets a bit; `false` when it was set already.
    pub(super) fn insert(&mut self, at: u32) -> bool {
        let word = &mut self.words[at as usize / 64];
        let before = *word;
        *word |= 1 << (at % 64);
        *word != before
    }

    /// Clears a bit; `false` when it was clear already.
    pub(super) fn remove(&mut self, at: u32) -> bool {
        let word = &mut self.words[at as usize / 64];
        let before = *word;
        *word &= !(1 << (at % 64));
        *word != before
    }

    /// The first clear bit at or behind `from`.
    pub(super) fn first_clear(&self, from: u32) -> Option<u32> {
        self.first(from, |word| !word)
    }

    /// The first set bit at or behind `from`.
    pub(super) fn first_set(&self, from: u32) -> Option<u32> {
        self.first(from, |word| word)
    }

    fn first(&self, from: u32, wanted: impl Fn(u64) -> u64) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        for (nth, word) in self.words.iter().enumerate().skip(from as usize / 64) {
            let hits = wanted(*word) & mask;
            if hits != 0 {
                let at = nth as u32 * 64 + hits.trailing_zeros();
                return (at < self.length).then_some(at);
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn bits_are_found() {
        let mut bits = Bits::new(130);
        assert_eq!((bits.first_clear(0), bits.first_set(0)), (Some(0), None));
        assert!((0..130).all(|at| bits.insert(at)) && !bits.insert(5));
        assert_eq!((bits.first_clear(0), bits.first_set(129)), (None, Some(129)));
        assert!(bits.remove(64) && !bits.remove(64));
        assert_eq!(
            (bits.first_clear(1), bits.first_clear(65), bits.first_set(64)),
            (Some(64), None, Some(65))
        );
        assert!(bits.contains(63) && !bits.contains(64));
    }
}
