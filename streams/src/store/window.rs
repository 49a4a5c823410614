//! The window store: one value per window and key.
//!
//! Windows lie in the order of their starts, each with its own table of keys. A window that closed
//! stays until the next commit, so that rolling back can bring it back; the commit then writes a
//! tombstone for each of its keys and drops it whole. Whether a window closed follows from event
//! time alone, never from a broker's retention: a restored store holds exactly what the lost one
//! held, however long the application was down and however old the records' timestamps are. Pure.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use protocol::time::Timestamp;

use super::kv::Codecs;
use super::overlay::{Entry, Overlay};
use super::{AnyStore, Changelog, changelog};
use crate::codec::{BoxError, WindowStore};
use crate::error::Flow;
use crate::record::Outbox;

/// The content of a [`WindowStore`] in one task.
#[derive(Debug)]
pub struct WindowTable<K, V> {
    name: Arc<str>,
    codecs: Codecs<K, V>,
    windows: BTreeMap<Timestamp, Overlay<K, V>>,
    /// Starts of windows touched since the last commit, in the order of first touch.
    dirty: Vec<Timestamp>,
    /// Windows that start at or before this leave at the next commit.
    expired: Bound,
}

/// A limit with what it was at the last commit.
#[derive(Debug, Clone, Copy)]
struct Bound {
    now: Timestamp,
    committed: Timestamp,
}

impl<K: Hash + Eq + Clone, V: Clone> WindowTable<K, V> {
    /// An empty store.
    pub(crate) fn new(store: &WindowStore<K, V>) -> Self {
        let never = Timestamp(i64::MIN);
        Self {
            name: store.name.clone(),
            codecs: Codecs { key: store.key.clone(), value: store.value.clone() },
            windows: BTreeMap::new(),
            dirty: Vec::new(),
            expired: Bound { now: never, committed: never },
        }
    }

    /// What is stored for `key` in the window that starts at `start`.
    pub fn get(&self, start: Timestamp, key: &K) -> Option<&Entry<V>> {
        self.windows.get(&start)?.get(key)
    }

    /// Opens `key` for writing in the window that starts at `start`.
    pub(crate) fn touch(&mut self, start: Timestamp, key: &K) -> &mut Option<Entry<V>> {
        let window = self.windows.entry(start).or_default();
        if window.is_clean() {
            self.dirty.push(start);
        }
        window.touch(key)
    }

    /// Lets windows that start at or before `start` leave at the next commit.
    pub(crate) fn expire_through(&mut self, start: Timestamp) {
        self.expired.now = self.expired.now.max(start);
    }

    /// All windows that start in `after..=through`, by start and then by the bytes of the key.
    pub(crate) fn between(
        &self,
        after: Timestamp,
        through: Timestamp,
    ) -> Result<Vec<(Timestamp, K, Entry<V>)>, BoxError> {
        let mut found = Vec::new();
        if after >= through {
            return Ok(found);
        }
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Included(through));
        for (&start, window) in self.windows.range(range) {
            let sorted = super::sorted_by_bytes(&*self.codecs.key, window)?;
            found.extend(sorted.into_iter().map(|(key, entry)| (start, key, entry)));
        }
        Ok(found)
    }

    /// The start of the oldest window, if it starts in `after..=through`.
    pub(crate) fn any_between(&self, after: Timestamp, through: Timestamp) -> bool {
        after < through
            && self
                .windows
                .range((std::ops::Bound::Excluded(after), std::ops::Bound::Included(through)))
                .next()
                .is_some()
    }

    /// Everything, by start and then by the bytes of the key.
    ///
    /// # Errors
    /// When a key cannot be encoded.
    pub fn sorted(&self) -> Result<Vec<(Timestamp, K, Entry<V>)>, BoxError> {
        self.between(Timestamp(i64::MIN), Timestamp(i64::MAX))
    }

    fn write(
        codecs: &Codecs<K, V>,
        changelog: Changelog,
        outbox: &mut Outbox,
        (start, key, entry): (Timestamp, &K, Option<&Entry<V>>),
    ) -> Result<(), BoxError> {
        let written = outbox.write_with(
            (changelog.topic, changelog.placement),
            changelog.timestamp(entry),
            |out| changelog::encode_window_key(&*codecs.key, key, start, out).map(|()| true),
            |out| match entry {
                Some(entry) => changelog::encode_value(&*codecs.value, entry, out).map(|()| true),
                None => Ok(false),
            },
        );
        written.map_err(BoxError::from)
    }

    fn flush_all(&self, changelog: Changelog, outbox: &mut Outbox) -> Result<(), BoxError> {
        for start in self.dirty.iter().filter(|&&start| start > self.expired.now) {
            self.windows[start].each_dirty(|key, entry| {
                Self::write(&self.codecs, changelog, outbox, (*start, key, entry))
            })?;
        }
        for (start, window) in self.windows.range(..=self.expired.now) {
            window.each_committed(|key| {
                Self::write(&self.codecs, changelog, outbox, (*start, key, None))
            })?;
        }
        Ok(())
    }
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> AnyStore for WindowTable<K, V> {
    fn flush(&mut self, changelog: Changelog, outbox: &mut Outbox) -> Flow {
        self.flush_all(changelog, outbox).map_err(|source| super::unwritable(&self.name, source))
    }

    fn commit(&mut self) {
        for start in std::mem::take(&mut self.dirty) {
            self.windows.get_mut(&start).expect("a dirty window exists").commit();
        }
        self.expired.committed = self.expired.now;
        while let Some(oldest) = self.windows.first_entry() {
            if *oldest.key() > self.expired.now {
                break;
            }
            oldest.remove();
        }
    }

    fn rollback(&mut self) {
        for start in std::mem::take(&mut self.dirty) {
            self.windows.get_mut(&start).expect("a dirty window exists").rollback();
        }
        self.expired.now = self.expired.committed;
    }

    fn restore(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), BoxError> {
        let (key, start) = changelog::decode_window_key(&*self.codecs.key, key)?;
        let entry = value.map(|value| changelog::decode_value(&*self.codecs.value, value));
        let window = self.windows.entry(start).or_default();
        window.restore(key, entry.transpose()?);
        if window.live().next().is_none() {
            self.windows.remove(&start);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{I64, Utf8};
    use crate::record::{Placement, TopicIndex};

    fn table() -> WindowTable<String, i64> {
        WindowTable::new(&WindowStore::new("w", Utf8, I64))
    }

    fn put(table: &mut WindowTable<String, i64>, start: i64, key: &str, value: i64) {
        *table.touch(Timestamp(start), &key.to_owned()) =
            Some(Entry { value, timestamp: Timestamp(start) });
    }

    fn content(table: &WindowTable<String, i64>) -> Vec<(i64, String, i64)> {
        let sorted = table.sorted().unwrap();
        sorted.into_iter().map(|(start, key, entry)| (start.0, key, entry.value)).collect()
    }

    fn flush(table: &mut WindowTable<String, i64>) -> Vec<(Bytes, Option<Bytes>)> {
        let changelog = Changelog {
            topic: TopicIndex(0),
            placement: Placement::Exactly(0.into()),
            stream_time: Timestamp(0),
        };
        let mut outbox = Outbox::default();
        table.flush(changelog, &mut outbox).unwrap();
        let copy = Bytes::copy_from_slice;
        outbox.iter().map(|record| (copy(record.key.unwrap()), record.value.map(copy))).collect()
    }

    #[test]
    fn a_closed_window_leaves_at_commit_with_one_tombstone_per_committed_key() {
        let mut table = table();
        put(&mut table, 0, "b", 1);
        put(&mut table, 10, "a", 2);
        assert_eq!(flush(&mut table).len(), 2);
        table.commit();
        put(&mut table, 0, "b", 3);
        put(&mut table, 0, "new", 4);
        put(&mut table, 10, "a", 5);
        table.expire_through(Timestamp(0));
        let log = flush(&mut table);
        assert_eq!(log[0].0.as_ref(), b"a\0\0\0\0\0\0\0\x0a");
        assert!(log[0].1.is_some());
        assert_eq!(log[1], (Bytes::from_static(b"b\0\0\0\0\0\0\0\0"), None));
        assert_eq!(log.len(), 2, "a key that closed before any commit leaves no trace");
        table.commit();
        assert_eq!(content(&table), [(10, "a".to_owned(), 5)]);
    }

    #[test]
    fn a_rolled_back_close_leaves_the_window_where_it_was() {
        let mut table = table();
        put(&mut table, 0, "b", 1);
        table.commit();
        put(&mut table, 0, "b", 2);
        table.expire_through(Timestamp(5));
        table.rollback();
        assert_eq!(content(&table), [(0, "b".to_owned(), 1)]);
        assert!(flush(&mut table).is_empty());
        table.commit();
        assert_eq!(content(&table), [(0, "b".to_owned(), 1)]);
    }

    #[test]
    fn replaying_the_changelog_gives_the_same_store() {
        let (mut table, mut copy) = (table(), table());
        let mut log = Vec::new();
        for (start, key, value) in [(0, "a", 1), (0, "b", 2), (10, "a", 3), (20, "c", 4)] {
            put(&mut table, start, key, value);
            table.expire_through(Timestamp(start - 15));
            log.extend(flush(&mut table));
            table.commit();
        }
        for (key, value) in log {
            copy.restore(&key, value.as_ref()).unwrap();
        }
        assert_eq!(content(&copy), content(&table));
        assert_eq!(content(&copy), [(10, "a".to_owned(), 3), (20, "c".to_owned(), 4)]);
    }
}
