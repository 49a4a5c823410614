//! Where the audit trail is written: as events of the target `audit`.
//!
//! Failures, denials and changes are told at INFO, what was proved and allowed at DEBUG, as Kafka's
//! `kafka.authorizer.logger` does. With `--log-format json` each is one object on one line, of the
//! fields that [`Event`] has. What was withheld is told when its window ends, also when nothing
//! else happens, and when the broker stops. Shell.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::time::Clock;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{Level, debug, enabled, info};

use super::audit::{Event, Kind, Ledger, Withheld, plain};
use crate::limits::AUDIT_WINDOW;

/// The trail of one broker. Clones are the same; dropping the last writes what was withheld.
#[derive(Clone)]
pub(crate) struct Trail {
    inner: Arc<Inner>,
    /// Ends with the last clone.
    _closing: Arc<Closing>,
}

struct Inner {
    clock: Clock,
    /// A lock, as every connection writes here and none may wait for an owner's turn; held to count.
    ledger: Mutex<Ledger>,
    /// Rung when something is withheld for the first time in a window.
    bell: Notify,
    /// Events that happened, by kind, whether written or withheld.
    happened: [AtomicU64; Kind::ALL.len()],
    withheld: AtomicU64,
}

struct Closing {
    inner: Arc<Inner>,
    task: AbortHandle,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.task.abort();
        self.inner.close();
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trail")
    }
}

impl Trail {
    /// An empty one. To be called within a runtime.
    pub(crate) fn start(clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            clock,
            ledger: Mutex::default(),
            bell: Notify::new(),
            happened: Default::default(),
            withheld: AtomicU64::new(0),
        });
        let task = tokio::spawn(close_windows(inner.clone())).abort_handle();
        Self { inner: inner.clone(), _closing: Arc::new(Closing { inner, task }) }
    }

    /// True when what is allowed is to be noted, too.
    pub(crate) fn wants_all(&self) -> bool {
        enabled!(target: "audit", Level::DEBUG)
    }

    /// Writes `event` down, or counts it.
    pub(crate) fn note(&self, event: &Event) {
        if event.is_quiet() && !self.wants_all() {
            return;
        }
        self.inner.note(event);
    }

    /// How many events there were of each kind, and how many of them were withheld.
    pub(crate) fn counts(&self) -> (Vec<(&'static str, u64)>, u64) {
        let inner = &self.inner;
        let kinds = [Kind::Authentication, Kind::Authorization, Kind::Change];
        let of_kind =
            |kind: Kind| (kind.name(), inner.happened[index(kind)].load(Ordering::Relaxed));
        (kinds.map(of_kind).to_vec(), inner.withheld.load(Ordering::Relaxed))
    }
}

impl Inner {
    fn note(&self, event: &Event) {
        if !event.is_quiet() {
            self.happened[index(event.kind)].fetch_add(1, Ordering::Relaxed);
        }
        let noted = self.ledger().note(self.clock.now().monotonic, event);
        noted.before.iter().for_each(tell_withheld);
        if noted.is_written {
            tell(event);
        } else {
            self.withheld.fetch_add(1, Ordering::Relaxed);
        }
        if noted.must_close {
            self.bell.notify_one();
        }
    }

    fn close(&self) {
        let withheld = self.ledger().close();
        withheld.iter().for_each(tell_withheld);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(kind: Kind) -> usize {
    Kind::ALL.iter().position(|it| *it == kind).expect("each kind is in the list of all")
}

/// Tells of each window in which something was withheld, when it is over.
async fn close_windows(inner: Arc<Inner>) {
    loop {
        inner.bell.notified().await;
        tokio::time::sleep(AUDIT_WINDOW).await;
        inner.close();
    }
}

fn tell(event: &Event) {
    let principal = &*plain(&event.principal);
    let address = &*plain(&event.address);
    let listener = &*plain(&event.listener);
    let resource_type = &*plain(&event.target.kind);
    let resource_name = &*plain(&event.target.name);
    let operation = &*plain(&event.target.operation);
    let (error, change) = (&*plain(&event.error), &*plain(&event.change));
    let (kind, outcome, api) = (event.kind.name(), event.outcome.name(), event.api);
    macro_rules! tell_at {
        ($level:ident) => {
            $level!(
                target: "audit", event = kind, outcome, principal, address, listener, api,
                resource_type, resource_name, operation, error, change, count = 1_u64,
            )
        };
    }
    if event.is_quiet() { tell_at!(debug) } else { tell_at!(info) }
}

fn tell_withheld(withheld: &Withheld) {
    let (principal, address) = (&*withheld.principal, &*withheld.address);
    info!(
        target: "audit", event = Kind::Withheld.name(), outcome = "", principal, address,
        listener = "", api = "", resource_type = "", resource_name = "", operation = "",
        error = "", change = "", count = withheld.count,
    );
}
