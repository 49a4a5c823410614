//! Where the newest record of each key is, in a bounded piece of memory.
//!
//! A key is represented by 128 bits of SipHash that depend on a seed nobody outside knows: two keys
//! of a log meet by chance once in 2^64 logs of 2^32 keys, and no one can make them meet on purpose.
//! So a key of any length costs 24 bytes. The table grows as it fills; when it has grown as far as
//! its memory allows, `put` refuses new keys and the cleaning goes on in another round. Pure.

use std::hash::{DefaultHasher, Hasher};

use protocol::ids::Offset;
use protocol::rng::Rng;

/// Bytes of a place in the table.
const SLOT_BYTES: u64 = 24;
/// 1024: places that a table begins with, 24 KiB.
const SLOTS_MIN: u64 = 1024;

/// A place; free while its offset is none.
#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    offset: Offset,
}

const FREE: Slot = Slot { hash: [0; 2], offset: Offset::NONE };

/// The newest offset of each key.
pub(super) struct NewestOffsets {
    slots: Vec<Slot>,
    len: usize,
    slots_max: usize,
    seeds: [u64; 2],
}

impl NewestOffsets {
    /// An empty map that takes at most `bytes_max` of memory, but holds some hundred keys in any
    /// case. Which hashes it uses follows from `seed`.
    pub(super) fn new(bytes_max: u64, seed: u64) -> Self {
        // While it grows, the old table and the new one, at most twice as large, are both there.
        let slots_max = (bytes_max / (SLOT_BYTES * 3 / 2)).max(SLOTS_MIN);
        let mut rng = Rng::new(seed);
        Self {
            slots: Vec::new(),
            len: 0,
            slots_max: usize::try_from(slots_max).unwrap_or(usize::MAX),
            seeds: [rng.next_u64(), rng.next_u64()],
        }
    }

    /// Notes that a record of `key` is at `offset`, after all that were noted before. False when
    /// there is no room for another key.
    #[must_use]
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        assert!(offset > Offset::NONE);
        // Three quarters full, the chains are still short.
        if self.len >= self.slots.len() / 4 * 3 && !self.grow() {
            let hash = self.hash(key);
            let Some(place) = self.find(hash).filter(|&at| self.slots[at].offset > Offset::NONE)
            else {
                return false;
            };
            self.slots[place].offset = offset;
            return true;
        }
        let hash = self.hash(key);
        let place = self.find(hash).expect("a quarter of the table is free");
        self.len += usize::from(self.slots[place].offset == Offset::NONE);
        self.slots[place] = Slot { hash, offset };
        true
    }

    /// The offset that was last noted for `key`.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let offset = self.slots[self.find(self.hash(key))?].offset;
        (offset > Offset::NONE).then_some(offset)
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.seeds.map(|seed| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The place of `hash`, or the free one where it would go; `None` in a table without places.
    fn find(&self, hash: [u64; 2]) -> Option<usize> {
        let count = self.slots.len();
        let wide = u128::from(hash[0]) * u128::try_from(count).ok()?;
        let first = usize::try_from(wide >> 64).ok()?;
        let chain = (first..count).chain(0..first);
        chain.into_iter().find(|&at| {
            let slot = &self.slots[at];
            slot.offset == Offset::NONE || slot.hash == hash
        })
    }

    /// Doubles the table; false when it has all the memory that it may have.
    fn grow(&mut self) -> bool {
        let least = usize::try_from(SLOTS_MIN).expect("1024 fits");
        let count = (self.slots.len() * 2).max(least).min(self.slots_max);
        if count == self.slots.len() {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![FREE; count]);
        for slot in old.into_iter().filter(|slot| slot.offset > Offset::NONE) {
            let place = self.find(slot.hash).expect("the new table is larger");
            self.slots[place] = slot;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_offset_of_each_key_is_known(seed: u64, keys in prop::collection::vec(0_u16..3000, 0..5000)) {
            let mut map = NewestOffsets::new(1 << 20, seed);
            let mut model = BTreeMap::new();
            for (offset, key) in (0..).map(Offset).zip(&keys) {
                prop_assert!(map.put(&key.to_be_bytes(), offset));
                model.insert(*key, offset);
            }
            prop_assert_eq!(map.len(), model.len());
            for key in 0..3001_u16 {
                prop_assert_eq!(map.newest(&key.to_be_bytes()), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn a_full_map_takes_newer_records_of_the_keys_that_it_knows_and_no_other_keys() {
        let mut map = NewestOffsets::new(0, 7);
        let taken =
            (0..5000_i64).take_while(|&key| map.put(&key.to_be_bytes(), Offset(key))).count();
        assert_eq!(taken, 768);
        let last = i64::try_from(taken).unwrap() - 1;
        assert!(map.put(&last.to_be_bytes(), Offset(9000)));
        assert!(!map.put(&9999_i64.to_be_bytes(), Offset(9001)));
        assert_eq!(map.newest(&last.to_be_bytes()), Some(Offset(9000)));
        assert_eq!(map.newest(&9999_i64.to_be_bytes()), None);
        assert_eq!(map.newest(&0_i64.to_be_bytes()), Some(Offset(0)));
    }
}
