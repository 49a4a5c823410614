//! The seam to the outside: how a byte stream to a broker comes to be.
//!
//! A [`Connector`] opens streams to [`Endpoint`]s. There are three: TCP ([`tcp`]), a network
//! inside the process ([`memory`]), and the simulator's, which adds delay, loss and partitions.
//! On top of it, [`connection`] speaks Kafka's protocol to one endpoint and [`pool`] keeps one
//! connection per broker and purpose. Shell.

pub mod connection;
mod error;
mod frames;
mod handshake;
pub mod https;
pub mod memory;
pub mod negotiation;
mod parts;
pub mod pool;
pub mod sasl;
pub mod tcp;
pub mod tls;

pub use sasl::Credentials;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions: a socket, or what stands for one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> Stream for S {}

/// A stream whose kind only its maker knows.
pub type BoxStream = Box<dyn Stream>;

/// Opens streams to endpoints.
#[async_trait::async_trait]
pub trait Connector: Send + Sync {
    /// A new stream to `endpoint`, resolved anew at each call.
    ///
    /// It may wait as long as the network pleases: the caller sets the deadline by dropping it.
    ///
    /// # Errors
    /// What the network said; all of it may be retried.
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<BoxStream>;
}

/// Where a broker listens. Prints and parses as `host:port`, IPv6 as `[::1]:9092`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint of `host` and `port`.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {text:?}: {reason}")]
pub struct EndpointError {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = |reason| EndpointError { text: text.to_owned(), reason };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| refuse("expected host:port"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| refuse("expected ] after [")),
            None if host.contains(':') => Err(refuse("an IPv6 address needs brackets")),
            None => Ok(host),
        }?;
        if host.is_empty() {
            return Err(refuse("the host is empty"));
        }
        let port = port.parse().map_err(|_| refuse("the port is not a number below 65536"))?;
        Ok(Self::new(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_prints_as_it_parses() {
        for text in ["localhost:9092", "10.0.0.1:1", "[::1]:65535", "broker-1.example:9093"] {
            assert_eq!(text.parse::<Endpoint>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "host", "host:", ":9092", "host:65536", "::1:9092", "[::1:9092", "h:-1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
