//! Aggregations: many records of one key become one value. Pure.

use std::any::type_name;
use std::hash::Hash;
use std::sync::Arc;

use super::builder::{Data, add_store, two_faced};
use super::stream::KStream;
use super::table::KTable;
use crate::codec::{Store, WindowStore};
use crate::error::BuildError;
use crate::processor::aggregate::{Fold, aggregate};
use crate::processor::table::{AnyLookup, Lookup};
use crate::processor::window_aggregate::WindowAggregate;
use crate::processor::{Instance, MakeStore};
use crate::store::{KvStore, Shared, WindowTable};
use crate::topology::StoreIndex;
use crate::window::{Emit, WindowSpec, Windowed, Windows};

/// A stream whose records of one key are in one partition.
#[derive(Debug)]
pub struct KGrouped<K, V> {
    pub(crate) stream: KStream<K, V>,
}

impl<K: Data + Hash + Eq, V: Data> KGrouped<K, V> {
    /// How many records each key had.
    pub fn count(self, store: Store<K, i64>) -> KTable<K, i64> {
        self.fold("count", store, false, |_, _, count| Some(count.unwrap_or(0).saturating_add(1)))
    }

    /// All values of a key brought down to one: the first is taken as it is, each further one is
    /// combined with what there is.
    pub fn reduce(
        self,
        store: Store<K, V>,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> KTable<K, V> {
        self.fold("reduce", store, false, move |_, value, old| {
            Some(match old {
                Some(old) => f(old, value),
                None => value,
            })
        })
    }

    /// One value per key, beginning with `init` and changed by each record.
    pub fn aggregate<A: Data>(
        self,
        store: Store<K, A>,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.fold("aggregate", store, false, move |key, value, old| {
            let mut aggregate = old.unwrap_or_else(&init);
            f(key, value, &mut aggregate);
            Some(aggregate)
        })
    }

    /// One value per key, as [`KGrouped::aggregate`]; `None` deletes the key, and the next record
    /// begins with `init` again.
    pub fn aggregate_or_delete<A: Data>(
        self,
        store: Store<K, A>,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        self.fold("aggregate_or_delete", store, true, move |key, value, old| {
            f(key, value, old.unwrap_or_else(&init))
        })
    }

    fn fold<A: Data>(
        self,
        label: &str,
        store: Store<K, A>,
        deletes: bool,
        fold: impl Fold<K, V, A> + Send + Sync,
    ) -> KTable<K, A> {
        let fold = Arc::new(fold);
        let index = add_store(&mut self.stream.graph.borrow_mut(), &store);
        let changes = self.stream.then(label, &[index], move |instance, below| {
            aggregate(instance.store::<KvStore<K, A>>(index), fold.clone(), below)
        });
        KTable::stored(changes, store.name, deletes, index)
    }

    /// Divides the records of each key by windows of event time.
    pub fn window<W: Windows>(self, windows: W) -> KWindowed<K, V> {
        KWindowed { stream: self.stream, windows: windows.spec(), emit: Emit::default() }
    }
}

/// A stream grouped by key and window.
#[derive(Debug)]
pub struct KWindowed<K, V> {
    stream: KStream<K, V>,
    windows: Result<WindowSpec, &'static str>,
    emit: Emit,
}

impl<K: Data + Hash + Eq, V: Data> KWindowed<K, V> {
    /// When the aggregation speaks. Without this: at every record.
    #[must_use]
    pub fn emit(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }

    /// How many records each key had in each window.
    pub fn count(self, store: WindowStore<K, i64>) -> KTable<Windowed<K>, i64> {
        self.fold("count", store, false, |_, _, count| Some(count.unwrap_or(0).saturating_add(1)))
    }

    /// All values of a key and window brought down to one.
    pub fn reduce(
        self,
        store: WindowStore<K, V>,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, V> {
        self.fold("reduce", store, false, move |_, value, old| {
            Some(match old {
                Some(old) => f(old, value),
                None => value,
            })
        })
    }

    /// One value per key and window, beginning with `init` and changed by each record.
    pub fn aggregate<A: Data>(
        self,
        store: WindowStore<K, A>,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.fold("aggregate", store, false, move |key, value, old| {
            let mut aggregate = old.unwrap_or_else(&init);
            f(key, value, &mut aggregate);
            Some(aggregate)
        })
    }

    /// One value per key and window, as [`KWindowed::aggregate`]; `None` deletes it, and the next
    /// record begins with `init` again.
    pub fn aggregate_or_delete<A: Data>(
        self,
        store: WindowStore<K, A>,
        init: impl Fn() -> A + Send + Sync + 'static,
        f: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        self.fold("aggregate_or_delete", store, true, move |key, value, old| {
            f(key, value, old.unwrap_or_else(&init))
        })
    }

    fn fold<A: Data>(
        self,
        label: &str,
        store: WindowStore<K, A>,
        deletes: bool,
        fold: impl Fold<K, V, A> + Send + Sync,
    ) -> KTable<Windowed<K>, A> {
        let windows = self.windows.unwrap_or_else(|problem| {
            let error = BuildError::BadWindow { store: store.name.clone(), problem };
            self.stream.graph.borrow_mut().errors.push(error);
            WindowSpec::PLACEHOLDER
        });
        let index = self.add_store(&store);
        let (fold, emit, name) = (Arc::new(fold), self.emit, store.name.clone());
        // A time beyond any record's keeps windows for ever, as asked.
        let keep_ms = i64::try_from(store.keep.as_millis()).unwrap_or(i64::MAX);
        let label = format!("{label} by window of {windows}, {emit}");
        let changes = self.stream.then(label, &[index], move |instance, below| {
            Box::new(WindowAggregate {
                windows,
                emit,
                keep_ms,
                store: instance.store::<WindowTable<K, A>>(index),
                time: instance.time_slot(&name),
                node: name.clone(),
                fold: fold.clone(),
                below,
            })
        });
        let lookup = Arc::new(move |instance: &mut Instance<'_>| -> AnyLookup<Windowed<K>, A> {
            Box::new(WindowLookup(instance.store::<WindowTable<K, A>>(index)))
        });
        KTable { changes, name: store.name, deletes, store: index, lookup }
    }

    fn add_store<A: Data>(&self, store: &WindowStore<K, A>) -> StoreIndex {
        let nullable = store.key.accepts_null();
        let of = store.clone();
        let make = MakeStore(Box::new(move || two_faced(WindowTable::new(&of))));
        let types = type_name::<WindowTable<K, A>>();
        let mut graph = self.stream.graph.borrow_mut();
        graph.add_store(&store.name, nullable, types, Arc::new(make))
    }
}

/// A window store looked up as a table.
struct WindowLookup<K, V>(Shared<WindowTable<K, V>>);

impl<K: Data + Hash + Eq, V: Data> Lookup<Windowed<K>, V> for WindowLookup<K, V> {
    fn with(&self, key: &Windowed<K>, then: &mut dyn FnMut(Option<&V>)) {
        then(self.0.borrow().get(key.start, &key.key).map(|entry| &entry.value));
    }
}
