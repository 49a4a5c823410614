//! The gate of a connection: what its client may say before it is known, and again later.
//!
//! | state | lets pass | then |
//! |---|---|---|
//! | shut | ApiVersions; SaslHandshake begins an exchange | exchanging, or over |
//! | exchanging | the mechanism's messages | open, exchanging, or over |
//! | open | everything, until its time is over; SaslHandshake where clients must authenticate anew | exchanging |
//! | over | nothing: the last answer says why | |
//!
//! Who authenticates anew must be the same and use the same mechanism. Frames of handshake version 0
//! bring the mechanism's messages bare. KIP-43, KIP-152, KIP-368. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::AnyRequest;
use protocol::api::AnyResponse;
use protocol::api::sasl::{SaslAuthenticateResponse, SaslHandshakeResponse};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::sasl::Mechanism;
use protocol::time::Now;

use super::sasl::{AuthError, Exchange, Sasl, Step};

/// 64 KiB: the largest request before authentication other than the mechanism's messages.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// A client that authenticates anew more often is told that it is in no state to, as in Kafka.
const REAUTH_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The gate of one connection.
#[derive(Debug)]
pub(crate) struct Gate {
    sasl: Arc<Sasl>,
    state: State,
    /// Who is known, since when, and until when. `None`: nobody yet.
    known: Option<Known>,
    /// The name that a client gave who is not believed.
    claimed: Option<String>,
    /// True once it was taken down why a client is refused that has one more message to send.
    is_taken_down: bool,
}

#[derive(Debug)]
enum State {
    Shut,
    Exchanging {
        exchange: Exchange,
        /// True: its messages come without a header.
        is_bare: bool,
    },
    Open,
    Over,
}

#[derive(Clone, Debug)]
struct Known {
    mechanism: Mechanism,
    name: String,
    since: Duration,
    until: Option<Duration>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is served.
    Pass,
    /// It is answered here.
    Answer(AnyResponse),
    /// It is answered here, and its client is known from now on by this name.
    Admit(AnyResponse, String),
    /// It is answered late, and the connection ends.
    Refuse(AnyResponse, Refusal),
    /// The connection ends.
    Close(Refusal),
}

/// What becomes of a message without a header.
#[derive(Debug)]
pub(crate) enum BareVerdict {
    /// It is answered, as bare.
    Answer(Bytes),
    /// It is answered, and its client is known from now on by this name.
    Admit(Bytes, String),
    /// The connection ends.
    Close(Refusal),
}

/// Why a client does not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} came before authentication")]
    Early(ApiKey),
    #[error("a request of {0} bytes came before authentication")]
    Large(usize),
    #[error("{0} is not expected in this state of authentication")]
    State(ApiKey),
    #[error("the mechanism {0:?} is not offered")]
    Mechanism(String),
    #[error("authentication failed: {0}")]
    Auth(AuthError),
    #[error("{before} authenticated anew as somebody else or by another mechanism")]
    Changed { before: String },
    #[error("the authentication of {0} has expired")]
    Expired(String),
}

impl Gate {
    /// A gate that is shut.
    pub(crate) fn new(sasl: Arc<Sasl>) -> Self {
        Self { sasl, state: State::Shut, known: None, claimed: None, is_taken_down: false }
    }

    /// The name that a client gave who was not believed. `None`: none was given.
    pub(crate) fn claimed(&self) -> Option<&str> {
        self.claimed.as_deref()
    }

    /// Why a client will be refused as soon as it sends one more message, which it may never do.
    /// Said once.
    pub(crate) fn take_down(&mut self) -> Option<Refusal> {
        let State::Exchanging { exchange, .. } = &self.state else { return None };
        let refused = exchange.refused()?;
        let is_new = !std::mem::replace(&mut self.is_taken_down, true);
        is_new.then(|| Refusal::Auth(refused.clone()))
    }

    /// True once [`take_down`](Self::take_down) has said why.
    pub(crate) fn is_taken_down(&self) -> bool {
        self.is_taken_down
    }

    /// True while nobody is known.
    pub(crate) fn is_waiting(&self) -> bool {
        self.known.is_none()
    }

    /// How large requests may be while nobody is known.
    pub(crate) fn request_bytes_max(&self) -> usize {
        self.sasl.request_bytes_max
    }

    /// How long a refusal waits.
    pub(crate) fn refusal_delay(&self) -> Duration {
        self.sasl.refusal_delay
    }

    /// True when the next frame is a message without a header.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.state, State::Exchanging { is_bare: true, .. })
    }

    /// Whether a request may be read at all, before anything of it is.
    ///
    /// # Errors
    /// When the connection must end.
    pub(crate) fn check(&self, now: Now, api: ApiKey, bytes: usize) -> Result<(), Refusal> {
        let is_of_gate = matches!(api, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        let Some(known) = &self.known else {
            return match api {
                ApiKey::SaslAuthenticate => Ok(()),
                ApiKey::ApiVersions | ApiKey::SaslHandshake if bytes <= HEADER_BYTES_MAX => Ok(()),
                ApiKey::ApiVersions | ApiKey::SaslHandshake => Err(Refusal::Large(bytes)),
                _ => Err(Refusal::Early(api)),
            };
        };
        let is_over = known.until.is_some_and(|until| until <= now.monotonic);
        if is_over && !is_of_gate && api != ApiKey::ApiVersions {
            return Err(Refusal::Expired(known.name.clone()));
        }
        Ok(())
    }

    /// Judges a request that [`check`](Self::check) let through.
    pub(crate) fn step(&mut self, now: Now, version: i16, request: &AnyRequest) -> Verdict {
        match request {
            AnyRequest::SaslHandshake(handshake) => {
                self.on_handshake(now, version, &handshake.mechanism)
            }
            AnyRequest::SaslAuthenticate(message) => self.on_message(now, &message.auth_bytes),
            _ if matches!(self.state, State::Open) => Verdict::Pass,
            AnyRequest::ApiVersions(_) => Verdict::Pass,
            // Between two messages of authenticating anew nothing else is served.
            other => Verdict::Close(Refusal::Early(other.api_key())),
        }
    }

    fn on_handshake(&mut self, now: Now, version: i16, named: &str) -> Verdict {
        let mechanisms = self.sasl.mechanisms.keys().map(ToString::to_string).collect();
        let response = |code: ErrorCode| {
            SaslHandshakeResponse { error_code: code.to_wire(), mechanisms }.into()
        };
        let may_begin = match (&self.state, &self.known) {
            (State::Shut, _) => true,
            (State::Open, Some(known)) => {
                let age = now.monotonic.saturating_sub(known.since);
                known.until.is_some() && age >= REAUTH_INTERVAL_MIN
            }
            (State::Open, None) | (State::Exchanging { .. } | State::Over, _) => false,
        };
        if !may_begin {
            // Who is known and asks too often loses nothing by it.
            if matches!(self.state, State::Open) {
                return Verdict::Answer(response(ErrorCode::IllegalSaslState));
            }
            self.state = State::Over;
            let refusal = Refusal::State(ApiKey::SaslHandshake);
            return Verdict::Refuse(response(ErrorCode::IllegalSaslState), refusal);
        }
        let offered = Mechanism::from_name(named);
        let Some(mechanism) = offered.filter(|it| self.sasl.mechanisms.contains_key(it)) else {
            self.state = State::Over;
            let refusal = Refusal::Mechanism(named.chars().take(32).collect());
            return Verdict::Refuse(response(ErrorCode::UnsupportedSaslMechanism), refusal);
        };
        let exchange = Exchange::new(mechanism, &self.sasl);
        self.state = State::Exchanging { exchange, is_bare: version == 0 };
        Verdict::Answer(response(ErrorCode::None))
    }

    fn on_message(&mut self, now: Now, message: &[u8]) -> Verdict {
        let refuse = |code: ErrorCode, words: String, refusal| {
            let answer = SaslAuthenticateResponse {
                error_code: code.to_wire(),
                error_message: Some(words),
                ..SaslAuthenticateResponse::default()
            };
            Verdict::Refuse(answer.into(), refusal)
        };
        if !matches!(self.state, State::Exchanging { is_bare: false, .. }) {
            let refusal = Refusal::State(ApiKey::SaslAuthenticate);
            let words = "SaslAuthenticate is expected after SaslHandshake".to_owned();
            if matches!(self.state, State::Open) {
                let answer = SaslAuthenticateResponse {
                    error_code: ErrorCode::IllegalSaslState.to_wire(),
                    error_message: Some(words),
                    ..SaslAuthenticateResponse::default()
                };
                return Verdict::Answer(answer.into());
            }
            self.state = State::Over;
            return refuse(ErrorCode::IllegalSaslState, words, refusal);
        }
        match self.exchange(now, message) {
            Ok(Said { message, name: None, .. }) => {
                let answer = SaslAuthenticateResponse {
                    error_message: None,
                    auth_bytes: message,
                    ..SaslAuthenticateResponse::default()
                };
                Verdict::Answer(answer.into())
            }
            Ok(Said { message, name: Some(name), lifetime }) => {
                let lifetime = lifetime.unwrap_or_default().as_millis();
                let answer = SaslAuthenticateResponse {
                    error_message: None,
                    auth_bytes: message,
                    session_lifetime_ms: i64::try_from(lifetime).unwrap_or(i64::MAX),
                    ..SaslAuthenticateResponse::default()
                };
                Verdict::Admit(answer.into(), name)
            }
            Err(refusal) => {
                // Which part of it was wrong is not told.
                let words = "Authentication failed: invalid credentials".to_owned();
                refuse(ErrorCode::SaslAuthenticationFailed, words, refusal)
            }
        }
    }

    /// Judges a message without a header.
    pub(crate) fn step_bare(&mut self, now: Now, message: &[u8]) -> BareVerdict {
        match self.exchange(now, message) {
            Ok(Said { message, name: None, .. }) => BareVerdict::Answer(message),
            Ok(Said { message, name: Some(name), .. }) => BareVerdict::Admit(message, name),
            Err(refusal) => BareVerdict::Close(refusal),
        }
    }

    fn exchange(&mut self, now: Now, message: &[u8]) -> Result<Said, Refusal> {
        let State::Exchanging { mut exchange, is_bare } =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return Err(Refusal::State(ApiKey::SaslAuthenticate));
        };
        let step = match exchange.step(&self.sasl, now.wall, message) {
            Ok(step) => step,
            Err(error) => {
                self.claimed = exchange.claimed();
                return Err(Refusal::Auth(error));
            }
        };
        let (name, message, lifetime) = match step {
            Step::Challenge(message) => {
                self.state = State::Exchanging { exchange, is_bare };
                return Ok(Said { message: message.into(), name: None, lifetime: None });
            }
            Step::Proved { name, message, lifetime } => (name, message, lifetime),
        };
        let mechanism = exchange.mechanism();
        let is_same = |before: &Known| before.name == name && before.mechanism == mechanism;
        if let Some(before) = self.known.as_ref().filter(|before| !is_same(before)) {
            self.claimed = Some(name);
            return Err(Refusal::Changed { before: before.name.clone() });
        }
        let since = now.monotonic;
        let until = lifetime.map(|lifetime| since.saturating_add(lifetime));
        self.known = Some(Known { mechanism, name: name.clone(), since, until });
        self.state = State::Open;
        Ok(Said { message: message.into(), name: Some(name), lifetime })
    }
}

/// What an exchange says next.
struct Said {
    message: Bytes,
    /// Who is known by it.
    name: Option<String>,
    lifetime: Option<Duration>,
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
