//! Settings of a broker that change while it runs.
//!
//! What is altered lies over what the broker was started with; only settings that are declared as
//! dynamic can be. KIP-226. Pure.

use protocol::config::find;

use super::BrokerConfig;

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
            find(Self::DEFS, name).is_some_and(|def| def.is_dynamic && def.check(text).is_ok())
        };
        let altered = altered.into_iter().filter(is_usable);
        let altered = altered.map(|(name, text)| (name.to_owned(), text.to_owned()));
        match Self::parse(start.chain(altered)) {
            Ok(config) => Self { given: self.given.clone(), ..config },
            Err(_) => self.clone(),
        }
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
