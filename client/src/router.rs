//! Finds the broker to ask: leaders, coordinators, the controller, or anyone.
//!
//! Holds what one client knows of the cluster and its connections. Everything here is one attempt
//! and says whether another may help, except [`Router::retry`], which makes them. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::api::Request;
use protocol::api::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicId};
use protocol::rng::Rng;
use protocol::time::{Clock, Now};
use tokio::time::{sleep, timeout_at};

use crate::backoff::Backoff;
use crate::bootstrap::Bootstrap;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::net::Endpoint;
use crate::net::connection::{CallOptions, Connection};
use crate::net::pool::{Pool, Purpose};
use crate::time::deadline_after;

/// 5 ms: about what a coordinator takes to write a transaction's markers.
const SOON: Duration = Duration::from_millis(5);
/// 40 ms: the longest wait for what should take milliseconds.
const SOON_MAX: Duration = Duration::from_millis(40);

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    pub(crate) metadata_max_age: Duration,
}

/// What a coordinator coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CoordinatorKind {
    Group,
    Transaction,
}

impl CoordinatorKind {
    fn to_wire(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transaction => 1,
        }
    }
}

/// Which topics to ask about.
#[derive(Clone, Debug)]
pub(crate) enum Topics {
    All,
    These(BTreeSet<Arc<str>>),
    /// Those of which only the id is known. KIP-516.
    WithIds(BTreeSet<TopicId>),
}

/// What one client knows of the cluster, and its connections.
pub(crate) struct Router {
    bootstrap: Vec<Endpoint>,
    pool: Pool,
    clock: Clock,
    patience: Patience,
    /// A lock, as the client's tasks and its caller both look leaders up; held for a look-up.
    state: Mutex<State>,
}

struct State {
    cluster: Cluster,
    coordinators: BTreeMap<(CoordinatorKind, String), Endpoint>,
    /// Whose turn it is among those whom anything can be asked; moves on after a failure.
    turn: usize,
    rng: Rng,
}

impl Router {
    pub(crate) fn new(bootstrap: &Bootstrap, patience: Patience) -> Arc<Self> {
        let mut rng = Rng::new(bootstrap.next_seed());
        let pool = Pool::new(
            Arc::clone(&bootstrap.connector),
            bootstrap.connection_options(),
            rng.next_u64(),
        );
        let count = u64::try_from(bootstrap.endpoints.len()).unwrap_or(u64::MAX);
        let turn = usize::try_from(rng.below(count)).expect("below a count of elements");
        let state = State { cluster: Cluster::default(), coordinators: BTreeMap::new(), turn, rng };
        Arc::new(Self {
            bootstrap: bootstrap.endpoints.clone(),
            pool,
            clock: bootstrap.clock.clone(),
            patience,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Reads or changes what is known of the cluster.
    pub(crate) fn cluster<T>(&self, look: impl FnOnce(&mut Cluster) -> T) -> T {
        self.with(|state| look(&mut state.cluster))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A generator for the caller's own choices.
    pub(crate) fn rng(&self) -> Rng {
        self.with(|state| state.rng.fork())
    }

    pub(crate) fn backoff(&self) -> Backoff {
        let Patience { retry_backoff, retry_backoff_max, .. } = self.patience;
        Backoff::new(retry_backoff, retry_backoff_max, self.rng())
    }

    /// For what takes milliseconds: a transaction's markers being written.
    pub(crate) fn soon(&self) -> Backoff {
        Backoff::new(SOON, SOON_MAX, self.rng())
    }

    /// The connection to a broker. `None`: it is not among the living.
    pub(crate) fn broker(&self, broker: BrokerId, purpose: Purpose) -> Option<Connection> {
        let endpoint = self.cluster(|cluster| cluster.endpoint(broker).cloned())?;
        Some(self.pool.connection(&endpoint, purpose))
    }

    /// The connection to whoever is next to be asked what anyone can answer.
    pub(crate) fn any(&self) -> Connection {
        let endpoint = self.with(|state| {
            let mut endpoints: Vec<_> = state.cluster.brokers().map(|(_, it)| it.clone()).collect();
            // Last, as a fresh start when all others are gone (KIP-899).
            endpoints.extend(self.bootstrap.iter().cloned());
            assert!(!endpoints.is_empty(), "a client is given at least one endpoint");
            endpoints.swap_remove(state.turn % endpoints.len())
        });
        self.pool.connection(&endpoint, Purpose::General)
    }

    /// Whoever was asked failed: the next one's turn.
    pub(crate) fn next_turn(&self) {
        self.with(|state| state.turn = state.turn.wrapping_add(1));
    }

    /// Asks anyone.
    pub(crate) async fn ask_any<R: Request>(
        &self,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, RequestError> {
        let options = CallOptions::within(self.patience.request_timeout);
        let answer = self.any().call_with(options, build).await;
        if answer.is_err() {
            self.next_turn();
        }
        Ok(answer?)
    }

    /// Asks the controller, or anyone while it is not known: brokers pass requests on to it.
    pub(crate) async fn ask_controller<R: Request>(
        &self,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, RequestError> {
        let controller = self.cluster(|cluster| cluster.controller());
        let options = CallOptions::within(self.patience.request_timeout);
        match controller.and_then(|it| self.broker(it, Purpose::General)) {
            None => self.ask_any(build).await,
            Some(connection) => {
                let answer = connection.call_with(options, build).await;
                if answer.is_err() {
                    self.cluster(Cluster::mark_stale);
                }
                Ok(answer?)
            }
        }
    }

    /// Asks for Metadata of `topics`, and takes the answer in. A broker that belongs to another
    /// cluster by now sends us back to the bootstrap servers (KIP-1102).
    ///
    /// Errors of single topics are in the answer and in the cluster.
    pub(crate) async fn refresh(
        &self,
        topics: Topics,
        allow_auto_topic_creation: bool,
    ) -> Result<MetadataResponse, RequestError> {
        let asked_at = self.clock.now().monotonic;
        let build = move |version| metadata_request(version, &topics, allow_auto_topic_creation);
        let response = self.ask_any(build).await?;
        let code = ErrorCode::from_wire(response.error_code);
        if !code.is_ok() {
            if code == ErrorCode::RebootstrapRequired {
                self.with(|state| {
                    state.cluster.forget_brokers();
                    state.coordinators.clear();
                });
            }
            self.next_turn();
            return Err(RequestError::code(ApiKey::Metadata, "cluster", code, None));
        }
        let endpoints: BTreeSet<_> = self.cluster(|cluster| {
            cluster.update(asked_at, &response);
            cluster.brokers().map(|(_, endpoint)| endpoint.clone()).collect()
        });
        self.pool.retain(|it| endpoints.contains(it) || self.bootstrap.contains(it));
        Ok(response)
    }

    /// The connection to the coordinator of `key`, which is looked up unless known.
    pub(crate) async fn coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
        purpose: Purpose,
    ) -> Result<Connection, RequestError> {
        let known = self.with(|state| state.coordinators.get(&(kind, key.to_owned())).cloned());
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => {
                let asked = key.to_owned();
                let build = move |version| find_coordinator(version, kind, asked);
                let found = found(kind, key, self.ask_any(build).await?)?;
                self.with(|state| {
                    state.coordinators.insert((kind, key.to_owned()), found.clone());
                });
                found
            }
        };
        Ok(self.pool.connection(&endpoint, purpose))
    }

    /// The coordinator did not answer, or says that it is none: look it up next time.
    pub(crate) fn forget_coordinator(&self, kind: CoordinatorKind, key: &str) {
        self.with(|state| state.coordinators.remove(&(kind, key.to_owned())));
    }

    /// Asks the coordinator of `key`, and looks for another one next time if it does not answer.
    pub(crate) async fn ask_coordinator<R: Request>(
        &self,
        kind: CoordinatorKind,
        key: &str,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, RequestError> {
        let options = CallOptions::within(self.patience.request_timeout);
        let connection = self.coordinator(kind, key, Purpose::Coordinator).await?;
        let answer = connection.call_with(options, build).await;
        if answer.is_err() {
            self.forget_coordinator(kind, key);
        }
        Ok(answer?)
    }

    /// What an error code of a coordinator's answer means for the next look-up.
    pub(crate) fn heed_coordinator(&self, kind: CoordinatorKind, key: &str, code: ErrorCode) {
        if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
            self.forget_coordinator(kind, key);
        }
    }

    /// Makes attempts until one succeeds, fails for good, or `timeout` has passed.
    pub(crate) async fn retry<T, A: Future<Output = Result<T, RequestError>>>(
        &self,
        timeout: Duration,
        what: &'static str,
        mut attempt: impl FnMut() -> A,
    ) -> Result<T, RequestError> {
        let deadline = deadline_after(timeout);
        let mut backoff = self.backoff();
        let mut last = None;
        loop {
            match timeout_at(deadline, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) if !error.is_retriable() => return Err(error),
                Ok(Err(error)) => last = Some(Box::new(error)),
                Err(_) => return Err(RequestError::TimedOut { what, timeout, last }),
            }
            if timeout_at(deadline, sleep(backoff.next_wait())).await.is_err() {
                return Err(RequestError::TimedOut { what, timeout, last });
            }
        }
    }
}

fn metadata_request(version: i16, topics: &Topics, allow_auto: bool) -> MetadataRequest {
    let named = |name: &Arc<str>| MetadataRequestTopic {
        name: Some(name.to_string()),
        ..MetadataRequestTopic::default()
    };
    let topics = match topics {
        // Version 0 had no null and asked for all with an empty list.
        Topics::All if version == 0 => Some(Vec::new()),
        Topics::All => None,
        Topics::These(names) => Some(names.iter().map(named).collect()),
        Topics::WithIds(ids) => {
            let one = |&topic_id| MetadataRequestTopic { topic_id, name: None };
            Some(ids.iter().map(one).collect())
        }
    };
    // Before version 4 the broker's own setting decides.
    let allow_auto_topic_creation = allow_auto || version < 4;
    MetadataRequest { topics, allow_auto_topic_creation, ..MetadataRequest::default() }
}

fn find_coordinator(version: i16, kind: CoordinatorKind, key: String) -> FindCoordinatorRequest {
    // Version 0 knows groups only; a transaction's is then refused when the request is encoded.
    let key_type = kind.to_wire();
    if version >= 4 {
        let coordinator_keys = vec![key];
        FindCoordinatorRequest { key_type, coordinator_keys, ..FindCoordinatorRequest::default() }
    } else {
        FindCoordinatorRequest { key_type, key, ..FindCoordinatorRequest::default() }
    }
}

fn found(
    kind: CoordinatorKind,
    key: &str,
    response: FindCoordinatorResponse,
) -> Result<Endpoint, RequestError> {
    let (code, message, host, port) = match response.coordinators.into_iter().next() {
        Some(it) => (it.error_code, it.error_message, it.host, it.port),
        None => (response.error_code, response.error_message, response.host, response.port),
    };
    let subject = || match kind {
        CoordinatorKind::Group => format!("group {key}"),
        CoordinatorKind::Transaction => format!("transactional id {key}"),
    };
    let refuse = |code| RequestError::code(ApiKey::FindCoordinator, subject(), code, message);
    match (ErrorCode::from_wire(code), u16::try_from(port)) {
        (ErrorCode::None, Ok(port)) => Ok(Endpoint::new(host, port)),
        (ErrorCode::None, Err(_)) => Err(refuse(ErrorCode::CoordinatorNotAvailable)),
        (code, _) => Err(refuse(code)),
    }
}
