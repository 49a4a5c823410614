//! One task per connection: frames in, answers out, in the order of the requests.
//!
//! Requests are begun in order of arrival, so that batches that a producer sent one after the
//! other are appended so; then they run side by side, and an answer that is ready early waits for
//! those before it. Ready answers leave in one vectored write. When as many requests are in flight
//! as allowed, while an answer was not taken, while there is no memory, or for as long as a quota
//! silences the client (KIP-219), the socket is not read: the peer's own buffers then stop it. Whatever is no request
//! of Kafka's ends the connection, never more, with a line in the log, of which there are only so many. Dropping
//! the task, or its peer's leaving, drops all that still waits. Shell.

mod entrance;
mod intake;
mod outlet;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use bytes::Bytes;
use client::net::Endpoint;
use protocol::api::{AnyRequest, encode_response, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::FrameError;
use protocol::primitive::{Chunks, DecodeError, EncodeError};
use protocol::time::Clock;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::accepted::Accepted;
use super::door::Door;
use super::tls::TlsRefusal;
use crate::api::serving::{Answer, Context, Held, Request, Serve, Serving, Spent};
use crate::auth::Session;
use crate::auth::gate::{Gate, Refusal};
use crate::auth::lines::Lines;
use crate::budget::{Budget, Grant, Overfull, Use, Wait};
use crate::limits::{
    AUTHENTICATION_MAX, BUFFERS_KEPT_BYTES_MAX, FRAME_LOOKED_AT_EVERY, FRAME_UNCLAIMED_BYTES,
};
use intake::{Frame, Intake, wide};
use outlet::Unsent;

/// Requests of one connection that may be in flight. More wait in the socket. Clients that know
/// their own bound use 5; those that do not (librdkafka without idempotence) are held here.
const IN_FLIGHT_MAX: usize = 64;

/// 16 MiB: bytes of requests of one connection that may be in flight: enough to keep a disk busy
/// while the next arrive, and as much as there are buffers kept for. The one that crosses it is
/// still taken, so that any request that is accepted at all can be served.
const IN_FLIGHT_BYTES_MAX: usize = BUFFERS_KEPT_BYTES_MAX;

/// How a connection is to be treated.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Larger requests end the connection before room is made for them.
    pub(crate) request_bytes_max: usize,
    /// A connection without requests is closed after this time.
    pub(crate) idle_max: Duration,
    /// The name of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    /// How its connections are secured.
    pub(crate) door: Door,
    /// Whence it takes memory.
    pub(crate) budget: Budget,
    /// How often the log tells of connections that end.
    pub(crate) lines: Lines,
}

/// Why a connection ended, other than that its peer left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("request {api} version {version}: {source}")]
    Request { api: &'static str, version: i16, source: DecodeError },
    #[error("request header: {0}")]
    Header(DecodeError),
    #[error("request of key {key} version {version} is not supported")]
    Unsupported { key: i16, version: i16 },
    #[error("response {api} version {version}: {source}")]
    Response { api: &'static str, version: i16, source: EncodeError },
    #[error("{0}")]
    Refused(&'static str),
    #[error(transparent)]
    Tls(#[from] TlsRefusal),
    #[error(transparent)]
    Gate(#[from] Refusal),
    #[error("not authenticated within {AUTHENTICATION_MAX:?}")]
    Unproved,
    #[error("no byte was taken for {0:?}")]
    Stalled(Duration),
    #[error("no byte of a request that was begun came for {0:?}")]
    FrameStalled(Duration),
    #[error("its request came too slowly while others waited for memory")]
    FrameSlow,
    #[error("its answers were taken too slowly while others waited for memory")]
    InTheWay,
    #[error(transparent)]
    Overfull(#[from] Overfull),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Hears that the client of a connection has proved who it is.
pub(super) type Proved = Box<dyn FnOnce() + Send>;

/// Serves one connection until its peer leaves, it is idle for too long, something is wrong with
/// it, or `draining` becomes true and all its requests are answered.
pub(crate) async fn serve(
    stream: Accepted,
    peer: Endpoint,
    terms: Terms,
    service: impl Serve,
    clock: Clock,
    draining: watch::Receiver<bool>,
    proved: Proved,
) {
    let (name, lines, time) = (peer.clone(), terms.lines.clone(), clock.clone());
    let served = async {
        let (stream, session) = Box::pin(entrance::secure(stream, peer, &terms, &service)).await?;
        let gate = terms.door.sasl.clone().map(Gate::new);
        let proved = match gate {
            Some(_) => Some(proved),
            None => {
                // By its certificate, where one is required.
                proved();
                None
            }
        };
        let unproved_max = gate.as_ref().map_or(usize::MAX, Gate::request_bytes_max);
        let bytes_max = terms.request_bytes_max.min(unproved_max);
        let of = if gate.is_some() { Use::Unproved } else { Use::Frame };
        let budget = terms.budget.clone();
        let connection = Connection {
            stream,
            intake: Intake::new(bytes_max, budget.clone(), of),
            charged: budget.nothing(Use::Small),
            budget,
            turn: None,
            terms,
            service,
            clock,
            session: Arc::new(session),
            gate,
            proved,
            ending: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            unclaimed_bytes: 0,
            is_held_back: false,
            silent_until: Duration::ZERO,
            is_silenced: false,
        };
        connection.run(draining).await
    };
    let (ended, peer) = (served.await, name);
    match ended {
        Ok(()) => debug!(%peer, "connection closed"),
        Err(ConnectionError::Io(error)) => debug!(%peer, %error, "connection lost"),
        // The audit trail has told of it, and bounds how often.
        Err(
            error
            @ (ConnectionError::Gate(_) | ConnectionError::Tls(_) | ConnectionError::Unproved),
        ) => debug!(%peer, %error, "connection closed"),
        Err(error) if lines.may_tell(time.now().monotonic, &peer.host) => {
            warn!(%peer, %error, "connection closed");
        }
        Err(error) => debug!(%peer, %error, "connection closed"),
    }
}

/// Resolves once the broker is draining, or gone.
pub(super) async fn until_draining(mut draining: watch::Receiver<bool>) {
    let _ = draining.wait_for(|is_draining| *is_draining).await;
}

struct Connection<S> {
    stream: Accepted,
    /// What was read and not begun.
    intake: Intake,
    budget: Budget,
    /// What it takes of the budget without having asked: what is small, and answers that are no records.
    charged: Grant,
    /// It waits until there is anything left of the budget.
    turn: Option<Wait>,
    terms: Terms,
    service: S,
    clock: Clock,
    session: Arc<Session>,
    /// `None`: nobody is asked who they are.
    gate: Option<Gate>,
    /// `None`: its client is known, or not asked.
    proved: Option<Proved>,
    /// Why the connection ends once what was begun is answered.
    ending: Option<Refusal>,
    /// Begun and not answered, oldest first.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// Of those, the bytes for which no room was claimed.
    unclaimed_bytes: usize,
    /// Not all that was read was begun: what makes room for more begins that first.
    is_held_back: bool,
    /// Until then a quota silences the client.
    silent_until: Duration,
    is_silenced: bool,
}

/// A request that was begun.
struct InFlight {
    version: i16,
    correlation_id: i32,
    /// Of its frame, which its batches are slices of.
    bytes: usize,
    /// Of its frame, the bytes for which no room was claimed: all or none.
    unclaimed_bytes: usize,
    /// Its frame's room, unless that is held by the frame.
    _room: Option<Grant>,
    serving: Serving,
    cost: Cost,
}

/// What a request cost so far.
struct Cost {
    /// `None`: it was refused by its version, and costs nothing.
    api: Option<ApiKey>,
    client_id: Option<Arc<str>>,
    /// When it was read.
    began: Duration,
    /// The time in which something was done for it.
    busy: Duration,
}

impl InFlight {
    /// A request whose frame is not told yet.
    fn new(version: i16, correlation_id: i32, serving: Serving, cost: Cost) -> Self {
        let (bytes, unclaimed_bytes) = (0, 0);
        Self { version, correlation_id, bytes, unclaimed_bytes, _room: None, serving, cost }
    }

    /// Charges the request, which is answered; says how long its client must be silent.
    fn settle(&mut self, service: &impl Serve, user: &str, now: Duration) -> Duration {
        let (Some(api), Serving::Ready(answer)) = (self.cost.api, &mut self.serving) else {
            return Duration::ZERO;
        };
        let spent = Spent {
            api,
            user,
            client_id: self.cost.client_id.as_deref(),
            request_bytes: self.bytes,
            taken: now.saturating_sub(self.cost.began),
            busy: self.cost.busy,
            now,
        };
        service.settle(&spent, answer)
    }

    /// The frame to answer with, in parts, and what its records hold; none when no answer is
    /// expected, or none is there yet.
    fn answer(self) -> Result<(Vec<Bytes>, Option<Held>), ConnectionError> {
        let (response, held) = match self.serving {
            Serving::Ready(Answer::Response(response)) => (response, None),
            Serving::Ready(Answer::Records(response, held)) => (response, Some(held)),
            Serving::Ready(Answer::Nothing) | Serving::Later(_) | Serving::Alone(_) => {
                return Ok((Vec::new(), None));
            }
            Serving::Ready(Answer::Bare(message)) => {
                let length = u32::try_from(message.len()).expect("messages of SASL are short");
                let parts = vec![Bytes::copy_from_slice(&length.to_be_bytes()), message];
                return Ok((parts, None));
            }
            Serving::Ready(Answer::Close(reason)) => return Err(ConnectionError::Refused(reason)),
        };
        let (api, version) = (response.api_key().name(), self.version);
        encode_response(&response, version, self.correlation_id)
            .map(|chunks| (Chunks::into_parts(chunks), held))
            .map_err(|source| ConnectionError::Response { api, version, source })
    }
}

/// What a connection waited for.
enum Happened {
    /// The oldest request in flight can be answered.
    Answerable,
    /// Bytes were read.
    Read,
    /// The peer will send no more.
    Ended,
}

impl<S: Serve> Connection<S> {
    async fn run(mut self, draining: watch::Receiver<bool>) -> Result<(), ConnectionError> {
        let mut drain = pin!(until_draining(draining));
        let mut idle = pin!(tokio::time::sleep(self.terms.idle_max));
        let mut last_read = self.clock.now().monotonic;
        let mut silence = pin!(tokio::time::sleep(Duration::ZERO));
        let mut is_draining = false;
        let mut patience = pin!(tokio::time::sleep(AUTHENTICATION_MAX));
        let mut look = pin!(tokio::time::sleep(Duration::ZERO));
        let mut is_looked_at = false;
        loop {
            if !is_looked_at && self.intake.is_filling() {
                is_looked_at = true;
                look.set(tokio::time::sleep(FRAME_LOOKED_AT_EVERY));
            }
            if self.in_flight.is_empty() {
                if let Some(refusal) = self.ending.take() {
                    return Err(refusal.into());
                }
                if is_draining {
                    return Ok(());
                }
            }
            let happened = tokio::select! {
                biased;
                () = &mut drain, if !is_draining => {
                    is_draining = true;
                    continue;
                }
                () = &mut patience, if self.is_unproved() => return Err(self.unproved()),
                () = &mut silence, if self.is_silenced => {
                    self.is_silenced = false;
                    last_read = self.clock.now().monotonic;
                    self.begin_requests()?;
                    continue;
                }
                () = &mut look, if is_looked_at => {
                    is_looked_at = false;
                    self.intake.look()?;
                    continue;
                }
                happened = poll_fn(|polling| self.poll(polling, is_draining)) => happened?,
                () = &mut idle => {
                    let unread = self.clock.now().monotonic.saturating_sub(last_read);
                    let is_idle = self.in_flight.is_empty() && !self.is_silenced;
                    if unread >= self.terms.idle_max && is_idle {
                        return Ok(());
                    }
                    let left = self.terms.idle_max.saturating_sub(unread);
                    idle.set(tokio::time::sleep(left.max(Duration::from_secs(1))));
                    continue;
                }
            };
            match happened {
                Happened::Ended => return Ok(()),
                Happened::Read => {
                    last_read = self.clock.now().monotonic;
                    self.begin_requests()?;
                }
                Happened::Answerable => {
                    let (answers, end) = self.take_answers();
                    if let Some(left) = self.silence() {
                        silence.set(tokio::time::sleep(left));
                    }
                    self.write(answers).await?;
                    end?;
                    // Room in flight: frames that were held back may begin.
                    self.begin_requests()?;
                }
            }
        }
    }

    /// True while nobody has said yet who it is, and somebody must.
    fn is_unproved(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::is_waiting)
    }

    /// Waits for whatever comes first. Nothing is lost when it is dropped.
    fn poll(
        &mut self,
        polling: &mut Polling<'_>,
        is_draining: bool,
    ) -> Poll<Result<Happened, ConnectionError>> {
        let is_timed = self.service.is_timed();
        for (index, request) in self.in_flight.iter_mut().enumerate() {
            let later = match &mut request.serving {
                Serving::Ready(_) => continue,
                Serving::Later(later) => later,
                // While answers before it are not taken it would hold memory for nothing.
                Serving::Alone(_) if index > 0 => continue,
                Serving::Alone(later) => later,
            };
            let began = is_timed.then(|| self.clock.now().monotonic);
            let polled = later.as_mut().poll(polling);
            if let Some(began) = began {
                request.cost.busy += self.clock.now().monotonic.saturating_sub(began);
            }
            if let Poll::Ready(answer) = polled {
                request.serving = Serving::Ready(answer);
            }
        }
        if self.in_flight.front().is_some_and(|oldest| matches!(oldest.serving, Serving::Ready(_)))
        {
            return Poll::Ready(Ok(Happened::Answerable));
        }
        if let Some(turn) = &mut self.turn {
            if Pin::new(turn).poll(polling).is_pending() {
                return Poll::Pending;
            }
            self.turn = None;
            return Poll::Ready(Ok(Happened::Read));
        }
        if is_draining || self.is_held_back || !self.has_room() {
            return Poll::Pending;
        }
        let was_filling = self.intake.is_filling();
        let polled = self.intake.poll_read(&mut self.stream, polling);
        if polled.is_pending() && !was_filling && self.intake.is_filling() {
            // From now on it is looked at whether the frame comes.
            return Poll::Ready(Ok(Happened::Read));
        }
        polled.map_ok(|count| if count == 0 { Happened::Ended } else { Happened::Read })
    }

    /// True when another request may begin.
    fn has_room(&self) -> bool {
        let is_allowed = !self.is_silenced
            && self.turn.is_none()
            && self.ending.is_none()
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
        // An answer that is there already and not counted yet: no second beside it while memory is
        // short.
        let has_answer = || {
            let newest = self.in_flight.back();
            newest.is_some_and(|newest| matches!(newest.serving, Serving::Ready(_)))
        };
        is_allowed && (self.budget.is_easy() || !has_answer())
    }

    /// Charges the connection for what it holds without having asked, `unsent_bytes` of answers
    /// among it.
    fn charge(&mut self, unsent_bytes: u64) {
        let held = self.intake.unclaimed_bytes() + self.unclaimed_bytes;
        self.charged.set(wide(held).saturating_add(unsent_bytes));
    }

    /// Begins to serve every whole frame that was read, as far as there is room in flight. Their batches go to
    /// the log together, unless what each request costs is to be known.
    fn begin_requests(&mut self) -> Result<(), ConnectionError> {
        if self.service.is_timed() { self.begin_all() } else { S::together(|| self.begin_all()) }
    }

    fn begin_all(&mut self) -> Result<(), ConnectionError> {
        self.is_held_back = true;
        while self.has_room() {
            if self.budget.is_full() && self.intake.unclaimed_bytes() > 0 {
                self.turn = Some(self.budget.take(Use::Small, wide(FRAME_UNCLAIMED_BYTES))?);
                break;
            }
            let Some(Frame { bytes: frame, is_claimed, grant }) = self.intake.next_frame()? else {
                self.is_held_back = false;
                break;
            };
            let bytes = frame.len();
            let unclaimed_bytes = if is_claimed { 0 } else { bytes };
            let request = self.begin(frame)?;
            self.in_flight_bytes += bytes;
            self.unclaimed_bytes += unclaimed_bytes;
            let request = InFlight { bytes, unclaimed_bytes, _room: grant, ..request };
            self.in_flight.push_back(request);
        }
        self.charge(0);
        Ok(())
    }

    fn begin(&mut self, frame: Bytes) -> Result<InFlight, ConnectionError> {
        if self.gate.as_ref().is_some_and(Gate::is_bare) {
            return Ok(self.begin_bare(&frame));
        }
        let (now, frame_bytes) = (self.clock.now(), frame.len());
        let (header, body) = split_request(frame).map_err(ConnectionError::Header)?;
        let (version, correlation_id) = (header.api_version, header.correlation_id);
        let Some(api) = header.known() else {
            if ApiKey::from_wire(header.api_key) == Some(ApiKey::ApiVersions) {
                // The one refusal that every client can read: version 0 of the response. KIP-511.
                let answer = Answer::Response(self.service.unsupported_api_versions());
                let (began, busy) = (Duration::ZERO, Duration::ZERO);
                let cost = Cost { api: None, client_id: None, began, busy };
                return Ok(InFlight::new(0, correlation_id, Serving::Ready(answer), cost));
            }
            return Err(ConnectionError::Unsupported { key: header.api_key, version });
        };
        if let Some(gate) = &self.gate {
            gate.check(now, api, frame_bytes).map_err(|refusal| self.noted(refusal))?;
        }
        let body = AnyRequest::decode(api, version, body)
            .map_err(|source| ConnectionError::Request { api: api.name(), version, source })?;
        let client_id = header.client_id.map(Arc::from);
        let serving = match self.at_gate(now, version, &body) {
            Some(serving) => serving,
            None => {
                let (client_id, session) = (client_id.clone(), self.session.clone());
                let takes_files = self.stream.sends_files();
                let context = Context { version, client_id, session, now, takes_files };
                self.service.serve(Request { context, body })
            }
        };
        let began = now.monotonic;
        let is_timed = self.service.is_timed();
        let ended = if is_timed { self.clock.now().monotonic } else { began };
        let busy = ended.saturating_sub(began);
        let cost = Cost { api: Some(api), client_id, began, busy };
        Ok(InFlight::new(version, correlation_id, serving, cost))
    }

    /// Takes all answers that are next in order, encoded; an error ends the connection after them.
    fn take_answers(&mut self) -> (Unsent, Result<(), ConnectionError>) {
        let mut unsent = Unsent::default();
        let is_ready = |oldest: &mut InFlight| matches!(oldest.serving, Serving::Ready(_));
        let now = self.clock.now().monotonic;
        let mut end = Ok(());
        while let Some(mut request) = self.in_flight.pop_front_if(is_ready) {
            self.in_flight_bytes -= request.bytes;
            self.unclaimed_bytes -= request.unclaimed_bytes;
            let silent = request.settle(&self.service, self.session.user(), now);
            self.silent_until = self.silent_until.max(now.saturating_add(silent));
            match request.answer() {
                Ok((parts, held)) => {
                    self.service.sent(parts.iter().map(Bytes::len).sum());
                    unsent.push(parts, held);
                }
                Err(error) => {
                    end = Err(error);
                    break;
                }
            }
        }
        self.charge(unsent.charged_bytes());
        (unsent, end)
    }

    /// Silences the client for as long as its answers told it. `None`: it may speak.
    fn silence(&mut self) -> Option<Duration> {
        let left = self.silent_until.saturating_sub(self.clock.now().monotonic);
        self.is_silenced = left > Duration::ZERO;
        self.is_silenced.then_some(left)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
