//! One map with an undo: what is written becomes visible at once and permanent at commit.
//!
//! The first write to a key in a transaction remembers what was there before; rolling back puts it
//! there again, in time proportional to the keys touched. The same list of touched keys, in the
//! order of their first touch, is what the changelog gets: one record per key and transaction, not
//! one per write. No order of the hash index ever shows. Pure.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use protocol::mutant::{Mutant, is_active};
use protocol::time::Timestamp;

use crate::codec::BoxError;

/// A value and the event time it was last written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// The largest event time among the records that made the value.
    pub timestamp: Timestamp,
}

/// Keys and values, transactional.
///
/// Invariants: a slot is in the index exactly once or in `free` exactly once; a slot without an
/// entry is in the index only while its deletion is uncommitted; `dirty` names a slot once at most.
#[derive(Debug)]
pub struct Overlay<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    dirty: Vec<Undo<V>>,
    /// Counts transactions, so that "touched already?" is one comparison. Starts at 1.
    transaction: u64,
    hasher: FixedState,
}

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    key: K,
    entry: Option<Entry<V>>,
    touched: u64,
}

#[derive(Debug)]
struct Undo<V> {
    slot: u32,
    before: Option<Entry<V>>,
}

/// The index counts in 32 bits: half the memory, and 4 billion keys per task are beyond any memory.
fn at(slot: u32) -> usize {
    usize::try_from(slot).expect("an address has 32 bits at least")
}

impl<K, V> Default for Overlay<K, V> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            transaction: 1,
            hasher: FixedState::default(),
        }
    }
}

impl<K: Hash + Eq, V> Overlay<K, V> {
    /// What is stored for `key`, uncommitted writes included.
    pub fn get(&self, key: &K) -> Option<&Entry<V>> {
        self.find(self.hasher.hash_one(key), key)
            .and_then(|slot| self.slots[at(slot)].entry.as_ref())
    }

    /// Opens `key` for writing; `None` in the returned place means absent, before and after.
    pub fn touch(&mut self, key: &K) -> &mut Option<Entry<V>>
    where
        K: Clone,
        V: Clone,
    {
        let hash = self.hasher.hash_one(key);
        let number = match self.find(hash, key) {
            Some(number) => number,
            None => self.insert(hash, key.clone()),
        };
        let slot = &mut self.slots[at(number)];
        if slot.touched != self.transaction {
            slot.touched = self.transaction;
            self.dirty.push(Undo { slot: number, before: slot.entry.clone() });
        }
        &mut slot.entry
    }

    /// Puts an entry beneath the transaction, as a restored changelog record does.
    pub fn restore(&mut self, key: K, entry: Option<Entry<V>>) {
        assert!(self.dirty.is_empty(), "a store is restored before it is written");
        let hash = self.hasher.hash_one(&key);
        match (self.find(hash, &key), entry) {
            (Some(number), None) => self.erase(number),
            (Some(number), entry) => self.slots[at(number)].entry = entry,
            (None, None) => {}
            (None, entry) => {
                let number = self.insert(hash, key);
                self.slots[at(number)].entry = entry;
            }
        }
    }

    /// Makes every write permanent.
    pub fn commit(&mut self) {
        for undo in std::mem::take(&mut self.dirty) {
            if self.slots[at(undo.slot)].entry.is_none() {
                self.erase(undo.slot);
            }
        }
        self.transaction += 1;
    }

    /// Undoes every write since the last commit.
    pub fn rollback(&mut self) {
        if is_active(Mutant::KeepAbortedWrites) {
            return self.commit();
        }
        for undo in std::mem::take(&mut self.dirty) {
            match undo.before {
                None => self.erase(undo.slot),
                before => self.slots[at(undo.slot)].entry = before,
            }
        }
        self.transaction += 1;
    }

    /// True when nothing was touched since the last commit.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Hands each touched key with its value now to `each`, in the order of first touch. Keys that
    /// came and went within the transaction are passed over: nobody ever saw them.
    pub fn each_dirty(
        &self,
        mut each: impl FnMut(&K, Option<&Entry<V>>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        for undo in &self.dirty {
            let slot = &self.slots[at(undo.slot)];
            if undo.before.is_some() || slot.entry.is_some() {
                each(&slot.key, slot.entry.as_ref())?;
            }
        }
        Ok(())
    }

    /// Hands each key that the last commit left with a value to `each`, in no lasting order.
    pub fn each_committed(
        &self,
        mut each: impl FnMut(&K) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        for slot in &self.slots {
            if slot.touched != self.transaction && slot.entry.is_some() {
                each(&slot.key)?;
            }
        }
        for undo in self.dirty.iter().filter(|undo| undo.before.is_some()) {
            each(&self.slots[at(undo.slot)].key)?;
        }
        Ok(())
    }

    /// All keys with a value, in no lasting order: whoever shows them sorts them first.
    pub fn live(&self) -> impl Iterator<Item = (&K, &Entry<V>)> {
        self.slots.iter().filter_map(|slot| Some((&slot.key, slot.entry.as_ref()?)))
    }

    fn find(&self, hash: u64, key: &K) -> Option<u32> {
        self.index.find(hash, |&slot| self.slots[at(slot)].key == *key).copied()
    }

    fn insert(&mut self, hash: u64, key: K) -> u32 {
        let slot = Slot { hash, key, entry: None, touched: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[at(number)] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 keys")
            }
        };
        let Self { index, slots, .. } = self;
        index.insert_unique(hash, number, |&other| slots[at(other)].hash);
        number
    }

    fn erase(&mut self, number: u32) {
        let slot = &mut self.slots[at(number)];
        slot.entry = None;
        let found = self.index.find_entry(slot.hash, |&other| other == number);
        found
            .unwrap_or_else(|_| panic!("slot {number} is in the index until it is erased"))
            .remove();
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn content(overlay: &Overlay<u8, i64>) -> BTreeMap<u8, i64> {
        overlay.live().map(|(key, entry)| (*key, entry.value)).collect()
    }

    fn write(overlay: &mut Overlay<u8, i64>, key: u8, value: Option<i64>) {
        *overlay.touch(&key) = value.map(|value| Entry { value, timestamp: Timestamp(0) });
    }

    /// The keys that a commit would log.
    fn logged(overlay: &Overlay<u8, i64>) -> Vec<(u8, Option<i64>)> {
        let mut seen = Vec::new();
        overlay
            .each_dirty(|key, entry| {
                seen.push((*key, entry.map(|entry| entry.value)));
                Ok(())
            })
            .unwrap();
        seen
    }

    #[test]
    fn each_touched_key_is_logged_once_with_its_last_value() {
        let mut overlay = Overlay::default();
        write(&mut overlay, 1, Some(10));
        overlay.commit();
        write(&mut overlay, 2, Some(20));
        write(&mut overlay, 1, Some(11));
        write(&mut overlay, 2, Some(21));
        write(&mut overlay, 1, None);
        write(&mut overlay, 3, Some(30));
        write(&mut overlay, 3, None);
        assert_eq!(logged(&overlay), [(2, Some(21)), (1, None)]);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map_that_is_copied_at_each_commit(
            steps in prop::collection::vec((0_u8..12, 0_u8..8, any::<i64>()), 0..200)
        ) {
            let mut overlay = Overlay::default();
            let (mut now, mut committed) = (BTreeMap::new(), BTreeMap::new());
            for (what, key, value) in steps {
                match what {
                    0 => {
                        overlay.commit();
                        committed = now.clone();
                    }
                    1 => {
                        overlay.rollback();
                        now = committed.clone();
                    }
                    2..=4 => {
                        write(&mut overlay, key, None);
                        now.remove(&key);
                    }
                    _ => {
                        write(&mut overlay, key, Some(value));
                        now.insert(key, value);
                    }
                }
                prop_assert_eq!(content(&overlay), now.clone());
                prop_assert_eq!(overlay.get(&key).map(|entry| entry.value), now.get(&key).copied());
                let mut restored = committed.clone();
                for (key, value) in logged(&overlay) {
                    match value {
                        Some(value) => restored.insert(key, value),
                        None => restored.remove(&key),
                    };
                }
                prop_assert_eq!(restored, now.clone());
            }
        }
    }
}
