//! Settings of a broker that change while it runs.
//!
//! What is altered lies over what the broker was started with; only settings that are declared as
//! dynamic can be. Those of single listeners are among them by their full names,
//! `listener.name.NAME.SETTING`, names in small letters. KIP-226. Pure.

use protocol::config::{ConfigDef, ConfigError, ConfigErrors, find};

use super::listener::of_mechanism;
use super::scoped::{self, Scoped};
use super::{BrokerConfig, ListenerConfig};

impl BrokerConfig {
    /// The same with `altered` over it, the last of equal names the strongest.
    ///
    /// Names that cannot be altered here and values that are not valid here are passed over: they
    /// were accepted by another release.
    #[must_use]
    pub fn with<'a>(&self, altered: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let start = self.pairs().into_iter();
        let start = start.filter_map(|(def, text)| Some((def.name.to_owned(), text?)));
        let is_usable = |(name, text): &(&str, &str)| {
            Self::definition(name).is_some_and(|def| def.is_dynamic && def.check(text).is_ok())
        };
        let altered = altered.into_iter().filter(is_usable);
        let altered = altered.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let (of_listeners, altered) = Scoped::split(altered);
        match Self::parse(start.chain(altered)) {
            Ok(config) => Self {
                given: self.given.clone(),
                listener_settings: config.listener_settings.with(of_listeners),
                ..config
            },
            Err(_) => self.clone(),
        }
    }

    /// What a setting is that can be altered or described by this name. `None`: there is none.
    #[must_use]
    pub fn definition(name: &str) -> Option<&'static ConfigDef> {
        match scoped::parts(name) {
            // By two names for one thing nobody could tell which of them holds.
            Some((listener, _)) if listener.contains(|it: char| it.is_ascii_uppercase()) => None,
            Some((_, setting)) => {
                let (_, plain) = of_mechanism(setting).unzip();
                find(ListenerConfig::DEFS, plain.unwrap_or(setting))
            }
            None => find(Self::DEFS, name),
        }
    }

    /// True for what says which certificates and keys are shown and which roots are trusted. They
    /// are each broker's own: none can be set for all brokers at once.
    #[must_use]
    pub fn is_of_store(name: &str) -> bool {
        let name = scoped::parts(name).map_or(name, |(_, setting)| setting);
        name == "ssl.key.password"
            || name.starts_with("ssl.keystore.")
            || name.starts_with("ssl.truststore.")
    }

    /// The settings of single listeners, each by its full name, with what it is set to.
    pub fn of_listeners(&self) -> impl Iterator<Item = (String, &str)> {
        self.listener_settings.named()
    }

    /// Whether the listeners can be as all settings together say.
    ///
    /// # Errors
    /// Each that cannot, and why.
    pub fn check_listeners(&self) -> Result<(), ConfigErrors> {
        let conflicts = self.listener_conflicts().into_iter();
        let conflicts: Vec<_> =
            conflicts.map(|(name, reason)| ConfigError::Conflict { name, reason }).collect();
        if conflicts.is_empty() { Ok(()) } else { Err(ConfigErrors(conflicts)) }
    }

    /// The settings that say the same as `name` in other units, the finest first, `name` among
    /// them. The finest that is set holds.
    #[must_use]
    pub fn units(name: &'static str) -> &'static [&'static str] {
        const RETENTION: &[&str] =
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
        const ROLL: &[&str] = &["log.roll.ms", "log.roll.hours"];
        if RETENTION.contains(&name) {
            RETENTION
        } else if ROLL.contains(&name) {
            ROLL
        } else {
            &[]
        }
    }

    /// Bounds on the connections of single addresses: `address:count`, as
    /// `max.connections.per.ip.overrides` has them.
    pub fn connections_per_ip(&self) -> impl Iterator<Item = (&str, u32)> {
        self.max_connections_per_ip_overrides.iter().filter_map(|text| {
            let (address, count) = text.rsplit_once(':')?;
            Some((address.trim(), count.trim().parse().ok()?))
        })
    }
}
