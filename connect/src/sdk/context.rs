//! What a task is handed: who it is, the clock, and word that it shall stop. Shell.

use std::fmt;
use std::sync::Arc;

use protocol::time::Clock;
use tokio::sync::watch;

/// Who a task is and what it may use of the world.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// The connector's name, for messages and names of things.
    pub connector: Arc<str>,
    /// This task's number, from 0.
    pub task: usize,
    /// How many tasks the connector runs; above `task`.
    pub task_count: usize,
    /// Reads time; tasks have no other clock.
    pub clock: Clock,
    /// Tells when to hurry to an end.
    pub stopping: Stopping,
}

/// Gives word that tasks shall stop; dropping it gives word as well.
#[derive(Debug)]
pub struct StopSource(watch::Sender<bool>);

impl Default for StopSource {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl StopSource {
    /// Tells all who listen to stop. Telling twice changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// A listener.
    #[must_use]
    pub fn listener(&self) -> Stopping {
        Stopping(self.0.subscribe())
    }
}

/// Hears when a task shall stop.
#[derive(Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// True once the task shall stop: calls under way should return soon.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until the task shall stop. Cancel safe.
    pub async fn stopped(&self) {
        // An error means that the source is gone, which is word to stop as well.
        let _gone = self.0.clone().wait_for(|stop| *stop).await.is_err();
    }
}

impl Stopping {
    /// What `work` gives, or `None` as soon as the task shall stop: `work` is dropped then, wherever it is.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            done = work => Some(done),
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stopping({})", self.is_stopping())
    }
}

/// Something surprising that was handled, and that an operator should know: a file that cannot be read, a
/// line that was cut. The worker logs it, counts it by kind and shows it in the connector's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What happened, in fixed words by which it is counted: `unreadable file`.
    pub kind: &'static str,
    /// To which thing: `/var/log/secure`.
    pub thing: String,
    /// What else is known; may be empty.
    pub detail: String,
}

impl Note {
    /// A note of `kind` on `thing`.
    pub fn new(kind: &'static str, thing: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, thing: thing.into(), detail: detail.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.thing)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_hears_the_stop_also_when_the_source_is_dropped() {
        let source = StopSource::default();
        let early = source.listener();
        assert!(!early.is_stopping());
        assert_eq!(early.unless_stopped(async { 1 }).await, Some(1));
        source.stop();
        assert_eq!(early.unless_stopped(std::future::pending::<()>()).await, None);
        early.stopped().await;
        assert!(early.is_stopping());
        let source = StopSource::default();
        let orphan = source.listener();
        drop(source);
        orphan.stopped().await;
        assert!(orphan.is_stopping());
    }
}
