//! The settings of one group: its own over the broker's.
//!
//! A group's own must lie within bounds that the broker sets; a broker whose bounds have become
//! narrower since leaves the nearest lawful value in force. KIP-848. Pure.

use std::time::Duration;

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, find};
use protocol::configs;

use super::BrokerConfig;

configs! {
    /// What holds for one group of the protocol of KIP-848.
    pub struct GroupConfig {
        /// How long a member may be silent before it is put out.
        consumer_session_timeout: Duration = ConfigDef::int("consumer.session.timeout.ms", "45000").at_least(1).dynamic().synonym("group.consumer.session.timeout.ms"),
        /// How often a member is to say that it lives.
        consumer_heartbeat_interval: Duration = ConfigDef::int("consumer.heartbeat.interval.ms", "5000").at_least(1).dynamic().synonym("group.consumer.heartbeat.interval.ms"),
    }
}

impl GroupConfig {
    /// What holds for a group with `overrides` on a broker of `broker` settings.
    #[must_use]
    pub fn of<'a>(
        broker: &BrokerConfig,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut config = Self {
            consumer_session_timeout: broker.group_consumer_session_timeout,
            consumer_heartbeat_interval: broker.group_consumer_heartbeat_interval,
            given: protocol::config::Given::default(),
        };
        let is_usable = |(name, text): &(&str, &str)| {
            find(Self::DEFS, name).is_some_and(|def| def.check(text).is_ok())
        };
        let own = Self::parse(overrides.into_iter().filter(is_usable)).unwrap_or_default();
        let bounds = Bounds::of(broker);
        if own.given.has("consumer.session.timeout.ms") {
            config.consumer_session_timeout = own
                .consumer_session_timeout
                .clamp(bounds.session.0, bounds.session.1.max(bounds.session.0));
        }
        if own.given.has("consumer.heartbeat.interval.ms") {
            config.consumer_heartbeat_interval = own
                .consumer_heartbeat_interval
                .clamp(bounds.heartbeat.0, bounds.heartbeat.1.max(bounds.heartbeat.0));
        }
        Self { given: own.given, ..config }
    }

    /// Checks that a group may be given `overrides`.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn check<'a>(
        broker: &BrokerConfig,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), ConfigErrors> {
        let own = Self::parse(overrides)?;
        let bounds = Bounds::of(broker);
        let mut conflicts = Vec::new();
        let mut check = |name: &'static str, value: Duration, (min, max): (Duration, Duration)| {
            if own.given.has(name) && !(min..=max).contains(&value) {
                let (value, min, max) = (value.as_millis(), min.as_millis(), max.as_millis());
                let reason = format!("{value} is not from {min} to {max}, the broker's bounds");
                conflicts.push(ConfigError::Conflict { name, reason });
            }
        };
        check("consumer.session.timeout.ms", own.consumer_session_timeout, bounds.session);
        check("consumer.heartbeat.interval.ms", own.consumer_heartbeat_interval, bounds.heartbeat);
        let session = own.effective_session(broker);
        let heartbeat = own.effective_heartbeat(broker);
        if conflicts.is_empty() && session <= heartbeat {
            let name = "consumer.session.timeout.ms";
            let reason = "must be larger than consumer.heartbeat.interval.ms".to_owned();
            conflicts.push(ConfigError::Conflict { name, reason });
        }
        if conflicts.is_empty() { Ok(()) } else { Err(ConfigErrors(conflicts)) }
    }

    /// What holds for each setting of a group that says nothing.
    #[must_use]
    pub fn defaults(broker: &BrokerConfig) -> Vec<(&'static ConfigDef, Option<String>)> {
        Self::of(broker, []).pairs()
    }

    fn effective_session(&self, broker: &BrokerConfig) -> Duration {
        let is_own = self.given.has("consumer.session.timeout.ms");
        if is_own { self.consumer_session_timeout } else { broker.group_consumer_session_timeout }
    }

    fn effective_heartbeat(&self, broker: &BrokerConfig) -> Duration {
        let is_own = self.given.has("consumer.heartbeat.interval.ms");
        let by_default = broker.group_consumer_heartbeat_interval;
        if is_own { self.consumer_heartbeat_interval } else { by_default }
    }
}

/// From where to where the settings of groups may lie, both ends included.
struct Bounds {
    session: (Duration, Duration),
    heartbeat: (Duration, Duration),
}

impl Bounds {
    fn of(broker: &BrokerConfig) -> Self {
        let session =
            (broker.group_consumer_min_session_timeout, broker.group_consumer_max_session_timeout);
        let heartbeat = (
            broker.group_consumer_min_heartbeat_interval,
            broker.group_consumer_max_heartbeat_interval,
        );
        Self { session, heartbeat }
    }
}
