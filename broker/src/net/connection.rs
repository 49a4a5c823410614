//! One task per connection: frames in, answers out, in the order of the requests.
//!
//! Requests are begun in order of arrival, so that batches that a producer sent one after the
//! other are appended so; then they run side by side, and an answer that is ready early waits for
//! those before it. Ready answers leave in one vectored write. When as many requests are in flight
//! as allowed, or for as long as a quota silences the client (KIP-219), the socket is not read: the
//! peer's own buffers then stop it. Whatever is no request
//! of Kafka's ends the connection with a line in the log, never more than the connection. Dropping
//! the task, or its peer's leaving, drops all that still waits. Shell.

mod entrance;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Polling, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use client::net::{BoxStream, Endpoint};
use protocol::api::{AnyRequest, encode_response, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::{FrameError, Framer, PREFIX_BYTES};
use protocol::primitive::{Chunks, DecodeError, EncodeError};
use protocol::time::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::door::Door;
use super::tls::TlsRefusal;
use crate::api::serving::{Answer, Context, Request, Serve, Serving, Spent};
use crate::auth::Session;
use crate::auth::gate::{Gate, Refusal};
use crate::buffers::Buffer;
use crate::limits::{AUTHENTICATION_MAX, BUFFER_BYTES_MAX, BUFFERS_KEPT_BYTES_MAX};

/// Requests of one connection that may be in flight. More wait in the socket. Clients that know
/// their own bound use 5; those that do not (librdkafka without idempotence) are held here.
const IN_FLIGHT_MAX: usize = 64;

/// 16 MiB: bytes of requests of one connection that may be in flight: enough to keep a disk busy
/// while the next arrive, and as much as there are buffers kept for. The one that crosses it is
/// still taken, so that any request that is accepted at all can be served.
const IN_FLIGHT_BYTES_MAX: usize = BUFFERS_KEPT_BYTES_MAX;

/// Room for one read where nothing says how much will come. Most requests fit.
const SCRATCH_BYTES: usize = 64 << 10;

/// Most room to make at once for a frame that is announced: the peer must send what it claims
/// before it is given more.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Slices in one vectored write; more go into the next.
const SLICES_MAX: usize = 64;

/// How long a peer may take no byte of its answers before it is given up.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

thread_local! {
    /// Where a read lands before its size is known; empty between reads.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

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
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves one connection until its peer leaves, it is idle for too long, something is wrong with
/// it, or `draining` becomes true and all its requests are answered.
pub(crate) async fn serve(
    stream: BoxStream,
    peer: Endpoint,
    terms: Terms,
    service: impl Serve,
    clock: Clock,
    draining: watch::Receiver<bool>,
) {
    let name = peer.clone();
    let served = async {
        let (stream, session) = Box::pin(entrance::secure(stream, peer, &terms, &service)).await?;
        let gate = terms.door.sasl.clone().map(Gate::new);
        let unproved_max = gate.as_ref().map_or(usize::MAX, Gate::request_bytes_max);
        let connection = Connection {
            stream,
            framer: Framer::new(terms.request_bytes_max.min(unproved_max)),
            terms,
            service,
            clock,
            session: Arc::new(session),
            gate,
            ending: None,
            inbox: BytesMut::new(),
            frame: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            silent_until: Duration::ZERO,
            is_silenced: false,
        };
        connection.run(draining).await
    };
    let (ended, peer) = (served.await, name);
    match ended {
        Ok(()) => debug!(%peer, "connection closed"),
        Err(ConnectionError::Io(error)) => debug!(%peer, %error, "connection lost"),
        Err(error) => warn!(%peer, %error, "connection closed"),
    }
}

/// Resolves once the broker is draining, or gone.
pub(super) async fn until_draining(mut draining: watch::Receiver<bool>) {
    let _ = draining.wait_for(|is_draining| *is_draining).await;
}

struct Connection<S> {
    stream: BoxStream,
    framer: Framer,
    terms: Terms,
    service: S,
    clock: Clock,
    session: Arc<Session>,
    /// `None`: nobody is asked who they are.
    gate: Option<Gate>,
    /// Why the connection ends once what was begun is answered.
    ending: Option<Refusal>,
    /// What was read and is not a whole frame yet.
    inbox: BytesMut,
    /// A larger frame, of which the beginning was read; the inbox is empty then.
    frame: Option<Buffer>,
    /// Begun and not answered, oldest first.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
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

    /// The frame to answer with, in parts; none when no answer is expected, or none is there yet.
    fn answer(self) -> Result<Vec<Bytes>, ConnectionError> {
        let response = match self.serving {
            Serving::Ready(Answer::Response(response)) => response,
            Serving::Ready(Answer::Nothing) | Serving::Later(_) | Serving::Alone(_) => {
                return Ok(Vec::new());
            }
            Serving::Ready(Answer::Bare(message)) => {
                let length = u32::try_from(message.len()).expect("messages of SASL are short");
                return Ok(vec![Bytes::copy_from_slice(&length.to_be_bytes()), message]);
            }
            Serving::Ready(Answer::Close(reason)) => return Err(ConnectionError::Refused(reason)),
        };
        let (api, version) = (response.api_key().name(), self.version);
        encode_response(&response, version, self.correlation_id)
            .map(Chunks::into_parts)
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
        loop {
            let is_silenced = self.is_silenced;
            if self.in_flight.is_empty() {
                if let Some(refusal) = self.ending.take() {
                    return Err(refusal.into());
                }
                if is_draining {
                    return Ok(());
                }
            }
            let is_unproved = self.gate.as_ref().is_some_and(Gate::is_waiting);
            let happened = tokio::select! {
                biased;
                () = &mut drain, if !is_draining => {
                    is_draining = true;
                    continue;
                }
                () = &mut patience, if is_unproved => return Err(self.unproved()),
                () = &mut silence, if is_silenced => {
                    self.is_silenced = false;
                    last_read = self.clock.now().monotonic;
                    self.begin_requests()?;
                    continue;
                }
                happened = poll_fn(|polling| self.poll(polling, is_draining)) => happened?,
                () = &mut idle => {
                    let unread = self.clock.now().monotonic.saturating_sub(last_read);
                    let is_idle = self.in_flight.is_empty() && !is_silenced;
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

    /// Waits for whatever comes first. Nothing is lost when it is dropped.
    fn poll(
        &mut self,
        polling: &mut Polling<'_>,
        is_draining: bool,
    ) -> Poll<Result<Happened, ConnectionError>> {
        let mut has_large = false;
        let is_timed = self.service.is_timed();
        for request in &mut self.in_flight {
            let later = match &mut request.serving {
                Serving::Ready(_) => continue,
                Serving::Later(later) => later,
                Serving::Alone(_) if has_large => continue,
                Serving::Alone(later) => {
                    has_large = true;
                    later
                }
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
        if is_draining || !self.has_room() {
            return Poll::Pending;
        }
        self.poll_read(polling)
    }

    fn poll_read(&mut self, polling: &mut Polling<'_>) -> Poll<Result<Happened, ConnectionError>> {
        let polled = if let Some(frame) = &mut self.frame {
            poll_read_into(&mut self.stream, polling, frame)
        } else if self.inbox.is_empty() {
            self.poll_read_first(polling)
        } else {
            let missing = self.framer.missing(&self.inbox)?;
            self.inbox.reserve(missing.clamp(1, RESERVE_BYTES_MAX));
            pin!(self.stream.read_buf(&mut self.inbox)).poll(polling)
        };
        polled.map(|read| match read? {
            0 => Ok(Happened::Ended),
            _ => Ok(Happened::Read),
        })
    }

    /// Reads where nothing is known to come: into this thread's scratch, so that connections that
    /// wait for a request, which is what most do, hold no buffer.
    fn poll_read_first(&mut self, polling: &mut Polling<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            let polled = Pin::new(&mut self.stream).poll_read(polling, &mut buf);
            polled.map_ok(|()| {
                self.inbox = BytesMut::from(buf.filled());
                buf.filled().len()
            })
        })
    }

    /// True when another request may begin.
    fn has_room(&self) -> bool {
        !self.is_silenced
            && self.ending.is_none()
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Begins to serve every whole frame that was read, as far as there is room in flight.
    fn begin_requests(&mut self) -> Result<(), ConnectionError> {
        while self.has_room() {
            let Some(frame) = self.next_frame()? else { break };
            let bytes = frame.len();
            let request = self.begin(frame)?;
            self.in_flight_bytes += bytes;
            self.in_flight.push_back(InFlight { bytes, ..request });
        }
        Ok(())
    }

    /// The next whole frame, if it was read. The rest of a larger one is read into a buffer of
    /// exactly its size, so that it need not be moved.
    fn next_frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        if let Some(frame) = self.frame.take_if(|frame| frame.is_full()) {
            return Ok(Some(frame.freeze().slice(PREFIX_BYTES..)));
        }
        let whole = self.framer.next(&mut self.inbox)?;
        if whole.is_none() {
            let size = self.inbox.len() + self.framer.missing(&self.inbox)?;
            if (SCRATCH_BYTES..=BUFFER_BYTES_MAX).contains(&size) {
                let mut frame = Buffer::with_room(size);
                frame.room()[..self.inbox.len()].copy_from_slice(&self.inbox);
                frame.fill(self.inbox.len());
                self.inbox = BytesMut::new();
                self.frame = Some(frame);
            }
        }
        Ok(whole)
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
                return Ok(InFlight {
                    version: 0,
                    correlation_id,
                    bytes: 0,
                    serving: Serving::Ready(answer),
                    cost: Cost { api: None, client_id: None, began, busy },
                });
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
                let context = Context { version, client_id, session, now };
                self.service.serve(Request { context, body })
            }
        };
        let began = now.monotonic;
        let is_timed = self.service.is_timed();
        let ended = if is_timed { self.clock.now().monotonic } else { began };
        let busy = ended.saturating_sub(began);
        let cost = Cost { api: Some(api), client_id, began, busy };
        Ok(InFlight { version, correlation_id, bytes: 0, serving, cost })
    }

    /// Takes all answers that are next in order, encoded; an error ends the connection after them.
    fn take_answers(&mut self) -> (VecDeque<Bytes>, Result<(), ConnectionError>) {
        let mut slices = VecDeque::new();
        let is_ready = |oldest: &mut InFlight| matches!(oldest.serving, Serving::Ready(_));
        let now = self.clock.now().monotonic;
        while let Some(mut request) = self.in_flight.pop_front_if(is_ready) {
            self.in_flight_bytes -= request.bytes;
            let silent = request.settle(&self.service, self.session.user(), now);
            self.silent_until = self.silent_until.max(now.saturating_add(silent));
            match request.answer() {
                Ok(answer) => {
                    self.service.sent(answer.iter().map(Bytes::len).sum());
                    slices.extend(answer);
                }
                Err(error) => return (slices, Err(error)),
            }
        }
        (slices, Ok(()))
    }

    /// Silences the client for as long as its answers told it. `None`: it may speak.
    fn silence(&mut self) -> Option<Duration> {
        let left = self.silent_until.saturating_sub(self.clock.now().monotonic);
        self.is_silenced = left > Duration::ZERO;
        self.is_silenced.then_some(left)
    }

    /// Writes all of `slices`. A peer that takes nothing for long is given up.
    async fn write(&mut self, mut slices: VecDeque<Bytes>) -> Result<(), ConnectionError> {
        while !slices.is_empty() {
            let written = {
                let mut write = pin!(write_some(&mut self.stream, &slices));
                // The timer costs more than a write that succeeds at once, as nearly all do.
                match poll_fn(|polling| Poll::Ready(write.as_mut().poll(polling))).await {
                    Poll::Ready(written) => written?,
                    Poll::Pending => tokio::time::timeout(WRITE_STALL_MAX, write)
                        .await
                        .map_err(|_| ConnectionError::Stalled(WRITE_STALL_MAX))??,
                }
            };
            advance(&mut slices, written)?;
        }
        self.stream.flush().await?;
        Ok(())
    }
}

/// Reads what there is of `frame`, and no more.
fn poll_read_into(
    stream: &mut BoxStream,
    polling: &mut Polling<'_>,
    frame: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(frame.room());
    let polled = Pin::new(stream).poll_read(polling, &mut buf);
    let count = buf.filled().len();
    polled.map_ok(|()| {
        frame.fill(count);
        count
    })
}

/// Writes as many bytes of `slices` as the stream takes at once.
async fn write_some(stream: &mut BoxStream, slices: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut parts = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (part, slice) in parts.iter_mut().zip(slices) {
        *part = IoSlice::new(slice);
        count += 1;
    }
    poll_fn(|polling| Pin::new(&mut *stream).poll_write_vectored(polling, &parts[..count])).await
}

/// Drops the first `written` bytes of `slices`.
fn advance(slices: &mut VecDeque<Bytes>, mut written: usize) -> io::Result<()> {
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    while let Some(first) = slices.front_mut() {
        if written < first.len() {
            first.advance(written);
            break;
        }
        written -= first.len();
        slices.pop_front();
    }
    Ok(())
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
