//! The entrance of a connection: its stream is encrypted, and its gate judges who is not known yet.
//! Shell.

use std::sync::Arc;
use std::time::Duration;

use client::net::Endpoint;
use protocol::api::AnyRequest;
use protocol::time::Now;
use tracing::debug;

use super::{Connection, ConnectionError, Cost, InFlight, Terms};
use crate::api::serving::{Answer, Serve, Serving};
use crate::auth::audit::Event;
use crate::auth::gate::{BareVerdict, Gate, Refusal, Verdict};
use crate::auth::{Principal, Session};
use crate::budget::Use;
use crate::limits::AUTHENTICATION_MAX;
use crate::net::accepted::Accepted;

/// Encrypts the stream where the listener says so; what is known of its peer then.
pub(super) async fn secure(
    stream: Accepted,
    peer: Endpoint,
    terms: &Terms,
    service: &impl Serve,
) -> Result<(Accepted, Session), ConnectionError> {
    let door = &terms.door;
    let mut session = Session::anonymous(terms.listener.clone(), door.protocol, peer);
    let Some(tls) = &door.tls else { return Ok((stream, session)) };
    let accepted = tokio::time::timeout(AUTHENTICATION_MAX, tls.accept(stream)).await;
    let accepted = match accepted {
        Ok(accepted) => accepted.map_err(ConnectionError::Tls),
        Err(_) => Err(ConnectionError::Unproved),
    };
    if let Err(error) = &accepted {
        service.audit(&Event::unproved(&session, None, error.to_string()));
    }
    let (stream, principal) = accepted?;
    // Where SASL asks, its answer counts, whatever certificate comes along.
    if let Some(principal) = principal.filter(|_| !door.protocol.has_sasl()) {
        session.principal = principal;
        service.audit(&Event::proved(&session));
    }
    Ok((stream, session))
}

impl<S: Serve> Connection<S> {
    /// What becomes of a request of who is not known yet, or is to be known anew. `None`: it is
    /// served.
    pub(super) fn at_gate(&mut self, now: Now, version: i16, body: &AnyRequest) -> Option<Serving> {
        let gate = self.gate.as_mut()?;
        let answer = match gate.step(now, version, body) {
            Verdict::Pass => return None,
            Verdict::Answer(response) => {
                self.take_down();
                Answer::Response(response)
            }
            Verdict::Admit(response, name) => {
                self.admit(&name);
                Answer::Response(response)
            }
            Verdict::Refuse(response, refusal) => {
                let delay = gate.refusal_delay();
                self.end(refusal);
                return Some(Serving::later(late(delay, Answer::Response(response))));
            }
            Verdict::Close(refusal) => {
                self.end(refusal);
                Answer::Nothing
            }
        };
        Some(Serving::Ready(answer))
    }

    /// A frame that is a mechanism's message without a header.
    pub(super) fn begin_bare(&mut self, message: &[u8]) -> InFlight {
        let now = self.clock.now();
        let gate = self.gate.as_mut().expect("asked before whether it is bare");
        let serving = match gate.step_bare(now, message) {
            BareVerdict::Answer(message) => {
                self.take_down();
                Serving::Ready(Answer::Bare(message))
            }
            BareVerdict::Admit(message, name) => {
                self.admit(&name);
                Serving::Ready(Answer::Bare(message))
            }
            BareVerdict::Close(refusal) => {
                let delay = gate.refusal_delay();
                self.end(refusal);
                Serving::later(late(delay, Answer::Nothing))
            }
        };
        let (began, busy) = (now.monotonic, Duration::ZERO);
        let cost = Cost { api: None, client_id: None, began, busy };
        InFlight::new(0, 0, serving, cost)
    }

    /// The client is known from now on.
    fn admit(&mut self, name: &str) {
        let principal = Principal::user(name);
        debug!(peer = %self.session.peer, %principal, "authenticated");
        self.session = Arc::new(Session { principal, ..(*self.session).clone() });
        self.intake.widen(self.terms.request_bytes_max, Use::Frame);
        if let Some(proved) = self.proved.take() {
            proved();
        }
        self.service.authenticated(true);
        self.service.audit(&Event::proved(&self.session));
    }

    /// Nothing more is read; what was begun is answered.
    fn end(&mut self, refusal: Refusal) {
        self.service.authenticated(false);
        if !self.gate.as_ref().is_some_and(Gate::is_taken_down) {
            self.note(&refusal);
        }
        self.ending = Some(refusal);
    }

    /// Writes down that a client is refused which may leave before it is told.
    fn take_down(&mut self) {
        if let Some(refusal) = self.gate.as_mut().and_then(Gate::take_down) {
            self.note(&refusal);
        }
    }

    /// Writes down why a client does not get through. When the connection's end is told its name
    /// is no longer known, and the peer may have left before.
    fn note(&self, why: &dyn std::error::Error) {
        let claimed = self.gate.as_ref().and_then(Gate::claimed);
        self.service.audit(&Event::unproved(&self.session, claimed, why.to_string()));
    }

    /// The same refusal, written down.
    pub(super) fn noted(&self, refusal: Refusal) -> ConnectionError {
        self.note(&refusal);
        refusal.into()
    }

    /// The end of a connection whose client took too long to say who it is.
    pub(super) fn unproved(&self) -> ConnectionError {
        let error = ConnectionError::Unproved;
        self.note(&error);
        error
    }
}

/// An answer that is given after `delay`.
async fn late(delay: Duration, answer: Answer) -> Answer {
    tokio::time::sleep(delay).await;
    answer
}
