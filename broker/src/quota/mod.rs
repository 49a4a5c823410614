//! Quotas: how much users, clients and addresses may ask of this broker.
//!
//! What a request cost is charged to whoever asked, by the strongest quota that is for them; the
//! answer is sent at once and tells for how long to be silent, and the connection is not read for
//! that time (KIP-219). Bytes and time are measured over a sliding window, changes of topics and new
//! connections by buckets of tokens, as Kafka does. A broker without quotas pays one load of an
//! atomic per request. Pure.

mod bucket;
mod core;
mod shell;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use bucket::{Refill, TokenBucket};
pub(crate) use shell::QuotaHandle;

use std::time::Duration;

use crate::metadata::QuotaType;

/// The user of a connection that nobody authenticated.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

/// What a quota bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    /// Bytes of produce requests, per second.
    Produce,
    /// Bytes of fetched records, per second.
    Fetch,
    /// Time spent on requests, in percent of one thread. KIP-124.
    Request,
    /// Partitions created and deleted, per second. KIP-599.
    Mutation,
    /// Connections accepted, per second. KIP-612.
    Connection,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Produce, Self::Fetch, Self::Request, Self::Mutation, Self::Connection];

    /// Its name in Kafka's words.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
            Self::Mutation => "controller_mutation_rate",
            Self::Connection => "connection_creation_rate",
        }
    }

    /// The kind of this name. `None`: there is none.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }

    /// True when it can be for a part of this type.
    #[must_use]
    pub fn is_for(self, part: QuotaType) -> bool {
        match part {
            QuotaType::Ip => self == Self::Connection,
            QuotaType::User | QuotaType::ClientId => self != Self::Connection,
        }
    }

    /// True when its value is a whole number.
    #[must_use]
    pub fn is_whole(self) -> bool {
        match self {
            Self::Produce | Self::Fetch | Self::Connection => true,
            Self::Request | Self::Mutation => false,
        }
    }
}

/// Over which windows quotas are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// How many there are, the present one among them. At least 1.
    pub(crate) count: u32,
    /// How long each is. At least 1 s.
    pub(crate) size: Duration,
}

impl Windows {
    /// How long all of them are.
    pub(crate) fn span(self) -> Duration {
        self.size.saturating_mul(self.count)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    /// Who was authenticated; [`ANONYMOUS`].
    pub(crate) user: &'a str,
    /// What the client calls itself; empty when it does not.
    pub(crate) client_id: &'a str,
}
