//! Who may connect: how many at once, in all, by one listener and from one address, and how fast.
//!
//! Bounds are read anew for each connection, so that they can be altered while running; what was
//! admitted stays. Counts are kept by address as the network tells it, one entry per address with a
//! connection. KIP-402, KIP-612. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::door::Bounds;
use crate::config::BrokerConfig;
use crate::quota::{Refill, TokenBucket};

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// As many are open as may be.
    #[error("as many connections are open as allowed")]
    Full,
    /// More would leave logs no files to open.
    #[error("connections have taken their share of the files that may be open (RLIMIT_NOFILE)")]
    Files,
    /// As many are open by its listener as may be.
    #[error("as many connections are open by its listener as allowed")]
    ListenerFull,
    /// As many are open from its address as may be.
    #[error("as many connections are open from its address as allowed")]
    AddressFull,
    /// There is no memory for another.
    #[error("connections have taken their share of memory.budget.bytes")]
    Memory,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: u32,
    by_listener: BTreeMap<Arc<str>, u32>,
    by_address: BTreeMap<Arc<str>, u32>,
    pace: Pace,
}

impl Admission {
    /// Counts a connection by `listener` from `address`; there may be `files_max` in all, whatever the settings say.
    ///
    /// # Errors
    /// When there are as many as may be. It is not counted.
    pub(super) fn admit(
        &mut self,
        (listener, bounds): (&Arc<str>, Bounds),
        address: &Arc<str>,
        (config, files_max): (&BrokerConfig, u32),
    ) -> Result<(), Refused> {
        let by_listener = self.by_listener.get(listener).copied().unwrap_or(0);
        if bounds.connections_max.is_some_and(|most| by_listener >= most) {
            return Err(Refused::ListenerFull);
        }
        let own = config.connections_per_ip().find(|(known, _)| *known == &**address);
        let most = own.map_or(config.max_connections_per_ip, |(_, count)| count);
        let by_address = self.by_address.get(address).copied().unwrap_or(0);
        if by_address >= most {
            return Err(Refused::AddressFull);
        }
        // Last: strangers go for it, who must not go for what is refused anyway.
        if self.total >= config.max_connections {
            return Err(Refused::Full);
        }
        if self.total >= files_max {
            return Err(Refused::Files);
        }
        self.total += 1;
        self.by_listener.insert(listener.clone(), by_listener + 1);
        self.by_address.insert(address.clone(), by_address + 1);
        Ok(())
    }

    /// How many are open.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Forgets a connection by `listener` from `address`.
    pub(super) fn leave(&mut self, listener: &str, address: &str) {
        self.total = self.total.checked_sub(1).expect("it was counted when it was admitted");
        for (counts, name) in [(&mut self.by_listener, listener), (&mut self.by_address, address)] {
            let open = counts.get_mut(name).expect("it was counted when it was admitted");
            *open -= 1;
            if *open == 0 {
                counts.remove(name);
            }
        }
    }

    /// How long to wait before a connection is accepted by whatever listener, so that they do not
    /// come too fast.
    pub(super) fn pace(&mut self, now: Duration, config: &BrokerConfig) -> Duration {
        self.pace.spend(now, config.max_connection_creation_rate, config)
    }
}

/// How fast connections come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of connections that may be accepted. `None`: none was counted yet.
    tokens: Option<TokenBucket>,
}

impl Pace {
    /// How long to wait before a connection is accepted, at `rate` per second.
    pub(super) fn spend(&mut self, now: Duration, rate: u32, config: &BrokerConfig) -> Duration {
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
        let listener: Arc<str> = "L".into();
        let mut admit = |address: &str| {
            admission.admit((&listener, Bounds::default()), &address.into(), (&config, u32::MAX))
        };
        assert_eq!([admit("10.0.0.1"), admit("10.0.0.1")], [Ok(()), Ok(())]);
        assert_eq!(admit("10.0.0.1"), Err(Refused::AddressFull));
        assert_eq!([admit("10.0.0.3"), admit("10.0.0.3")], [Ok(()), Err(Refused::AddressFull)]);
        assert_eq!([admit("::1"), admit("::1")], [Ok(()), Err(Refused::Full)]);
        admission.leave("L", "10.0.0.1");
        let any = (&listener, Bounds::default());
        assert_eq!(admission.admit(any, &"10.0.0.1".into(), (&config, u32::MAX)), Ok(()));
        // A bound that was lowered ends no connection.
        let lowered = self::config(&[("max.connections", "1")]);
        assert_eq!(
            admission.admit(any, &"10.0.0.9".into(), (&lowered, u32::MAX)),
            Err(Refused::Full)
        );
        for address in ["10.0.0.1", "10.0.0.1", "10.0.0.3", "::1"] {
            admission.leave("L", address);
        }
        let counted = (admission.by_listener.len(), admission.by_address.len());
        assert_eq!((admission.total, counted), (0, (0, 0)));
    }

    #[test]
    fn a_listener_that_is_full_leaves_the_others_open() {
        let config = config(&[("max.connections", "4")]);
        let mut admission = Admission::default();
        let (inner, outer): (Arc<str>, Arc<str>) = ("INNER".into(), "OUTER".into());
        let two = Bounds { connections_max: Some(2), ..Bounds::default() };
        let address = "10.0.0.1".into();
        let mut outer_admits = || admission.admit((&outer, two), &address, (&config, u32::MAX));
        assert_eq!([outer_admits(), outer_admits()], [Ok(()), Ok(())]);
        assert_eq!(outer_admits(), Err(Refused::ListenerFull));
        let any = Bounds::default();
        assert_eq!(admission.admit((&inner, any), &address, (&config, u32::MAX)), Ok(()));
        admission.leave("OUTER", &address);
        assert_eq!(admission.admit((&outer, two), &address, (&config, u32::MAX)), Ok(()));
        assert_eq!(admission.admit((&inner, any), &address, (&config, u32::MAX)), Ok(()));
        assert_eq!(
            admission.admit((&inner, any), &address, (&config, u32::MAX)),
            Err(Refused::Full)
        );
    }

    #[test]
    fn connections_leave_logs_the_files_that_they_need() {
        let config = config(&[]);
        let mut admission = Admission::default();
        let (listener, address): (Arc<str>, Arc<str>) = ("L".into(), "10.0.0.1".into());
        let by = (&listener, Bounds::default());
        let mut admit = |files_max| admission.admit(by, &address, (&config, files_max));
        assert_eq!([admit(2), admit(2), admit(2)], [Ok(()), Ok(()), Err(Refused::Files)]);
        assert_eq!(admit(3), Ok(()));
        admission.leave("L", "10.0.0.1");
        admission.leave("L", "10.0.0.1");
        assert_eq!((admission.total(), admission.admit(by, &address, (&config, 2))), (1, Ok(())));
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
