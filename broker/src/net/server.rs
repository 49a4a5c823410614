//! Accepting connections, counting them, and letting them finish at the end.
//!
//! Connections beyond the limits are closed as soon as they are accepted, with a line in the log;
//! those of an address that connects faster than its quota are held for a moment and then closed,
//! so that it does not gain by trying again. Where clients must prove who they are, those that have not
//! hold half of what there is at most, and the oldest of the address that has most of them goes for
//! whoever else finds no room.
//! Draining closes the listeners, lets connections answer what they have begun, reads no further
//! request, and gives up those that take too long. Shell.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::net::Endpoint;
use protocol::time::Clock;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::Listener;
use super::accepted::Accepted;
use super::admission::{Admission, Pace, Refused};
use super::connection::{self, Terms, until_draining};
use super::door::{Bounds, Door};
use super::failures::Failures;
use super::strangers::Strangers;
use crate::api::serving::Serve;
use crate::auth::lines::Lines;
use crate::budget::{Budget, Grant, Use};
use crate::config::BrokerConfig;
use crate::limits::OpenFiles;
use crate::quota::QuotaHandle;

/// How long a connection beyond its address's quota is held at most.
const HELD_MAX: Duration = Duration::from_secs(1);

/// What holds for all connections of a broker.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many there may be, and how large their requests: as it is altered.
    pub(crate) config: watch::Receiver<Arc<BrokerConfig>>,
    /// How fast they may come from one address.
    pub(crate) quotas: QuotaHandle,
    /// How much memory they may take.
    pub(crate) budget: Budget,
}

/// Where connections come from, and how each is secured.
pub(crate) type Doors = Vec<(Box<dyn Listener>, Door)>;

/// The listeners of a broker and their connections. Dropping it ends them all at once.
#[derive(Debug)]
pub(crate) struct Server {
    draining: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Server {
    /// Serves what `listeners` accept: never more than `files` allow, whatever the settings say.
    pub(crate) fn start(
        (listeners, files): (Doors, Arc<OpenFiles>),
        limits: &Limits,
        service: &impl Serve,
        clock: &Clock,
    ) -> Self {
        let (draining, drain) = watch::channel(false);
        let gate = Arc::new(Gate { admission: Mutex::default(), files });
        let bytes_max = limits.budget.share(Use::Connection) / 2;
        let strangers = Arc::new(Mutex::new(Strangers::new(bytes_max)));
        let config = limits.config.borrow().clone();
        let lines = Lines::default();
        let mut accepting = JoinSet::new();
        for (listener, door) in listeners {
            let terms = Terms {
                request_bytes_max: usize::try_from(config.socket_request_max_bytes)
                    .unwrap_or(usize::MAX),
                idle_max: config.connections_max_idle,
                listener: listener.name().into(),
                door,
                budget: limits.budget.clone(),
                lines: lines.clone(),
            };
            let accept = Accept {
                terms,
                service: service.clone(),
                clock: clock.clone(),
                limits: limits.clone(),
                gate: gate.clone(),
                strangers: strangers.clone(),
                pace: Pace::default(),
                draining: drain.clone(),
            };
            accepting.spawn(accept.run(listener));
        }
        Self { draining, accepting }
    }

    /// Stops accepting, lets every connection answer what it has begun, and ends those that have
    /// not after `patience`.
    pub(crate) async fn drain(mut self, patience: Duration) {
        self.draining.send_replace(true);
        let all_ended = async { while self.accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            warn!(?patience, "connections did not finish in time and were ended");
        }
    }
}

/// What an accepting task needs.
struct Accept<S> {
    terms: Terms,
    service: S,
    clock: Clock,
    limits: Limits,
    /// A lock, as all listeners and all connections that end count here; held to count.
    gate: Arc<Gate>,
    strangers: SharedStrangers,
    /// How fast connections come by this listener.
    pace: Pace,
    draining: watch::Receiver<bool>,
}

impl<S: Serve> Accept<S> {
    async fn run(mut self, mut listener: Box<dyn Listener>) {
        let endpoint = listener.endpoint();
        info!(listener = listener.name(), %endpoint, "listening");
        let mut connections = JoinSet::new();
        let failures = Failures::new(&*listener, &self.clock);
        let mut drain = pin!(until_draining(self.draining.clone()));
        loop {
            tokio::select! {
                biased;
                () = &mut drain => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.admit(stream, &peer, &mut connections);
                        let pause = self.pace();
                        if pause > Duration::ZERO {
                            tokio::time::sleep(pause).await;
                        }
                    }
                    Err(error) => failures.pause(&error).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn admit(&self, stream: Accepted, peer: &Endpoint, connections: &mut JoinSet<()>) {
        let admitted = match self.admitted(&peer.host) {
            Ok(admitted) => admitted,
            Err(reason) => {
                let now = self.clock.now().monotonic;
                if self.terms.lines.may_tell(now, &peer.host) {
                    warn!(%peer, %reason, "connection refused");
                } else {
                    debug!(%peer, %reason, "connection refused");
                }
                self.service.refused();
                return;
            }
        };
        if let Err(silent) = self.limits.quotas.try_connect(self.clock.now().monotonic, &peer.host)
        {
            debug!(%peer, ?silent, "connection refused: its address connects too fast");
            self.service.refused();
            connections.spawn(async move {
                tokio::time::sleep(silent.min(HELD_MAX)).await;
                drop((stream, admitted));
            });
            return;
        }
        debug!(%peer, "connection accepted");
        let (place, given_up) = self.place(admitted);
        let known = Arc::clone(&place);
        let serving = connection::serve(
            stream,
            peer.clone(),
            self.terms.clone(),
            self.service.clone(),
            self.clock.clone(),
            self.draining.clone(),
            Box::new(move || known.become_known()),
        );
        let (service, clock, lines) =
            (self.service.clone(), self.clock.clone(), self.terms.lines.clone());
        let peer = peer.clone();
        connections.spawn(async move {
            service.connected();
            // Who never was a stranger is never given up, and need not look for it at each step.
            let is_given_up = match place.number {
                None => {
                    serving.await;
                    false
                }
                Some(_) => tokio::select! {
                    biased;
                    // Nothing is ever sent: what it held is gone.
                    _ = given_up => true,
                    () = serving => false,
                },
            };
            if is_given_up && lines.may_tell(clock.now().monotonic, &peer.host) {
                warn!(%peer, "connection closed for a newer one: its client was not known yet");
            }
            service.disconnected();
            drop(place);
        });
    }

    /// Puts a connection among the strangers, if its client must prove who it is.
    fn place(&self, admitted: Admitted) -> (Arc<Place>, oneshot::Receiver<()>) {
        let (sender, given_up) = oneshot::channel();
        let held = Held { admitted, _given_up: sender };
        let strangers = self.strangers.clone();
        if !self.terms.door.asks {
            let place = Place { strangers, number: None, own: Mutex::new(Some(held)) };
            return (Arc::new(place), given_up);
        }
        let count_max = self.gate.strangers_max(&self.config());
        let bytes = self.terms.door.connection_bytes();
        let address = Arc::clone(&held.admitted.address);
        let (number, others) = locked(&strangers).enter(&address, bytes, held, count_max);
        // Not before the lock is gone: it is counted under another.
        drop(others);
        let place = Place { strangers, number: Some(number), own: Mutex::new(None) };
        (Arc::new(place), given_up)
    }

    /// Counts a connection from `address`, and takes memory for it; strangers make room for it if need
    /// be.
    fn admitted(&self, address: &Arc<str>) -> Result<Admitted, Refused> {
        let refused = match self.try_admit(address) {
            Err(refused @ (Refused::Full | Refused::Files | Refused::Memory)) => refused,
            admitted => return admitted,
        };
        let bytes = self.terms.door.connection_bytes();
        let given_up = locked(&self.strangers).give_up(bytes);
        if given_up.is_empty() {
            return Err(refused);
        }
        drop(given_up);
        self.try_admit(address)
    }

    fn try_admit(&self, address: &Arc<str>) -> Result<Admitted, Refused> {
        let Terms { listener, door, .. } = &self.terms;
        let by = (listener, door.bounds);
        self.gate.admit(by, address, &self.config())?;
        let bytes = door.connection_bytes();
        let memory = self.limits.budget.try_take(Use::Connection, bytes);
        let admitted = Admitted {
            gate: self.gate.clone(),
            listener: listener.clone(),
            address: address.clone(),
            memory,
        };
        if admitted.memory.is_some() { Ok(admitted) } else { Err(Refused::Memory) }
    }

    /// How long to wait before the next connection is accepted.
    fn pace(&mut self) -> Duration {
        let (now, config) = (self.clock.now().monotonic, self.config());
        let in_all = locked(&self.gate.admission).pace(now, &config);
        let rate = self.terms.door.bounds.creation_rate_max;
        rate.map_or(in_all, |rate| in_all.max(self.pace.spend(now, rate, &config)))
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.limits.config.borrow().clone()
    }
}

/// Strangers of all listeners. A lock, as all accept, and their clients become known, on all threads;
/// held to count.
type SharedStrangers = Arc<Mutex<Strangers<Held>>>;

/// What a connection holds. Once this is dropped, it ends.
#[derive(Debug)]
struct Held {
    admitted: Admitted,
    _given_up: oneshot::Sender<()>,
}

/// Where it stands what a connection holds: among what strangers hold, or here.
#[derive(Debug)]
struct Place {
    strangers: SharedStrangers,
    /// Its number among the strangers. `None`: it never was one.
    number: Option<u64>,
    /// A lock, as the connection and who waits for its end share it; held to put in.
    own: Mutex<Option<Held>>,
}

impl Place {
    /// Its client has proved who it is, or need not: what it holds is its own from now on.
    fn become_known(&self) {
        if let Some(held) = self.left() {
            debug!(listener = &*held.admitted.listener, "a stranger no longer");
            *locked(&self.own) = Some(held);
        }
    }

    fn left(&self) -> Option<Held> {
        locked(&self.strangers).leave(self.number?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.left());
    }
}

/// What all connections pass: how many there are, and how many files are left for them.
#[derive(Debug)]
struct Gate {
    /// A lock, as connections come and end on all threads; held to count.
    admission: Mutex<Admission>,
    files: Arc<OpenFiles>,
}

impl Gate {
    fn admit(
        &self,
        by: (&Arc<str>, Bounds),
        address: &Arc<str>,
        config: &BrokerConfig,
    ) -> Result<(), Refused> {
        let mut admission = locked(&self.admission);
        admission.admit(by, address, (config, self.files.connections_max()))?;
        self.files.set_connections(admission.total());
        Ok(())
    }

    /// How many may be open whose clients have not proved who they are: half of all.
    fn strangers_max(&self, config: &BrokerConfig) -> u32 {
        config.max_connections.min(self.files.connections_max()) / 2
    }

    fn leave(&self, listener: &str, address: &str) {
        let mut admission = locked(&self.admission);
        admission.leave(listener, address);
        self.files.set_connections(admission.total());
    }
}

/// A connection that counts. It no longer does when this is dropped.
#[derive(Debug)]
struct Admitted {
    gate: Arc<Gate>,
    listener: Arc<str>,
    address: Arc<str>,
    /// What it takes of the budget. `None`: there was nothing left for it.
    memory: Option<Grant>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.leave(&self.listener, &self.address);
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
