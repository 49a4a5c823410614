//! One value per key and window, kept from record to record.
//!
//! A window is open while the operator's stream time is below its end plus the grace period; a
//! record that comes after that is late: counted and dropped. The stream time is part of what a
//! commit remembers, so a restart does not open closed windows again.
//!
//! Emitting on close, each closed window sends its final value once, in the order of the windows'
//! starts and then of the keys' bytes, with the record that closed it. Pure.

use std::hash::Hash;
use std::sync::Arc;

use protocol::time::Timestamp;

use super::aggregate::{Fold, fold_into};
use super::{Next, Push, TaskContext, TimeSlot};
use crate::error::Flow;
use crate::record::{Headers, Record};
use crate::store::{Shared, WindowTable};
use crate::window::{Emit, WindowSpec, Windowed};

/// The operator of a windowed aggregation.
pub(crate) struct WindowAggregate<K, A, F> {
    pub(crate) windows: WindowSpec,
    pub(crate) emit: Emit,
    /// How long closed windows stay in the store, in milliseconds.
    pub(crate) keep_ms: i64,
    pub(crate) store: Shared<WindowTable<K, A>>,
    pub(crate) time: TimeSlot,
    pub(crate) node: Arc<str>,
    pub(crate) fold: Arc<F>,
    pub(crate) below: Next<Windowed<K>, Option<A>>,
}

impl<K, V, A, F> Push<K, V> for WindowAggregate<K, A, F>
where
    K: Hash + Eq + Clone + 'static,
    V: Clone + 'static,
    A: Clone + 'static,
    F: Fold<K, V, A>,
{
    fn push(&mut self, record: Record<K, V>, cx: &mut TaskContext) -> Flow {
        let (before, now) = cx.observe(self.time, record.timestamp);
        let close = self.windows.last_closed_start(now);
        for start in self.windows.starts_of(record.timestamp) {
            if start <= close {
                cx.counters.dropped_late += 1;
                continue;
            }
            let (value, timestamp) = {
                let mut store = self.store.borrow_mut();
                let entry = store.touch(start, &record.key);
                fold_into(&*self.fold, entry, &record.key, record.value.clone(), record.timestamp)
            };
            if self.emit == Emit::OnUpdate {
                let key = self.windows.windowed(record.key.clone(), start);
                let headers = record.headers.clone();
                self.below.push(Record { key, value, timestamp, headers }, cx)?;
            }
        }
        if before < now {
            if self.emit == Emit::OnClose {
                self.emit_closed(self.windows.last_closed_start(before), close, cx)?;
            }
            let expired = Timestamp(close.0.saturating_sub(self.keep_ms));
            self.store.borrow_mut().expire_through(expired);
        }
        Ok(())
    }
}

impl<K: Hash + Eq + Clone, A: Clone, F> WindowAggregate<K, A, F> {
    /// Sends the windows that start in `after..=through`.
    fn emit_closed(&mut self, after: Timestamp, through: Timestamp, cx: &mut TaskContext) -> Flow {
        if !self.store.borrow().any_between(after, through) {
            return Ok(());
        }
        let closed = self.store.borrow().between(after, through);
        let closed = closed.map_err(|source| cx.refusal(&self.node, source))?;
        for (start, key, entry) in closed {
            let key = self.windows.windowed(key, start);
            let (value, timestamp) = (Some(entry.value), entry.timestamp);
            let record = Record { key, value, timestamp, headers: Headers::default() };
            self.below.push(record, cx)?;
        }
        Ok(())
    }
}
