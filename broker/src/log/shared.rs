//! The writer, where its loop and whoever submits to it can reach it.
//!
//! The loop takes the lock for moments and waits for it; whoever submits takes it only if nobody has it and nothing
//! waits, so that nobody overtakes and nobody is held up. When the loop ends, the writer goes, whoever
//! still holds a handle. Shell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::writer::Writer;

/// The writer, if its loop has not ended.
#[derive(Clone)]
pub(super) struct Shared {
    /// `None` once its loop has ended. A lock, as a message to the loop and its answer cost two wake-ups; whoever
    /// submits only tries it.
    writer: Arc<Mutex<Option<Writer>>>,
    /// Requests sent to the loop and not carried out.
    pub(super) waiting: Arc<AtomicUsize>,
    /// What was written past the loop made work for it.
    pub(super) look: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer: Arc::new(Mutex::new(Some(writer))),
            waiting: Arc::default(),
            look: Arc::default(),
        }
    }

    /// `None`: the writer is gone, or a panic left it half done.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        self.writer.lock().ok()?.as_mut().map(act)
    }

    /// Does this at once, unless requests wait or the writer is at work. `None`: not done.
    pub(super) fn try_with<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        self.writer.try_lock().ok()?.as_mut().map(act)
    }
}

/// Takes the writer, and with it the lock of its directory, away in the end.
pub(super) struct TakenAtEnd(pub(super) Shared);

impl Drop for TakenAtEnd {
    fn drop(&mut self) {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = writer.take();
        drop(writer);
        drop(taken);
    }
}
