//! Quotas: how much users, clients and addresses may ask of this broker.
//!
//! What a request cost is charged to whoever asked, by the strongest quota that is for them; the
//! answer is sent at once and tells for how long to be silent, and the connection is not read for
//! that time (KIP-219). Everything is counted in buckets of tokens, which save up for as many windows
//! as Kafka looks back on. A broker without quotas pays one load of an
//! atomic per request. Pure.

mod bucket;
mod core;
mod shell;
#[cfg(test)]
mod tests;

pub(crate) use bucket::{Refill, TokenBucket};
pub(crate) use shell::QuotaHandle;

use std::time::Duration;

use crate::metadata::QuotaType;

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

/// For how long quotas may be saved up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// How many there are, the present one among them. At least 1.
    pub(crate) count: u32,
    /// How long each is. At least 1 s.
    pub(crate) size: Duration,
}

impl Windows {
    /// How long all of them are.
    fn span(self) -> Duration {
        self.size.saturating_mul(self.count)
    }

    /// How long all of them are but the present one, or that if it is alone.
    fn past(self) -> Duration {
        self.size.saturating_mul(self.count.saturating_sub(1).max(1))
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    /// Who was authenticated; `ANONYMOUS`.
    pub(crate) user: &'a str,
    /// What the client calls itself; empty when it does not.
    pub(crate) client_id: &'a str,
}
