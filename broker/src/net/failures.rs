//! What becomes of an accept that fails: the log is told, so often and no more, and the listener pauses.
//!
//! Running out of files to open fails at once, again and again, and whoever connects often enough can bring it
//! about: neither the processor nor the log may be filled by it. Shell.

use std::io;
use std::time::Duration;

use client::net::Endpoint;
use protocol::time::Clock;
use tracing::{debug, warn};

use super::Listener;
use crate::auth::lines::Lines;

/// 50 ms: how long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The failures of one listener.
#[derive(Debug)]
pub(super) struct Failures {
    endpoint: Endpoint,
    clock: Clock,
    lines: Lines,
}

impl Failures {
    /// None yet.
    pub(super) fn new(listener: &dyn Listener, clock: &Clock) -> Self {
        let lines = Lines::of("connections could not be accepted, without a line of their own");
        Self { endpoint: listener.endpoint(), clock: clock.clone(), lines }
    }

    /// Tells of a failure, and waits before the next connection may be asked for.
    pub(super) async fn pause(&self, error: &io::Error) {
        let endpoint = &self.endpoint;
        if self.lines.may_tell(self.clock.now().monotonic, &endpoint.host) {
            warn!(%endpoint, %error, "could not accept a connection");
        } else {
            debug!(%endpoint, %error, "could not accept a connection");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use client::net::memory::MemoryNetwork;
    use protocol::time::Timestamp;
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::api::Logged;
    use crate::limits::{AUDIT_EVENTS_OF_SOURCE_MAX, AUDIT_WINDOW};

    #[tokio::test(start_paused = true)]
    async fn accepts_that_fail_again_and_again_do_not_fill_the_log() {
        let logged = Logged::from(LevelFilter::WARN);
        let listener = MemoryNetwork::new().listen(Endpoint::new("broker", 1)).unwrap();
        let clock = client::time::virtual_clock(Timestamp(0));
        let failures = Failures::new(&listener, &clock);
        let began = clock.now().monotonic;
        let mut count = 0;
        while clock.now().monotonic - began < AUDIT_WINDOW - ACCEPT_PAUSE {
            failures.pause(&io::ErrorKind::Other.into()).await;
            count += 1;
        }
        assert!(count > 100, "{count} pauses");
        let text = logged.text();
        let lines = text.lines().filter(|it| it.contains("could not accept")).count();
        assert_eq!(u32::try_from(lines).unwrap(), AUDIT_EVENTS_OF_SOURCE_MAX, "{text}");
        drop(failures);
        let withheld = count - AUDIT_EVENTS_OF_SOURCE_MAX;
        let told = format!(r#""address":"broker","count":{withheld},"#);
        assert!(logged.text().contains(&told), "{}", logged.text());
    }
}
