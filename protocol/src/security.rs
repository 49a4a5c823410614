//! How a connection is secured: encrypted or not, authenticated by SASL or not.
//!
//! Both ends name these protocols in their settings, and the metadata log by their numbers. Pure.

pub mod store;

use std::fmt;

use crate::config_words;

/// How a connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityProtocol {
    /// In clear; nobody says who they are.
    #[default]
    Plaintext,
    /// Over TLS; who shows a certificate is known by it.
    Ssl,
    /// In clear, authenticated by SASL.
    SaslPlaintext,
    /// Over TLS, authenticated by SASL.
    SaslSsl,
}

config_words!(SecurityProtocol {
    Plaintext = "PLAINTEXT",
    Ssl = "SSL",
    SaslPlaintext = "SASL_PLAINTEXT",
    SaslSsl = "SASL_SSL",
});

impl SecurityProtocol {
    /// Every protocol, by number.
    pub const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// The names of all, as settings write them.
    pub const NAMES: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

    /// The protocol of this name, in letters of either case. `None`: there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Its name in Kafka's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of this number in the metadata log. `None`: there is none.
    #[must_use]
    pub fn from_wire(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.to_wire() == number)
    }

    /// Its number in the metadata log.
    #[must_use]
    pub fn to_wire(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    /// True when connections are encrypted.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// True when clients prove by SASL who they are.
    #[must_use]
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_protocol() {
        for (protocol, name) in SecurityProtocol::ALL.into_iter().zip(SecurityProtocol::NAMES) {
            assert_eq!(protocol.name(), *name);
            assert_eq!(SecurityProtocol::from_name(&name.to_lowercase()), Some(protocol));
            assert_eq!(SecurityProtocol::from_wire(protocol.to_wire()), Some(protocol));
        }
        assert_eq!(SecurityProtocol::from_name("TLS"), None);
        assert_eq!(SecurityProtocol::from_wire(4), None);
    }
}
