//! What is remembered of a file's content: enough to know it again, wherever it went.
//!
//! A mark certifies what was delivered: a hash of the first bytes, a hash of the bytes just before the
//! position, and the position itself. A file *carries* a mark if it is long enough and both hashes agree;
//! so an overwritten file is told from a grown one even if both begin alike, and a compressed or copied log
//! is known by its content. Hashes cover delivered bytes alone: the mark of a growing file grows with it.
//! Positions of compressed files count decompressed bytes. Pure.

/// How many bytes from the start are hashed at most.
pub(crate) const HEAD_BYTES: usize = 1024;
/// How many bytes before the position are hashed at most.
pub(crate) const TAIL_BYTES: usize = 256;

/// A hash of some bytes, and of how many. FNV-1a, which can be carried on as bytes arrive; it is part of the
/// stored offsets, so it may never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest {
    pub(crate) hash: u64,
    pub(crate) len: usize,
}

impl Digest {
    /// The digest of no bytes.
    pub(crate) const EMPTY: Self = Self { hash: 0xcbf2_9ce4_8422_2325, len: 0 };

    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::EMPTY.then(bytes)
    }

    /// The digest of what this one covers followed by `bytes`.
    pub(crate) fn then(self, bytes: &[u8]) -> Self {
        let hash = bytes
            .iter()
            .fold(self.hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { hash, len: self.len + bytes.len() }
    }
}

/// How far a file was delivered, and what its content was up to there.
///
/// Invariant: `head.len == min(pos, HEAD_BYTES)`, `tail.len == min(pos, TAIL_BYTES)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of the first bytes.
    pub(crate) head: Digest,
    /// Of the bytes just before `pos`.
    pub(crate) tail: Digest,
    /// How many bytes were delivered.
    pub(crate) pos: u64,
    /// True when the line that ends at `pos` was delivered before its newline came: what follows up to
    /// the next newline continues it.
    pub(crate) line_open: bool,
}

impl Mark {
    /// Nothing delivered yet.
    pub(crate) const START: Self =
        Self { head: Digest::EMPTY, tail: Digest::EMPTY, pos: 0, line_open: false };

    /// Where the tail begins.
    pub(crate) fn tail_start(&self) -> u64 {
        self.pos.saturating_sub(u64::try_from(self.tail.len).expect("at most TAIL_BYTES"))
    }

    /// Moves on over `window[from..to]`, which was delivered. `window[..from]` is what precedes the position:
    /// at least as much as the tail covers.
    pub(crate) fn advance(&mut self, window: &[u8], from: usize, to: usize) {
        assert!(self.tail.len <= from, "the window begins before the tail");
        let delivered = &window[from..to];
        let missing = HEAD_BYTES.saturating_sub(self.head.len).min(delivered.len());
        self.head = self.head.then(&delivered[..missing]);
        self.pos += u64::try_from(delivered.len()).expect("a window is small");
        let tail = usize::try_from(self.pos).unwrap_or(usize::MAX).min(TAIL_BYTES);
        self.tail = Digest::of(&window[to - tail..to]);
        self.check();
    }

    /// Asserts the invariant.
    pub(crate) fn check(&self) {
        let pos = usize::try_from(self.pos).unwrap_or(usize::MAX);
        assert_eq!(self.head.len, pos.min(HEAD_BYTES));
        assert_eq!(self.tail.len, pos.min(TAIL_BYTES));
    }

    /// True when the fields fit together; stored ones may not.
    pub(crate) fn is_consistent(&self) -> bool {
        let pos = usize::try_from(self.pos).unwrap_or(usize::MAX);
        self.head.len == pos.min(HEAD_BYTES) && self.tail.len == pos.min(TAIL_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mark_does_not_depend_on_the_steps_in_which_it_was_reached(
            content in proptest::collection::vec(any::<u8>(), 0..3000),
            steps in proptest::collection::vec(0_usize..700, 1..20),
        ) {
            let mut mark = Mark::START;
            let mut pos = 0;
            for step in steps {
                let start = pos - mark.tail.len;
                let to = (pos + step).min(content.len());
                mark.advance(&content[start..], pos - start, to - start);
                pos = to;
                let mut once = Mark::START;
                once.advance(&content, 0, pos);
                prop_assert_eq!(mark, once);
            }
        }
    }
}
