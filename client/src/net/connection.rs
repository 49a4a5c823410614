//! A connection to one endpoint: opened at the first call, opened again after it broke.
//!
//! A [`Connection`] is a cheap handle to one task. Calls are written in the order in which they
//! were sent, many may be unanswered at once, and brokers answer in order: so the front of a queue
//! is always whose turn it is, and an answer with another correlation id breaks the connection, as
//! does a malformed frame, a frame nobody asked for, and an answer later than its call's deadline.
//! When a connection breaks, every unanswered call fails; none is sent twice, as only the caller
//! knows whether that is safe. Between attempts to connect the task waits, and calls wait with it,
//! each until its own deadline. A broker that answers with a throttle time gets no further call
//! before that time has passed (KIP-219).
//!
//! Bounds: `CALLS_MAX` calls wait to be written, `IN_FLIGHT_MAX` to be answered; then `send` waits.
//! Shell.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::produce::ProduceResponse;
use protocol::api::{AnyRequest, AnyResponse, Request, decode_response, encode_request};
use protocol::api_key::ApiKey;
use protocol::primitive::Chunks;
use protocol::rng::Rng;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

pub use super::error::{CallError, OpenError};
use super::frames::Frames;
use super::handshake;
use super::negotiation::Negotiated;
use super::parts::Parts;
use super::{BoxStream, Connector, Credentials, Endpoint};
use crate::backoff::Backoff;
use crate::time::deadline_after;

/// Calls that wait to be written.
const CALLS_MAX: usize = 64;

/// Calls that wait to be answered.
const IN_FLIGHT_MAX: usize = 64;

/// The part of a session's lifetime after which the next call authenticates anew. KIP-368.
const RENEWED_AFTER: f64 = 0.85;

/// How connections are made.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// How the client calls itself.
    pub client_id: Arc<str>,
    /// From the start of connecting until the broker has said what it speaks.
    pub setup_timeout: Duration,
    /// The first wait after a failure to connect; doubles.
    pub reconnect_backoff: Duration,
    /// The longest such wait.
    pub reconnect_backoff_max: Duration,
    /// Who we are, if the broker asks.
    pub sasl: Option<Credentials>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "millstream".into(),
            setup_timeout: Duration::from_secs(10),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            sasl: None,
        }
    }
}

/// How one call is made.
#[derive(Clone, Copy, Debug)]
pub struct CallOptions {
    /// How long the answer may take, connecting and waiting one's turn included.
    pub timeout: Duration,
    /// No higher version is used, even when both ends know one.
    pub version_max: i16,
    /// False for a request that the broker never answers: Produce with acks = 0.
    pub has_answer: bool,
}

impl CallOptions {
    /// Any version, answered within `timeout`.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Self { timeout, version_max: i16::MAX, has_answer: true }
    }

    /// The same, with no version above `version_max`.
    #[must_use]
    pub fn up_to_version(self, version_max: i16) -> Self {
        Self { version_max, ..self }
    }
}

/// A handle to the task that talks to one endpoint. The task ends when all handles are gone.
#[derive(Clone, Debug)]
pub struct Connection {
    endpoint: Endpoint,
    calls: mpsc::Sender<Command>,
}

/// What the task is asked for.
enum Command {
    Call(Call),
    Negotiate(oneshot::Sender<Result<Arc<Negotiated>, CallError>>),
}

/// Makes the request once the version is known.
type Build = Box<dyn FnOnce(i16) -> AnyRequest + Send>;

struct Call {
    api: ApiKey,
    build: Build,
    options: CallOptions,
    deadline: Instant,
    reply: oneshot::Sender<Result<AnyResponse, CallError>>,
}

/// A call that was sent, to be awaited for its answer. Dropping it abandons the answer only.
#[derive(Debug)]
pub struct Answer<R: Request> {
    endpoint: Endpoint,
    deadline: Instant,
    reply: oneshot::Receiver<Result<AnyResponse, CallError>>,
    response: std::marker::PhantomData<fn() -> R>,
}

impl Connection {
    /// A connection to `endpoint`, which will be opened by the first call. Call it inside a
    /// runtime.
    #[must_use]
    pub fn new(
        connector: Arc<dyn Connector>,
        endpoint: Endpoint,
        options: ConnectionOptions,
        rng: Rng,
    ) -> Self {
        let (sender, commands) = mpsc::channel(CALLS_MAX);
        let backoff = Backoff::new(options.reconnect_backoff, options.reconnect_backoff_max, rng);
        let driver = Driver {
            connector,
            endpoint: endpoint.clone(),
            options,
            backoff,
            commands,
            correlation_id: 0,
            held_back: None,
        };
        tokio::spawn(driver.run());
        Self { endpoint, calls: sender }
    }

    /// Whom this connection talks to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What the broker speaks; connects if need be.
    ///
    /// # Errors
    /// When there is no connection within `timeout`.
    pub async fn negotiated(&self, timeout: Duration) -> Result<Arc<Negotiated>, CallError> {
        let deadline = deadline_after(timeout);
        let late = || self.late(ApiKey::ApiVersions);
        let (reply, answer) = oneshot::channel();
        let sent = timeout_at(deadline, self.calls.send(Command::Negotiate(reply))).await;
        sent.map_err(|_| late())?.map_err(|_| late())?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.lost(ApiKey::ApiVersions)),
            Err(_) => Err(late()),
        }
    }

    /// Sends `request` and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`], which says what may be retried and what may have happened.
    pub async fn call<R: Request + Send + 'static>(
        &self,
        request: R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        self.send(CallOptions::within(timeout), |_| request).await?.receive().await
    }

    /// Sends the request that `build` makes for the version agreed on, and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with<R: Request>(
        &self,
        options: CallOptions,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, CallError> {
        self.send(options, build).await?.receive().await
    }

    /// Sends a request without waiting for its answer: two requests sent one after the other are
    /// written in this order.
    ///
    /// # Errors
    /// When the deadline passes before there is room; the request is then not sent.
    pub async fn send<R: Request>(
        &self,
        options: CallOptions,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<Answer<R>, CallError> {
        let deadline = deadline_after(options.timeout);
        let (reply, answer) = oneshot::channel();
        let build: Build = Box::new(move |version| build(version).into());
        let call = Call { api: R::KEY, build, options, deadline, reply };
        match timeout_at(deadline, self.calls.send(Command::Call(call))).await {
            Ok(Ok(())) => Ok(Answer {
                endpoint: self.endpoint.clone(),
                deadline,
                reply: answer,
                response: std::marker::PhantomData,
            }),
            Ok(Err(_)) => Err(self.lost(R::KEY)),
            Err(_) => Err(self.late(R::KEY)),
        }
    }

    fn late(&self, api: ApiKey) -> CallError {
        CallError::Timeout { endpoint: self.endpoint.clone(), api }
    }

    fn lost(&self, api: ApiKey) -> CallError {
        CallError::Disconnected { endpoint: self.endpoint.clone(), api }
    }
}

impl<R: Request> Answer<R> {
    /// The answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn receive(self) -> Result<R::Response, CallError> {
        let Self { endpoint, deadline, reply, .. } = self;
        match timeout_at(deadline, reply).await {
            Ok(Ok(Ok(response))) => {
                Ok(R::Response::try_from(response).expect("decoded as the answer to its request"))
            }
            Ok(Ok(Err(error))) => Err(error),
            // The task dropped the call with the broken connection.
            Ok(Err(_)) => Err(CallError::Disconnected { endpoint, api: R::KEY }),
            Err(_) => Err(CallError::Timeout { endpoint, api: R::KEY }),
        }
    }
}

/// The task behind a connection.
struct Driver {
    connector: Arc<dyn Connector>,
    endpoint: Endpoint,
    options: ConnectionOptions,
    backoff: Backoff,
    commands: mpsc::Receiver<Command>,
    correlation_id: i32,
    /// What the next connection is to begin with.
    held_back: Option<Command>,
}

/// What an open connection is.
struct Opened {
    frames: Frames<BoxStream>,
    negotiated: Arc<Negotiated>,
    /// When to authenticate anew. `None`: never.
    renew_at: Option<Instant>,
}

impl Driver {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            match self.open().await {
                Ok(opened) => {
                    self.backoff.reset();
                    let end = self.serve(first, opened).await;
                    tracing::debug!(endpoint = %self.endpoint, ?end, "disconnected");
                }
                Err(error) => self.refuse(first, Arc::new(error)).await,
            }
        }
    }

    async fn next(&mut self) -> Option<Command> {
        match self.held_back.take() {
            Some(command) => Some(command),
            None => self.commands.recv().await,
        }
    }

    async fn open(&mut self) -> Result<Opened, OpenError> {
        let timeout = self.options.setup_timeout;
        let open = async {
            let stream = self.connector.connect(&self.endpoint).await?;
            let mut frames = Frames::new(stream);
            let sasl = self.options.sasl.as_ref();
            let (negotiated, lifetime) =
                handshake::shake(&mut frames, &self.options.client_id, sasl).await?;
            let renew_at = lifetime.map(|it| deadline_after(it.mul_f64(RENEWED_AFTER)));
            Ok(Opened { frames, negotiated: Arc::new(negotiated), renew_at })
        };
        match timeout_at(deadline_after(timeout), open).await {
            Ok(opened) => opened,
            Err(_) => Err(OpenError::Timeout(timeout)),
        }
    }

    /// Fails all calls that wait for this attempt, then waits before the next.
    async fn refuse(&mut self, first: Command, reason: Arc<OpenError>) {
        let wait = self.backoff.next_wait();
        tracing::debug!(endpoint = %self.endpoint, %reason, ?wait, "cannot connect");
        let endpoint = self.endpoint.clone();
        let error =
            move || CallError::Connect { endpoint: endpoint.clone(), reason: Arc::clone(&reason) };
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Call(call) => drop(call.reply.send(Err(error()))),
                Command::Negotiate(reply) => drop(reply.send(Err(error()))),
            }
            next = self.commands.try_recv().ok();
        }
        sleep(wait).await;
    }

    /// Writes calls and reads answers until the connection breaks or all handles are gone.
    async fn serve(&mut self, first: Command, opened: Opened) -> End {
        let Opened { frames, negotiated, renew_at } = opened;
        let (frames, writer) = frames.split();
        let (in_flight, waiting) = mpsc::channel(IN_FLIGHT_MAX);
        let (mute, muted) = watch::channel(None);
        let endpoint = self.endpoint.clone();
        let wires = Wires { writer, in_flight, muted, renew_at };
        tokio::select! {
            biased;
            end = read_answers(&endpoint, frames, waiting, mute) => end,
            end = self.write_calls(first, wires, &negotiated) => end,
        }
    }

    async fn write_calls(
        &mut self,
        first: Command,
        mut wires: Wires,
        negotiated: &Arc<Negotiated>,
    ) -> End {
        let mut next = Some(first);
        while let Some(command) = next {
            if wires.renew_at.is_some_and(|at| !at.elapsed().is_zero()) {
                // On a connection of its own, once this one's calls are answered.
                self.held_back = Some(command);
                break;
            }
            match command {
                Command::Negotiate(reply) => drop(reply.send(Ok(Arc::clone(negotiated)))),
                Command::Call(call) => {
                    if let Err(end) = self.write_call(call, &mut wires, negotiated).await {
                        return end;
                    }
                }
            }
            next = self.commands.recv().await;
        }
        // Nobody calls any more, but someone may still await an answer: the reader ends this once
        // the last one has come.
        drop(wires.in_flight);
        std::future::pending().await
    }

    async fn write_call(
        &mut self,
        call: Call,
        wires: &mut Wires,
        negotiated: &Negotiated,
    ) -> Result<(), End> {
        let Call { api, build, options, deadline, reply } = call;
        let muted_until = *wires.muted.borrow();
        if let Some(until) = muted_until {
            sleep_until(until.min(deadline)).await;
        }
        if reply.is_closed() {
            return Ok(());
        }
        if muted_until.is_some_and(|it| it > deadline) {
            let throttled = CallError::Throttled { endpoint: self.endpoint.clone(), api };
            drop(reply.send(Err(throttled)));
            return Ok(());
        }
        let (version, chunks) = match self.encode(api, build, options, negotiated) {
            Ok(encoded) => encoded,
            Err(error) => {
                drop(reply.send(Err(error)));
                return Ok(());
            }
        };
        // Before the bytes: the reader takes a frame that nobody awaits for an error.
        let unanswered = if options.has_answer {
            let correlation_id = self.correlation_id;
            let waiting = Waiting { api, version, correlation_id, deadline, reply };
            wires.in_flight.send(waiting).await.map_err(|_| End::Closed)?;
            None
        } else {
            Some(reply)
        };
        let mut parts = Parts::from(chunks);
        let write = async {
            wires.writer.write_all_buf(&mut parts).await?;
            wires.writer.flush().await
        };
        match timeout_at(deadline, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Io(error)),
            Err(_) => return Err(End::Late),
        }
        if let Some(reply) = unanswered {
            drop(reply.send(Ok(ProduceResponse::default().into())));
        }
        Ok(())
    }

    fn encode(
        &mut self,
        api: ApiKey,
        build: Build,
        options: CallOptions,
        negotiated: &Negotiated,
    ) -> Result<(i16, Chunks), CallError> {
        let endpoint = || self.endpoint.clone();
        let version = negotiated
            .version(api, options.version_max)
            .map_err(|source| CallError::Unsupported { endpoint: endpoint(), source })?;
        let correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let client_id = Some(&*self.options.client_id);
        let chunks = encode_request(&build(version), version, correlation_id, client_id)
            .map_err(|source| CallError::Encode { endpoint: endpoint(), api, source })?;
        self.correlation_id = correlation_id;
        Ok((version, chunks))
    }
}

/// What calls are written with.
struct Wires {
    writer: WriteHalf<BoxStream>,
    in_flight: mpsc::Sender<Waiting>,
    /// Until when the broker wants to hear nothing.
    muted: watch::Receiver<Option<Instant>>,
    renew_at: Option<Instant>,
}

/// A call that was written and not answered.
struct Waiting {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    deadline: Instant,
    reply: oneshot::Sender<Result<AnyResponse, CallError>>,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// Nobody needs it any more.
    Finished,
    /// The broker closed it.
    Closed,
    /// The network broke it.
    Io(#[expect(dead_code, reason = "printed")] io::Error),
    /// An answer came later than its deadline, or not at all.
    Late,
    /// The broker sent what is no answer to what was asked.
    Malformed,
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            OpenError::Io(source) | OpenError::Tls { source, .. } => Self::Io(source),
            OpenError::Timeout(_) => Self::Late,
            OpenError::Decode(_)
            | OpenError::Frame(_)
            | OpenError::Encode(_)
            | OpenError::Token(_)
            | OpenError::Sasl(_)
            | OpenError::Denied { .. }
            | OpenError::Refused { .. } => Self::Malformed,
        }
    }
}

async fn read_answers(
    endpoint: &Endpoint,
    mut frames: Frames<ReadHalf<BoxStream>>,
    mut waiting: mpsc::Receiver<Waiting>,
    mute: watch::Sender<Option<Instant>>,
) -> End {
    loop {
        let front = tokio::select! {
            biased;
            front = waiting.recv() => match front {
                Some(front) => front,
                None => return End::Finished,
            },
            unasked = frames.next() => return match unasked {
                Ok(_) => End::Malformed,
                Err(error) => error.into(),
            },
        };
        match timeout_at(front.deadline, frames.next()).await {
            Ok(Ok(frame)) => {
                if let Err(end) = front.complete(endpoint, frame, &mute) {
                    return end;
                }
            }
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                let late = CallError::Timeout { endpoint: endpoint.clone(), api: front.api };
                drop(front.reply.send(Err(late)));
                return End::Late;
            }
        }
    }
}

impl Waiting {
    fn complete(
        self,
        endpoint: &Endpoint,
        frame: Bytes,
        mute: &watch::Sender<Option<Instant>>,
    ) -> Result<(), End> {
        match decode_response(self.api, self.version, frame) {
            Ok((header, response)) if header.correlation_id == self.correlation_id => {
                if let Ok(throttle_ms @ 1..) = u64::try_from(response.throttle_time_ms()) {
                    let until = deadline_after(Duration::from_millis(throttle_ms));
                    tracing::debug!(%endpoint, api = %self.api, throttle_ms, "throttled");
                    mute.send_modify(|it| *it = (*it).max(Some(until)));
                }
                // The caller may have gone; its answer goes with it.
                drop(self.reply.send(Ok(response)));
                Ok(())
            }
            Ok(_) => Err(End::Malformed),
            Err(source) => {
                let endpoint = endpoint.clone();
                let malformed = CallError::Malformed { endpoint, api: self.api, source };
                drop(self.reply.send(Err(malformed)));
                Err(End::Malformed)
            }
        }
    }
}

#[cfg(test)]
mod tests;
