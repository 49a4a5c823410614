//! Writes on their way to the log's writer. Shell.

use std::sync::{Arc, PoisonError};

use super::shell::Partition;
use crate::log::{LogId, Write};

impl Partition {
    /// Hands `writes` to the log's writer, all that wait at once. When its queue is full they, and those that
    /// come after them, queue here: they are bounded by what the core lets be underway.
    pub(super) fn submit(self: &Arc<Self>, log: LogId, writes: &mut Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = unsent.is_empty();
        if is_first {
            self.dir.try_submit(log, writes);
        }
        if writes.is_empty() {
            return;
        }
        unsent.extend(writes.drain(..));
        drop(unsent);
        if is_first {
            let this = self.clone();
            self.runtime.spawn(async move { this.send_unsent(log).await });
        }
    }

    async fn send_unsent(&self, log: LogId) {
        let first = |unsent: &Self| {
            unsent.unsent.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
        };
        while let Some(write) = first(self) {
            // A writer that has ended has told so by the log's progress.
            let _ = self.dir.submit(log, write).await;
            self.unsent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        }
    }
}
