//! What holds for a broker, a topic or a group, given what was altered since the start.
//!
//! For a broker: what was altered for it alone, over what was altered for all brokers, over what
//! it was started with. What was committed was checked then; what a newer release committed and
//! this one does not know is passed over. KIP-226. Pure.

use std::borrow::Cow;

use protocol::ids::BrokerId;

use super::image::Image;
use super::resource::Resource;
use crate::config::{BrokerConfig, GroupConfig};

impl Image {
    /// The settings of the broker that was started with `start`.
    #[must_use]
    pub fn broker_config<'a>(&self, start: &'a BrokerConfig) -> Cow<'a, BrokerConfig> {
        let own = Resource::Broker(Some(BrokerId(start.node_id)));
        let altered = self.configs(&Resource::Broker(None)).chain(self.configs(&own));
        let mut altered = altered.peekable();
        if altered.peek().is_none() {
            return Cow::Borrowed(start);
        }
        Cow::Owned(start.with(altered))
    }

    /// All that was altered for brokers.
    pub(super) fn broker_settings(&self) -> Vec<(Resource, String, String)> {
        let of_brokers = self.configured().filter(|it| matches!(it, Resource::Broker(_)));
        of_brokers
            .flat_map(|resource| {
                let configs = self.configs(resource);
                configs.map(|(name, text)| (resource.clone(), name.to_owned(), text.to_owned()))
            })
            .collect()
    }

    /// The settings of the group of this id, on a broker that was started with `start`.
    #[must_use]
    pub fn group_config(&self, start: &BrokerConfig, group: &str) -> GroupConfig {
        let own = self.configs(&Resource::Group(group.into()));
        GroupConfig::of(&self.broker_config(start), own)
    }
}
