//! Lines of the log that strangers can cause by connecting, or by keeping others from it.
//!
//! An address, and all of them together, can have as many written in a window as events of the
//! audit trail. Those beyond are counted, and the count is told when the window ends, also when
//! nothing else happens, and when the broker stops. Shell.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::audit::{Ledger, Withheld, plain};
use crate::limits::AUDIT_WINDOW;

/// How many lines were written of late. Clones are the same; dropping the last tells what was
/// withheld.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What those stand for that are only counted.
    withheld: &'static str,
    /// A lock, as all connections that end write here; held to count.
    ledger: Mutex<Ledger>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tell(&self.ledger().close());
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::of("connections were closed without a line of their own")
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, all: &[Withheld]) {
        for Withheld { address, count, .. } in all {
            let address = if address.is_empty() { "others" } else { address };
            warn!(address, count, "{}", self.withheld);
        }
    }
}

impl Lines {
    /// Lines of which those that are withheld are told in these words.
    pub(crate) fn of(withheld: &'static str) -> Self {
        Self(Arc::new(Inner { withheld, ledger: Mutex::default() }))
    }

    /// Whether a line about a connection from `address` is to be written now; else it is counted.
    /// To be called within a runtime.
    pub(crate) fn may_tell(&self, now: Duration, address: &str) -> bool {
        let (noted, began) = {
            let mut ledger = self.0.ledger();
            (ledger.take(now, (String::new(), plain(address))), ledger.began())
        };
        self.0.tell(&noted.before);
        if noted.must_close {
            let inner = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(AUDIT_WINDOW).await;
                let Some(inner) = inner.upgrade() else { return };
                let mut ledger = inner.ledger();
                // The next window must not end early.
                let withheld = if ledger.began() == began { ledger.close() } else { Vec::new() };
                drop(ledger);
                inner.tell(&withheld);
            });
        }
        noted.is_written
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::api::Logged;
    use crate::limits::{AUDIT_EVENTS_MAX, AUDIT_EVENTS_OF_SOURCE_MAX, AUDIT_SOURCES_MAX};

    const AT: Duration = Duration::from_secs(100);

    fn told(lines: &Lines, now: Duration, address: &str, times: u32) -> u32 {
        (0..times).map(|_| u32::from(lines.may_tell(now, address))).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_address_causes_is_bounded_and_what_was_withheld_is_told() {
        let logged = Logged::from(LevelFilter::WARN);
        let lines = Lines::default();
        assert_eq!(told(&lines, AT, "a", 2000), AUDIT_EVENTS_OF_SOURCE_MAX);
        assert_eq!(told(&lines, AT, "b", 1), 1, "another address has its own");
        assert!(logged.text().is_empty());
        tokio::time::sleep(AUDIT_WINDOW + Duration::from_secs(1)).await;
        let text = logged.text();
        assert!(text.contains(r#""address":"a","count":1980"#), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let next = AT + AUDIT_WINDOW + Duration::from_secs(1);
        assert_eq!(told(&lines, next, "a", 21), AUDIT_EVENTS_OF_SOURCE_MAX);
        drop(lines);
        let text = logged.text();
        assert!(text.ends_with("\n") && text.contains(r#""address":"a","count":1,"#), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_addresses_cause_is_bounded() {
        let logged = Logged::from(LevelFilter::WARN);
        let lines = Lines::default();
        let many = u32::try_from(AUDIT_SOURCES_MAX).unwrap() * 2;
        let written: u32 = (0..many).map(|it| told(&lines, AT, &format!("{it}"), 1)).sum();
        assert_eq!(written, AUDIT_EVENTS_MAX);
        drop(lines);
        let text = logged.text();
        assert!(text.contains(r#""address":"others""#), "{text}");
        assert!(text.lines().count() <= AUDIT_SOURCES_MAX + 1, "{}", text.lines().count());
    }
}
