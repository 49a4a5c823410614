//! Doors for proofs from outside this crate: a token judged, a client at the gate.
//!
//! What a fuzzer has to see of this room, and nobody else; present under the feature `check` alone.
//! A [`Door`] does to a frame what a connection does, up to where it would be served. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::{AnyRequest, AnyResponse, split_request};
use protocol::api_key::ApiKey;
use protocol::sasl::scram::Credential;
use protocol::sasl::{Hash, Mechanism};
use protocol::secret::Secret;
use protocol::time::{Now, Timestamp};

use super::gate::{BareVerdict, Gate, Verdict};
use super::jwt::{self, Expected, Keys};
use super::sasl::{Sasl, Tokens};

/// What a token must say to be believed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who must have issued it.
    pub issuer: String,
    /// For whom it must be.
    pub audience: String,
    /// How far the issuer's clock may be off.
    pub skew: Duration,
}

impl Wanted {
    fn expected(&self) -> Expected {
        Expected {
            audience: vec![self.audience.clone()],
            issuer: self.issuer.clone(),
            subject_claim: "sub".to_owned(),
            skew: self.skew,
        }
    }
}

/// Judges tokens by the keys of one issuer.
#[derive(Clone, Debug)]
pub struct Judge {
    keys: Arc<Keys>,
    expected: Expected,
}

impl Judge {
    /// One who knows the keys in `jwks`, a JSON Web Key Set. `None`: it holds none.
    #[must_use]
    pub fn new(jwks: &[u8], wanted: &Wanted) -> Option<Self> {
        let keys = Arc::new(Keys::parse(jwks).ok()?);
        Some(Self { keys, expected: wanted.expected() })
    }

    /// Whose `token` is, and until when it is valid. `None`: it is not believed.
    #[must_use]
    pub fn believes(&self, token: &str, now: Timestamp) -> Option<(String, Timestamp)> {
        let believed = jwt::verify(&Secret::new(token), &self.keys, &self.expected, now).ok()?;
        Some((believed.subject, believed.expires_at))
    }
}

/// Who may come in.
pub struct Guests(Arc<Sasl>);

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Guests {
    /// Names with their passwords for PLAIN, names with what is known of their passwords for SCRAM,
    /// and whoever brings a token that `judge` believes. Who came in must prove it anew after
    /// `max_reauth`; zero: never. The broker's nonce is always `nonce`.
    #[must_use]
    pub fn new(
        users: BTreeMap<String, Secret>,
        credentials: BTreeMap<String, (Hash, Credential)>,
        judge: Judge,
        max_reauth: Duration,
    ) -> Self {
        let credentials = move |hash, name: &str| {
            let known = credentials.get(name).filter(|(of, _)| *of == hash);
            known.map(|(_, credential)| credential.clone())
        };
        let Judge { keys, expected } = judge;
        Self(Arc::new(Sasl {
            mechanisms: Mechanism::ALL.into_iter().map(|it| (it, max_reauth)).collect(),
            users,
            credentials: Box::new(credentials),
            shapes: Box::new(Arc::default),
            tokens: Some(Tokens {
                keys: Box::new(move || Arc::clone(&keys)),
                miss: Box::new(|| ()),
                expected,
            }),
            decoy_key: Box::new(|| [7; 32]),
            request_bytes_max: 512 << 10,
            refusal_delay: Duration::ZERO,
            nonce: || "nonce".to_owned(),
        }))
    }
}

/// What became of a frame.
#[derive(Debug)]
pub enum Told {
    /// The request of this API would be served.
    Served(ApiKey),
    /// The gate answered.
    Answered(AnyResponse),
    /// The gate answered with these bytes alone.
    AnsweredBare(Bytes),
    /// The client is known from now on by this name. What the mechanism said last to it.
    Admitted(String),
    /// The connection ends.
    Closed,
}

/// The gate of one connection.
#[derive(Debug)]
pub struct Door {
    gate: Gate,
}

impl Door {
    /// A gate that is shut.
    #[must_use]
    pub fn new(guests: &Guests) -> Self {
        Self { gate: Gate::new(Arc::clone(&guests.0)) }
    }

    /// True when the next frame is a message of the mechanism without a header.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.gate.is_bare()
    }

    /// What becomes of `frame`, its length not counted. After [`Told::Closed`] nothing may follow.
    pub fn frame(&mut self, now: Now, frame: Bytes) -> Told {
        if self.gate.is_bare() {
            return match self.gate.step_bare(now, &frame) {
                BareVerdict::Answer(bytes) => Told::AnsweredBare(bytes),
                BareVerdict::Admit(_, name) => Told::Admitted(name),
                BareVerdict::Close(_) => Told::Closed,
            };
        }
        let frame_bytes = frame.len();
        let Ok((header, body)) = split_request(frame) else { return Told::Closed };
        let Some(api) = header.known() else { return Told::Closed };
        if self.gate.check(now, api, frame_bytes).is_err() {
            return Told::Closed;
        }
        let Ok(request) = AnyRequest::decode(api, header.api_version, body) else {
            return Told::Closed;
        };
        match self.gate.step(now, header.api_version, &request) {
            Verdict::Pass => Told::Served(api),
            Verdict::Answer(answer) => Told::Answered(answer),
            Verdict::Admit(_, name) => Told::Admitted(name),
            Verdict::Refuse(_, _) | Verdict::Close(_) => Told::Closed,
        }
    }
}
