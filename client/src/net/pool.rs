//! One connection per endpoint and purpose.
//!
//! Purposes are apart because answers come in order: a commit must not wait behind a fetch that
//! waits for records, nor a heartbeat behind a join that waits for members. Endpoints are resolved
//! anew whenever a connection is opened. Shell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::rng::Rng;

use super::connection::{Connection, ConnectionOptions};
use super::{Connector, Endpoint};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Metadata, administration, offsets of partitions.
    General,
    /// Producing records.
    Produce,
    /// Fetching records: answers may take long.
    Fetch,
    /// A group's coordinator, or a transaction's.
    Coordinator,
    /// Joining a group: the answer may take as long as a rebalance.
    Join,
}

/// Connections by endpoint and purpose, made at first use.
///
/// Bound: those to endpoints that [`retain`](Self::retain) keeps, times five.
pub struct Pool {
    connector: Arc<dyn Connector>,
    options: ConnectionOptions,
    /// A lock, as many tasks of one client ask for connections; held for a look-up.
    state: Mutex<State>,
}

struct State {
    connections: BTreeMap<(Endpoint, Purpose), Connection>,
    rng: Rng,
}

impl Pool {
    /// A pool without connections; `seed` is where their jitter comes from.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, options: ConnectionOptions, seed: u64) -> Self {
        let state = State { connections: BTreeMap::new(), rng: Rng::new(seed) };
        Self { connector, options, state: Mutex::new(state) }
    }

    /// The connection to `endpoint` for `purpose`. Call it inside a runtime.
    pub fn connection(&self, endpoint: &Endpoint, purpose: Purpose) -> Connection {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { connections, rng } = &mut *state;
        let key = (endpoint.clone(), purpose);
        let connect = || {
            let (connector, options) = (Arc::clone(&self.connector), self.options.clone());
            Connection::new(connector, endpoint.clone(), options, rng.fork())
        };
        connections.entry(key).or_insert_with(connect).clone()
    }

    /// Forgets connections to endpoints for which `keep` does not hold: the broker is gone.
    /// Calls under way are still answered.
    pub fn retain(&self, keep: impl Fn(&Endpoint) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections.retain(|(endpoint, _), _| keep(endpoint));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
