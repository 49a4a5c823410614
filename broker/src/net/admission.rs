//! Who may connect: how many at once, from one address, and how fast.
//!
//! Bounds are read anew for each connection, so that they can be altered while running; what was
//! admitted stays. Counts are kept by address as the network tells it, one entry per address with a
//! connection. KIP-612. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::config::BrokerConfig;
use crate::quota::{Refill, TokenBucket};

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// As many are open as may be.
    #[error("as many connections are open as allowed")]
    Full,
    /// As many are open from its address as may be.
    #[error("as many connections are open from its address as allowed")]
    AddressFull,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: u32,
    by_address: BTreeMap<Arc<str>, u32>,
    /// Of connections that may be accepted. `None`: none was counted yet.
    tokens: Option<TokenBucket>,
}

impl Admission {
    /// Counts a connection from `address`.
    ///
    /// # Errors
    /// When there are as many as may be. It is not counted.
    pub(super) fn admit(&mut self, address: &str, config: &BrokerConfig) -> Result<(), Refused> {
        if self.total >= config.max_connections {
            return Err(Refused::Full);
        }
        let own = config.connections_per_ip().find(|(known, _)| *known == address);
        let most = own.map_or(config.max_connections_per_ip, |(_, count)| count);
        let open = self.by_address.get(address).copied().unwrap_or(0);
        if open >= most {
            return Err(Refused::AddressFull);
        }
        self.total += 1;
        self.by_address.insert(address.into(), open + 1);
        Ok(())
    }

    /// Forgets a connection from `address`.
    pub(super) fn leave(&mut self, address: &str) {
        self.total = self.total.checked_sub(1).expect("it was counted when it was admitted");
        let open = self.by_address.get_mut(address).expect("it was counted when it was admitted");
        *open -= 1;
        if *open == 0 {
            self.by_address.remove(address);
        }
    }

    /// How long to wait before a connection is accepted, so that they do not come too fast.
    pub(super) fn pace(&mut self, now: Duration, config: &BrokerConfig) -> Duration {
        let rate = config.max_connection_creation_rate;
        if rate >= i32::MAX.unsigned_abs() {
            return Duration::ZERO;
        }
        let span = config.quota_window_size;
        let refill = Refill { rate: f64::from(rate), span };
        self.tokens.get_or_insert_with(|| TokenBucket::full(now, refill)).spend(now, refill, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address_and_those_that_left_make_room() {
        let config = config(&[
            ("max.connections", "4"),
            ("max.connections.per.ip", "2"),
            ("max.connections.per.ip.overrides", "10.0.0.3:1, ::1:3"),
        ]);
        let mut admission = Admission::default();
        let mut admit = |address: &str| admission.admit(address, &config);
        assert_eq!([admit("10.0.0.1"), admit("10.0.0.1")], [Ok(()), Ok(())]);
        assert_eq!(admit("10.0.0.1"), Err(Refused::AddressFull));
        assert_eq!([admit("10.0.0.3"), admit("10.0.0.3")], [Ok(()), Err(Refused::AddressFull)]);
        assert_eq!([admit("::1"), admit("::1")], [Ok(()), Err(Refused::Full)]);
        admission.leave("10.0.0.1");
        assert_eq!(admission.admit("10.0.0.1", &config), Ok(()));
        // A bound that was lowered ends no connection.
        let lowered = self::config(&[("max.connections", "1")]);
        assert_eq!(admission.admit("10.0.0.9", &lowered), Err(Refused::Full));
        for address in ["10.0.0.1", "10.0.0.1", "10.0.0.3", "::1"] {
            admission.leave(address);
        }
        assert_eq!((admission.total, admission.by_address.len()), (0, 0));
    }

    #[test]
    fn connections_that_come_too_fast_wait() {
        let slow = config(&[("max.connection.creation.rate", "2")]);
        let mut admission = Admission::default();
        let mut pace = |at, want| {
            assert_eq!(admission.pace(Duration::from_secs(at), &slow), Duration::from_millis(want));
        };
        pace(1, 0);
        pace(1, 0);
        pace(1, 500);
        pace(2, 0);
        assert_eq!(admission.pace(Duration::from_secs(2), &config(&[])), Duration::ZERO);
    }
}
