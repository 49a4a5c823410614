//! Accepting connections, counting them, and letting them finish at the end.
//!
//! Connections beyond the limit are closed as soon as they are accepted, with a line in the log.
//! Draining closes the listeners, lets connections answer what they have begun, reads no further
//! request, and gives up those that take too long. Shell.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use client::net::Endpoint;
use protocol::time::Clock;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::Listener;
use super::connection::{self, Terms, until_draining};
use crate::api::serving::Serve;

/// How long to wait after a failed accept: running out of file descriptors fails at once, again
/// and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What holds for all connections of a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// More connections are closed at once.
    pub(crate) connections_max: usize,
    /// Larger requests end their connection.
    pub(crate) request_bytes_max: usize,
    /// Connections without a request for so long are closed.
    pub(crate) idle_max: Duration,
}

/// The listeners of a broker and their connections. Dropping it ends them all at once.
#[derive(Debug)]
pub(crate) struct Server {
    draining: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Server {
    /// Serves what `listeners` accept.
    pub(crate) fn start(
        listeners: Vec<Box<dyn Listener>>,
        limits: Limits,
        service: &impl Serve,
        clock: &Clock,
    ) -> Self {
        let (draining, drain) = watch::channel(false);
        let room = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let terms = Terms {
                request_bytes_max: limits.request_bytes_max,
                idle_max: limits.idle_max,
                listener: listener.name().into(),
            };
            let accept = Accept {
                terms,
                service: service.clone(),
                clock: clock.clone(),
                room: room.clone(),
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
    room: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
}

impl<S: Serve> Accept<S> {
    async fn run(self, mut listener: Box<dyn Listener>) {
        let endpoint = listener.endpoint();
        info!(listener = listener.name(), %endpoint, "listening");
        let mut connections = JoinSet::new();
        let mut drain = pin!(until_draining(self.draining.clone()));
        loop {
            tokio::select! {
                biased;
                () = &mut drain => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, &peer, &mut connections),
                    Err(error) => {
                        warn!(%endpoint, %error, "could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: client::net::BoxStream,
        peer: &Endpoint,
        connections: &mut JoinSet<()>,
    ) {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            warn!(%peer, "connection refused: as many are open as allowed");
            return;
        };
        debug!(%peer, "connection accepted");
        let serving = connection::serve(
            stream,
            peer.to_string().into(),
            self.terms.clone(),
            self.service.clone(),
            self.clock.clone(),
            self.draining.clone(),
        );
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}
