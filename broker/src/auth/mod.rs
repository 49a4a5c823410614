//! Who asks: the identity of a connection, and what it may do.
//!
//! A connection has one [`Session`]: who its peer proved to be, where it comes from, and by which
//! listener. It is made when the connection is accepted, replaced as a whole when the peer
//! authenticates, and handed to every request with its context; nothing a request says can change
//! it. Without authentication the principal is `User:ANONYMOUS`. How a peer is known: by the subject
//! of its certificate ([`certificate`]), or by SASL, whose [`gate`] lets nothing else pass before.
//! What they may do is for an [`Authorizer`] to say, and what they could not or did is written
//! down in the audit [`trail`]. Pure.

mod acl;
pub(crate) mod audit;
pub(crate) mod certificate;
mod decoys;
pub(crate) mod gate;
pub(crate) mod jwt;
mod keys;
pub(crate) mod lines;
#[cfg(feature = "check")]
pub mod probe;
pub(crate) mod sasl;
pub(crate) mod shell;
pub(crate) mod stores;
pub(crate) mod trail;

use std::fmt;
use std::sync::Arc;

use client::net::Endpoint;
use protocol::security::SecurityProtocol;

pub use acl::{Authorizer, Who};
pub use certificate::expires_at;
pub use keys::KeySourceError;
pub use shell::DecoyKeyError;

/// Who somebody is. Prints as `User:alice`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Principal {
    /// What kind of name it is: `User`, so far always.
    pub kind: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Principal {
    /// The kind of principals that connections have.
    pub const USER: &'static str = "User";

    /// The user of this name.
    pub fn user(name: impl Into<Arc<str>>) -> Self {
        Self { kind: Self::USER.into(), name: name.into() }
    }

    /// Who has not been authenticated: `User:ANONYMOUS`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// What is known of the peer of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who it is.
    pub principal: Principal,
    /// Where it comes from: its address, without brackets, and port.
    pub peer: Endpoint,
    /// The name of the listener that accepted it, in capitals.
    pub listener: Arc<str>,
    /// How its connection is secured.
    pub protocol: SecurityProtocol,
}

impl Session {
    /// A connection from `peer` that `listener` has accepted, nobody being authenticated.
    pub fn anonymous(
        listener: impl Into<Arc<str>>,
        protocol: SecurityProtocol,
        peer: Endpoint,
    ) -> Self {
        Self { principal: Principal::anonymous(), peer, listener: listener.into(), protocol }
    }

    /// The address that it comes from, as access control lists name it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.peer.host
    }

    /// The name under which its user has quotas.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.principal.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_authenticated_is_anonymous() {
        let peer = Endpoint::new("10.0.0.7", 4711);
        let session = Session::anonymous("OUTSIDE", SecurityProtocol::Plaintext, peer);
        assert_eq!(session.principal.to_string(), "User:ANONYMOUS");
        assert_eq!((session.host(), session.user()), ("10.0.0.7", "ANONYMOUS"));
    }
}
