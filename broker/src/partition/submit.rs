//! Writes on their way to the log's writer, and the question what became of them.
//!
//! What finds the writer's queue full waits here, and one task sends it, piece by piece: nothing that comes
//! later overtakes it. Shell.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::core::Event;
use super::shell::{Partition, words};
use crate::log::{LogId, Write};

/// What waits. It is bounded by what the core lets be underway.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// Oldest first.
    writes: VecDeque<Write>,
    /// After those, the state as it is on disk is to be asked for.
    recalls: bool,
    /// A task sends them; also while the last one is on its way.
    is_sending: bool,
}

impl Partition {
    /// Hands `writes` to the log's writer, all that wait at once.
    pub(super) fn submit(self: &Arc<Self>, log: LogId, writes: &mut Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let mut unsent = self.unsent();
        if !unsent.is_sending {
            self.dir.try_submit(log, writes);
        }
        if !writes.is_empty() {
            unsent.writes.extend(writes.drain(..));
            self.send(unsent, log);
        }
    }

    /// Asks for the state as it is on disk: a write failed, and the log refuses those after it, which need not be
    /// sent any more.
    pub(super) fn recall(self: &Arc<Self>, log: LogId) {
        let mut unsent = self.unsent();
        unsent.writes.clear();
        unsent.recalls = true;
        self.send(unsent, log);
    }

    fn send(self: &Arc<Self>, mut unsent: MutexGuard<'_, Unsent>, log: LogId) {
        if !std::mem::replace(&mut unsent.is_sending, true) {
            let this = self.clone();
            self.runtime.spawn(async move { this.send_all(log).await });
        }
    }

    async fn send_all(self: &Arc<Self>, log: LogId) {
        loop {
            let next = {
                let mut unsent = self.unsent();
                let next = unsent.writes.pop_front();
                if next.is_none() && !std::mem::take(&mut unsent.recalls) {
                    unsent.is_sending = false;
                    return;
                }
                next
            };
            match next {
                // A writer that has ended has told so by the log's progress.
                Some(write) => drop(self.dir.submit(log, write).await),
                None => self.tell(match self.dir.restate(log).await {
                    Ok(state) => Event::Recalled { on_disk: Box::new(state) },
                    Err(error) => Event::Failed { reason: words(&error) },
                }),
            }
        }
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
