//! State: transactional from the first day.
//!
//! A store is a committed base with an undo for what is not committed yet. A transaction ends in
//! three steps: *flush* writes one changelog record per touched key into the transaction, *commit*
//! makes the writes permanent once the transaction is, *rollback* undoes them if it is not. Nothing
//! is ever wiped, and aborting costs what was touched, not what is stored.
//!
//! Between tasks nothing is shared; within a task, operators share a store by reference. Pure.

pub mod changelog;
pub mod kv;
pub mod overlay;
pub mod window;

use std::cell::RefCell;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use protocol::time::Timestamp;

pub use kv::KvStore;
pub use overlay::Entry;
pub use window::WindowTable;

use crate::codec::{BoxError, Codec};
use crate::error::{Flow, StreamsError};
use crate::record::{Outbox, Placement, TopicIndex};

/// Where a store's changelog records go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changelog {
    pub(crate) topic: TopicIndex,
    pub(crate) placement: Placement,
    /// Dates tombstones: they have no event time of their own.
    pub(crate) stream_time: Timestamp,
}

impl Changelog {
    fn timestamp<V>(&self, entry: Option<&Entry<V>>) -> Timestamp {
        entry.map_or(self.stream_time, |entry| entry.timestamp).max(Timestamp(0))
    }
}

/// What a task does with a store without knowing its types.
pub(crate) trait AnyStore {
    /// Writes what changed since the last commit into the changelog; changes nothing itself.
    fn flush(&mut self, changelog: Changelog, outbox: &mut Outbox) -> Flow;
    /// The transaction committed.
    fn commit(&mut self);
    /// The transaction aborted.
    fn rollback(&mut self);
    /// Applies a committed changelog record. Only before the first write.
    fn restore(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), BoxError>;
}

/// A store as the operators of a task share it.
pub(crate) type Shared<S> = Rc<RefCell<S>>;

/// All live entries in the order of their keys' bytes: the one order that survives a restore.
fn sorted_by_bytes<K: Hash + Eq + Clone, V: Clone>(
    codec: &dyn Codec<K>,
    entries: &overlay::Overlay<K, V>,
) -> Result<Vec<(K, Entry<V>)>, BoxError> {
    let mut found = Vec::new();
    for (key, entry) in entries.live() {
        let mut bytes = Vec::new();
        codec.encode(key, &mut bytes)?;
        found.push((bytes, key.clone(), entry.clone()));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().map(|(_, key, entry)| (key, entry)).collect())
}

fn unwritable(name: &Arc<str>, source: BoxError) -> Box<StreamsError> {
    Box::new(StreamsError::Encode { node: name.clone(), part: "changelog record", source })
}
