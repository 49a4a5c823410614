//! Places to listen on and to connect to, as settings write them: `NAME://host:port`. Pure.

use std::fmt;

/// A place to listen on or to connect to, by the listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, in capitals: `PLAINTEXT`.
    pub listener: String,
    /// Host name or address. Empty: every interface (to listen on) or this machine (to advertise).
    pub host: String,
    /// The port. 0: a free one, to listen on.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, host, port } = self;
        if host.contains(':') {
            write!(f, "{listener}://[{host}]:{port}")
        } else {
            write!(f, "{listener}://{host}:{port}")
        }
    }
}

/// True for what is reached from this machine alone: a loopback address, or its usual name.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    // Of `core`, as reading an address touches no network.
    let address = host.parse::<core::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|it| it.to_canonical().is_loopback())
}

pub(super) fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

/// Reads `NAME://host:port`; an IPv6 address stands in brackets.
pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    let (listener, address) = text.trim().split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let port = port.parse().ok()?;
    is_name(listener).then(|| Endpoint {
        listener: listener.to_ascii_uppercase(),
        host: host.to_owned(),
        port,
    })
}
