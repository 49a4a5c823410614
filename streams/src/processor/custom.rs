//! Operators that users write: full access to records, stores and time.
//!
//! A [`Processor`] is made once per task and owns whatever it likes, but only what it keeps in its
//! declared stores survives a restart and rolls back with an aborted transaction. Pure.

use std::any::type_name;
use std::cell::RefCell;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use protocol::time::Timestamp;

use super::{Instance, MakeStore, Next, Punctuate, Push, TaskContext, TwoFaced};
use crate::codec::{BoxError, Store};
use crate::error::{Flow, StreamsError};
use crate::record::{Record, RecordContext};
use crate::store::{AnyStore, Entry, KvStore, Shared};
use crate::topology::Opaque;

/// A store that a processor declares, its types forgotten.
#[derive(Clone)]
pub struct DeclaredStore {
    pub(crate) name: Arc<str>,
    pub(crate) nullable_key: bool,
    pub(crate) type_name: &'static str,
    pub(crate) factory: Opaque,
}

impl std::fmt::Debug for DeclaredStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeclaredStore({})", self.name)
    }
}

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> Store<K, V> {
    /// This store as a processor declares it.
    #[must_use]
    pub fn declare(&self) -> DeclaredStore {
        let store = self.clone();
        let make = move || -> TwoFaced {
            let made = Rc::new(RefCell::new(KvStore::new(&store)));
            let untyped: Shared<dyn AnyStore> = made.clone();
            (made, untyped)
        };
        DeclaredStore {
            name: self.name.clone(),
            nullable_key: self.key.accepts_null(),
            type_name: type_name::<KvStore<K, V>>(),
            factory: Arc::new(MakeStore(Box::new(make))),
        }
    }
}

/// Which clock a punctuation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationClock {
    /// Event time: fires when a record moves stream time into the next interval. Deterministic.
    Stream,
    /// The wall clock.
    Wall,
}

/// A user's operator.
pub trait Processor {
    /// The key it takes.
    type KeyIn: Clone + 'static;
    /// The value it takes.
    type ValueIn: Clone + 'static;
    /// The key it forwards.
    type KeyOut: Clone + 'static;
    /// The value it forwards.
    type ValueOut: Clone + 'static;

    /// The stores it will ask its context for. Asked of one specimen, when the topology is built.
    fn stores(&self) -> Vec<DeclaredStore> {
        Vec::new()
    }

    /// How often `punctuate` shall run, and by which clock.
    fn schedules(&self) -> Vec<(PunctuationClock, Duration)> {
        Vec::new()
    }

    /// Takes a record.
    ///
    /// # Errors
    /// Its own; the error policy decides what follows.
    fn process(
        &mut self,
        record: Record<Self::KeyIn, Self::ValueIn>,
        cx: &mut Context<'_, Self::KeyOut, Self::ValueOut>,
    ) -> Result<(), BoxError>;

    /// An interval of `schedules` passed; `at` is the time of its clock.
    ///
    /// # Errors
    /// Its own; the task then fails.
    fn punctuate(
        &mut self,
        clock: PunctuationClock,
        at: Timestamp,
        cx: &mut Context<'_, Self::KeyOut, Self::ValueOut>,
    ) -> Result<(), BoxError> {
        let _ = (clock, at, cx);
        Ok(())
    }
}

/// What a processor may use while it runs.
pub struct Context<'a, K, V> {
    below: &'a mut Next<K, V>,
    stores: &'a [(Arc<str>, Rc<dyn std::any::Any>)],
    task: &'a mut TaskContext,
    timestamp: Timestamp,
    headers: &'a crate::record::Headers,
}

impl<K, V> Context<'_, K, V> {
    /// Sends a record to the operators below.
    ///
    /// # Errors
    /// What they say; hand it on.
    pub fn forward(&mut self, record: Record<K, V>) -> Result<(), BoxError> {
        self.below.push(record, self.task).map_err(|error| Box::new(Below(error)).into())
    }

    /// The largest event time that the task has seen. -1: none.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        self.task.stream_time
    }

    /// The wall clock, as of the task's last look.
    #[must_use]
    pub fn wall_time(&self) -> Timestamp {
        self.task.wall
    }

    /// Where the record in hand came from.
    #[must_use]
    pub fn record_context(&self) -> RecordContext<'_> {
        self.task.around(self.timestamp, self.headers)
    }

    /// A declared store.
    ///
    /// # Errors
    /// `UnknownStore` if `stores` did not declare it with these types.
    pub fn store<K2: Hash + Eq + Clone + 'static, V2: Clone + 'static>(
        &self,
        store: &Store<K2, V2>,
    ) -> Result<StoreHandle<K2, V2>, BoxError> {
        let found = self.stores.iter().find(|(name, _)| *name == store.name);
        found
            .and_then(|(_, typed)| typed.clone().downcast::<RefCell<KvStore<K2, V2>>>().ok())
            .map(StoreHandle)
            .ok_or_else(|| StreamsError::UnknownStore(store.name.clone()).into())
    }
}

/// An error from below on its way up through a processor: it was judged there, not here.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Below(Box<StreamsError>);

/// A key-value store in a processor's hands.
#[derive(Debug)]
pub struct StoreHandle<K, V>(Shared<KvStore<K, V>>);

impl<K: Hash + Eq + Clone + 'static, V: Clone + 'static> StoreHandle<K, V> {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.0.borrow().entries.get(key).map(|entry| entry.value.clone())
    }

    /// Sets the value of `key`, dated `at`.
    pub fn put(&self, key: &K, value: V, at: Timestamp) {
        *self.0.borrow_mut().entries.touch(key) = Some(Entry { value, timestamp: at });
    }

    /// Removes `key`.
    pub fn delete(&self, key: &K) {
        *self.0.borrow_mut().entries.touch(key) = None;
    }

    /// All keys and values in the order of the keys' bytes. Copies the whole store.
    ///
    /// # Errors
    /// When a key cannot be encoded.
    pub fn entries(&self) -> Result<Vec<(K, Entry<V>)>, BoxError> {
        self.0.borrow().sorted()
    }
}

/// A processor in its place.
pub(crate) struct Custom<P: Processor> {
    processor: P,
    node: Arc<str>,
    policy: super::Policy,
    stores: Vec<(Arc<str>, Rc<dyn std::any::Any>)>,
    /// Intervals of stream time, in milliseconds.
    stream: Vec<i64>,
    /// Intervals of the wall clock, and when each is due; `None` before the first look.
    wall: Vec<(Duration, Option<Timestamp>)>,
    below: Next<P::KeyOut, P::ValueOut>,
}

impl<P: Processor + 'static> Custom<P> {
    /// Puts a processor above `below` and registers its punctuations.
    pub(crate) fn place(
        processor: P,
        node: Arc<str>,
        policy: super::Policy,
        instance: &mut Instance<'_>,
        below: Next<P::KeyOut, P::ValueOut>,
    ) -> Next<P::KeyIn, P::ValueIn> {
        let names = processor.stores().into_iter().map(|store| store.name);
        let stores =
            names.filter_map(|name| Some((name.clone(), instance.typed(&name)?))).collect();
        let schedules = processor.schedules();
        let of = |clock| schedules.iter().filter(move |schedule| schedule.0 == clock);
        let wall = of(PunctuationClock::Wall).map(|&(_, every)| (every, None)).collect();
        // A length of zero would never pass.
        let millis = |every: Duration| i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let stream = of(PunctuationClock::Stream).map(|&(_, every)| millis(every)).collect();
        let custom = Self { processor, node, policy, stores, stream, wall, below };
        let custom = Rc::new(RefCell::new(custom));
        if !schedules.is_empty() {
            instance.punctuate(custom.clone());
        }
        Box::new(Placed(custom))
    }

    fn run(
        &mut self,
        cx: &mut TaskContext,
        around: (Timestamp, &crate::record::Headers),
        call: impl FnOnce(&mut P, &mut Context<'_, P::KeyOut, P::ValueOut>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut context = Context {
            below: &mut self.below,
            stores: &self.stores,
            task: cx,
            timestamp: around.0,
            headers: around.1,
        };
        call(&mut self.processor, &mut context)
    }

    fn punctuate(&mut self, clock: PunctuationClock, at: Timestamp, cx: &mut TaskContext) -> Flow {
        let headers = crate::record::Headers::default();
        let ran = self
            .run(cx, (at, &headers), |processor, context| processor.punctuate(clock, at, context));
        ran.map_err(|error| self.judge(error, cx).unwrap_or_else(|below| below))
    }

    /// The processor's own error as `Ok`, one from below as `Err`.
    fn judge(
        &self,
        error: BoxError,
        cx: &TaskContext,
    ) -> Result<Box<StreamsError>, Box<StreamsError>> {
        match error.downcast::<Below>() {
            Ok(below) => Err(below.0),
            Err(own) => Ok(cx.refusal(&self.node, own)),
        }
    }
}

struct Placed<P: Processor>(Rc<RefCell<Custom<P>>>);

impl<P: Processor + 'static> Push<P::KeyIn, P::ValueIn> for Placed<P> {
    fn push(&mut self, record: Record<P::KeyIn, P::ValueIn>, cx: &mut TaskContext) -> Flow {
        let mut custom = self.0.borrow_mut();
        let headers = record.headers.clone();
        let around = (record.timestamp, &headers);
        let ran = custom.run(cx, around, |processor, context| processor.process(record, context));
        match ran.map_err(|error| custom.judge(error, cx)) {
            Ok(()) => Ok(()),
            Err(Ok(own)) => cx.resolve(custom.policy, own),
            Err(Err(below)) => Err(below),
        }
    }
}

impl<P: Processor + 'static> Punctuate for Custom<P> {
    fn stream_time(&mut self, before: Timestamp, cx: &mut TaskContext) -> Flow {
        let now = cx.stream_time;
        for index in 0..self.stream.len() {
            let every = self.stream[index];
            // Intervals are counted from 0, so that what fires follows from the records alone.
            if before.0.div_euclid(every) != now.0.div_euclid(every) {
                self.punctuate(PunctuationClock::Stream, now, cx)?;
            }
        }
        Ok(())
    }

    fn wall_time(&mut self, cx: &mut TaskContext) -> Flow {
        let now = cx.wall;
        for index in 0..self.wall.len() {
            let (every, due) = self.wall[index];
            if due.is_none_or(|due| due <= now) {
                self.wall[index].1 = Some(now.plus(every));
                if due.is_some() {
                    self.punctuate(PunctuationClock::Wall, now, cx)?;
                }
            }
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.wall.iter().map(|(_, due)| due.unwrap_or(Timestamp(0))).min()
    }
}
