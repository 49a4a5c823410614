//! How to reach a cluster: where to begin, over which network, by which clock.
//!
//! The same client talks to a real cluster and inside a simulation; what differs is here. Shell.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::config::ConfigErrors;
use protocol::rng::Rng;
use protocol::sasl::Mechanism;
use protocol::time::Clock;

use crate::config::{Identity, SecurityConfig};
use crate::net::connection::ConnectionOptions;
use crate::net::https::Https;
use crate::net::sasl::{TokenEndpoint, TokenFile};
use crate::net::tcp::TcpConnector;
use crate::net::tls::{TlsConnector, TlsError};
use crate::net::{Connector, Credentials, Endpoint, EndpointError};
use crate::time::real_clock;

/// Everything a client needs from outside.
#[derive(Clone)]
pub struct Bootstrap {
    /// Brokers to ask first; the others are learned from them. Asked again when all known brokers
    /// are gone (KIP-899).
    pub endpoints: Vec<Endpoint>,
    /// Opens connections.
    pub connector: Arc<dyn Connector>,
    /// Tells the time; must agree with the runtime's timers.
    pub clock: Clock,
    /// Whence all jitter and all free choices follow. Clients made from one of these, or from its
    /// clones, differ all the same: no two may choose the same member id.
    pub seed: u64,
    /// How the client calls itself to brokers.
    pub client_id: Arc<str>,
    /// Who we are, if brokers ask.
    pub sasl: Option<Credentials>,
    /// How many clients were made from this one and its clones.
    clients: Arc<AtomicU64>,
}

/// Why connections cannot be secured as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// They do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How often [`Bootstrap::tcp`] was called: twice in a millisecond must not give the same seed.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// 2^64 divided by the golden ratio: spreads small numbers over all bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Bootstrap {
    /// Over `connector` by `clock`, with a name to be set if wanted.
    pub fn new(
        endpoints: impl IntoIterator<Item = Endpoint>,
        connector: Arc<dyn Connector>,
        clock: Clock,
        seed: u64,
    ) -> Self {
        let endpoints = endpoints.into_iter().collect();
        let client_id = ConnectionOptions::default().client_id;
        let clients = Arc::new(AtomicU64::new(0));
        Self { endpoints, connector, clock, seed, client_id, sasl: None, clients }
    }

    /// Over TCP by the real clock. `servers` is a list as in `bootstrap.servers`:
    /// `one:9092,two:9092`.
    ///
    /// # Errors
    /// When an element is no endpoint.
    pub fn tcp(servers: &str) -> Result<Self, EndpointError> {
        let endpoints: Vec<Endpoint> =
            servers.split(',').map(|it| it.trim().parse()).collect::<Result<_, _>>()?;
        let clock = real_clock();
        // Two processes started in the same millisecond still differ by their id.
        let started = clock.now().wall.0.cast_unsigned();
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        let process = u64::from(std::process::id()).rotate_left(40);
        let seed = Rng::new(started ^ process ^ calls.wrapping_mul(SPREAD)).next_u64();
        Ok(Self::new(endpoints, Arc::new(TcpConnector), clock, seed))
    }

    /// The same, secured as `config` says.
    ///
    /// # Errors
    /// When its settings do not fit together, or certificates cannot be used.
    pub fn secured(mut self, config: &SecurityConfig) -> Result<Self, SecurityError> {
        if let Some(options) = config.tls()? {
            self.connector = Arc::new(TlsConnector::new(self.connector, &options)?);
        }
        self.sasl = match config.identity()? {
            Identity::None => None,
            Identity::Password { mechanism: Mechanism::Scram(hash), username, password } => {
                Some(Credentials::Scram { hash, username, password })
            }
            Identity::Password { username, password, .. } => {
                Some(Credentials::Plain { username, password })
            }
            Identity::TokenFile(path) => Some(Credentials::Bearer(Arc::new(TokenFile(path)))),
            Identity::TokenEndpoint { url, client_id, client_secret, scope, roots } => {
                let https = Https::with_roots(roots);
                let endpoint = TokenEndpoint { url, client_id, client_secret, scope, https };
                Some(Credentials::Bearer(Arc::new(endpoint)))
            }
        };
        Ok(self)
    }

    /// The same under another name.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<Arc<str>>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// The same from another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.clients = Arc::new(AtomicU64::new(0));
        self
    }

    /// The seed of the next client.
    pub(crate) fn next_seed(&self) -> u64 {
        let clients = self.clients.fetch_add(1, Ordering::Relaxed);
        match clients {
            0 => self.seed,
            _ => Rng::new(self.seed ^ clients.wrapping_mul(SPREAD)).next_u64(),
        }
    }

    pub(crate) fn connection_options(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: Arc::clone(&self.client_id),
            sasl: self.sasl.clone(),
            ..ConnectionOptions::default()
        }
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap")
            .field("endpoints", &self.endpoints)
            .field("client_id", &self.client_id)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_clients_of_a_process_make_the_same_choices() {
        let one = Bootstrap::tcp("localhost:9092").unwrap();
        let other = Bootstrap::tcp("localhost:9092").unwrap();
        let all = [&one, &other, &one.clone(), &one, &other.clone()];
        let seeds: BTreeSet<_> = all.iter().map(|it| it.next_seed()).collect();
        assert_eq!(seeds.len(), all.len());
    }

    #[test]
    fn the_first_client_of_a_seed_is_that_of_the_seed() {
        let one = Bootstrap::tcp("localhost:9092").unwrap().seed(7);
        assert_eq!(one.next_seed(), 7);
    }
}
