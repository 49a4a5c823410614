//! Seeded generators, so that no core reaches for entropy.
//!
//! [`Rng`], SplitMix64, is good enough for jitter, sticky partitions and the simulator; who has seen
//! one number of it knows all. What clients are told and others must not guess comes from a [`Lot`].
//!
//! Pure.

use std::fmt;

use aws_lc_rs::hmac;

/// A seeded source of chance. The same seed gives the same sequence.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose whole future follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift: the bias is below bound / 2^64, far under what any use here could notice.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// True once in `one_in` on average; never when `one_in` is 0.
    pub fn chance(&mut self, one_in: u64) -> bool {
        one_in != 0 && self.below(one_in) == 0
    }

    /// A generator independent of this one's further draws.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// Sixteen bytes, for ids.
    pub fn next_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        id[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        id
    }
}

/// A source of chance that only who has its key can foresee: HMAC-SHA256 of what is asked for. However
/// much of it was seen, the rest does not follow.
#[derive(Clone)]
pub struct Lot {
    key: hmac::Key,
    drawn: u64,
}

impl Lot {
    /// All of it follows from `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), drawn: 0 }
    }

    /// All of it follows from `seed`: as secret as that is.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        Self::new(&key)
    }

    /// Another one, for `purpose`: always the same, and independent of this one and of all others.
    #[must_use]
    pub fn of(&self, purpose: &str) -> Self {
        Self::new(&self.sign(b"key", purpose.as_bytes()))
    }

    /// Sixteen bytes for `place`: always the same for the same, and others for another.
    #[must_use]
    pub fn id_of(&self, place: &[u8]) -> [u8; 16] {
        *self.sign(b"id", place).first_chunk().expect("32 bytes have 16")
    }

    /// The next sixteen bytes.
    pub fn next_id(&mut self) -> [u8; 16] {
        self.drawn += 1;
        *self.sign(b"next", &self.drawn.to_be_bytes()).first_chunk().expect("32 bytes have 16")
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from_be_bytes(*self.next_id().first_chunk().expect("16 bytes have 8"))
    }

    fn sign(&self, kind: &[u8], text: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind);
        // What comes first has no such end: no kind begins another.
        context.update(&[0]);
        context.update(text);
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_follows_from_the_key_and_differs_by_purpose_and_place() {
        let drawn = |lot: &Lot| {
            let mut lot = lot.clone();
            let ids = [lot.next_id(), lot.next_id(), lot.id_of(b"a"), lot.id_of(b"b")];
            (ids, [lot.next_u64(), lot.next_u64()])
        };
        let lot = Lot::of_seed(1);
        assert_eq!(drawn(&lot), drawn(&Lot::of_seed(1)));
        let all = [lot.clone(), Lot::of_seed(2), lot.of("a"), lot.of("b"), Lot::new(&[9; 32])];
        let ids: std::collections::BTreeSet<_> = all.iter().flat_map(|it| drawn(it).0).collect();
        assert_eq!(ids.len(), 4 * all.len());
        let numbers: std::collections::BTreeSet<_> =
            all.iter().flat_map(|it| drawn(it).1).collect();
        assert_eq!(numbers.len(), 2 * all.len());
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..8).map(|_| rng.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
