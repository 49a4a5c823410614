//! The key-value store: one value per key. Pure.

use bytes::Bytes;
use std::hash::Hash;

use super::overlay::{Entry, Overlay};
use super::{AnyStore, Changelog, changelog};
use crate::codec::{AnyCodec, BoxError, Store};
use crate::error::Flow;
use crate::record::Outbox;

/// The content of a [`Store`] in one task.
#[derive(Debug)]
pub struct KvStore<K, V> {
    name: std::sync::Arc<str>,
    codecs: Codecs<K, V>,
    pub(crate) entries: Overlay<K, V>,
}

pub(super) struct Codecs<K, V> {
    pub(super) key: AnyCodec<K>,
    pub(super) value: AnyCodec<V>,
}

impl<K, V> std::fmt::Debug for Codecs<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codecs")
    }
}

impl<K: Hash + Eq, V> KvStore<K, V> {
    /// An empty store.
    pub(crate) fn new(store: &Store<K, V>) -> Self {
        Self {
            name: store.name.clone(),
            codecs: Codecs { key: store.key.clone(), value: store.value.clone() },
            entries: Overlay::default(),
        }
    }

    /// All keys and values in the order of the keys' bytes.
    ///
    /// # Errors
    /// When a key cannot be encoded.
    pub fn sorted(&self) -> Result<Vec<(K, Entry<V>)>, BoxError>
    where
        K: Clone,
        V: Clone,
    {
        super::sorted_by_bytes(&*self.codecs.key, &self.entries)
    }
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> AnyStore for KvStore<K, V> {
    fn flush(&mut self, changelog: Changelog, outbox: &mut Outbox) -> Flow {
        let codecs = &self.codecs;
        let write = |key: &K, entry: Option<&Entry<V>>| {
            let written = outbox.write_with(
                (changelog.topic, changelog.placement),
                changelog.timestamp(entry),
                |out| codecs.key.encode(key, out).map(|()| true),
                |out| match entry {
                    Some(entry) => {
                        changelog::encode_value(&*codecs.value, entry, out).map(|()| true)
                    }
                    None => Ok(false),
                },
            );
            written.map_err(BoxError::from)
        };
        self.entries.each_dirty(write).map_err(|source| super::unwritable(&self.name, source))
    }

    fn commit(&mut self) {
        self.entries.commit();
    }

    fn rollback(&mut self) {
        self.entries.rollback();
    }

    fn restore(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), BoxError> {
        let key = self.codecs.key.decode(key)?;
        let entry = value.map(|value| changelog::decode_value(&*self.codecs.value, value));
        self.entries.restore(key, entry.transpose()?);
        Ok(())
    }
}
