//! SASL: how a client proves who it is, both sides of each mechanism.
//!
//! A mechanism is a state machine without a socket: bytes of the peer in, bytes for the peer out.
//! [`plain`] sends a password, [`scram`] proves to know one without sending it, and proves the
//! broker in turn (RFC 5802, RFC 7677), [`bearer`] brings a token that somebody else has signed
//! (RFC 7628). [`jaas`] reads the line of settings in which Kafka's users write all three down. In
//! every mechanism a client that wants to act for somebody else is refused. KIP-12, KIP-43, KIP-84,
//! KIP-255. Pure.

pub mod bearer;
pub mod jaas;
pub mod plain;
pub mod scram;

use std::fmt;

use crate::config::{ConfigDef, ConfigValue, Unset};
pub use scram::Hash;

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// Name and password in clear.
    Plain,
    /// A salted challenge and its answer.
    Scram(Hash),
    /// A signed token.
    OAuthBearer,
}

impl Mechanism {
    /// Every mechanism there is.
    pub const ALL: [Self; 4] =
        [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512), Self::OAuthBearer];

    /// The names of all, as settings and the wire have them.
    pub const NAMES: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(hash) => hash.mechanism(),
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of this name. `None`: there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl ConfigValue for Mechanism {
    fn read(_: &ConfigDef, text: &str) -> Option<Self> {
        Self::from_name(text.trim())
    }
    fn show(&self, _: &ConfigDef) -> Option<String> {
        Some(self.name().to_owned())
    }
}

impl Unset for Mechanism {}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an exchange of SASL ends. None of it may be retried with the same words; what of it the
/// peer is told is for whoever answers to decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The message is none of the mechanism, or comes at the wrong time.
    #[error("{mechanism}: {reason}")]
    Malformed {
        /// The mechanism.
        mechanism: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The peer asks to act for somebody else.
    #[error("{0}: acting for somebody else is not allowed")]
    OtherIdentity(&'static str),
    /// The peer does not know the password, or there is no such name.
    #[error("{0}: invalid credentials")]
    Credentials(&'static str),
    /// The broker could not prove that it knows the password either.
    #[error("{0}: the broker does not know the password")]
    Impostor(&'static str),
    /// The broker says no.
    #[error("{mechanism}: refused: {reason}")]
    Refused {
        /// The mechanism.
        mechanism: &'static str,
        /// What it said.
        reason: String,
    },
}

impl SaslError {
    fn malformed(mechanism: &'static str, reason: &'static str) -> Self {
        Self::Malformed { mechanism, reason }
    }
}

/// The name for whom a client asks to act, which must be its own or empty.
fn check_authzid(mechanism: &'static str, authzid: &str, own: &str) -> Result<(), SaslError> {
    if authzid.is_empty() || authzid == own {
        Ok(())
    } else {
        Err(SaslError::OtherIdentity(mechanism))
    }
}
