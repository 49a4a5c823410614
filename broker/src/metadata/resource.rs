//! What settings belong to: topics, brokers, groups. Pure.

use std::sync::Arc;

use protocol::ids::BrokerId;

/// What settings belong to. The numbers of its kinds are the wire's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic, by name.
    Topic(Arc<str>),
    /// A broker; `None`: every broker.
    Broker(Option<BrokerId>),
    /// A group, by id.
    Group(Arc<str>),
}

impl Resource {
    /// The number of topics among the kinds of resources.
    pub const TOPIC: i8 = 2;
    /// The number of brokers among the kinds of resources.
    pub const BROKER: i8 = 4;
    /// The number of groups among the kinds of resources.
    pub const GROUP: i8 = 32;

    /// The resource of a kind and name of the wire. `None`: of no kind that has settings here.
    #[must_use]
    pub fn from_wire(kind: i8, name: &str) -> Option<Self> {
        match (kind, name) {
            (Self::TOPIC, name) => Some(Self::Topic(name.into())),
            (Self::BROKER, "") => Some(Self::Broker(None)),
            (Self::BROKER, name) => Some(Self::Broker(Some(BrokerId(name.parse().ok()?)))),
            (Self::GROUP, name) if !name.is_empty() => Some(Self::Group(name.into())),
            _ => None,
        }
    }

    /// Kind and name on the wire.
    #[must_use]
    pub fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (Self::TOPIC, name.to_string()),
            Self::Broker(None) => (Self::BROKER, String::new()),
            Self::Broker(Some(id)) => (Self::BROKER, id.to_string()),
            Self::Group(name) => (Self::GROUP, name.to_string()),
        }
    }
}
