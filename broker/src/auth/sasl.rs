//! What a listener knows of those who may authenticate there, and one exchange with one of them.
//!
//! Names and passwords of PLAIN come with the settings, credentials of SCRAM with the metadata,
//! keys for tokens from their issuer. What a client is told when it is refused does not say which
//! part of it was wrong; the log does, without the part. KIP-43, KIP-84, KIP-255, KIP-368. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::sasl::scram::{Answer, Credential};
use protocol::sasl::{Hash, Mechanism, SaslError, bearer, plain, scram};
use protocol::secret::Secret;
use protocol::time::Timestamp;

use super::decoys::Shapes;
use super::jwt::{self, Expected, Keys, TokenError};

/// Looks up the credential of a name.
pub(crate) type Credentials = Box<dyn Fn(Hash, &str) -> Option<Credential> + Send + Sync>;
/// What all credentials look like, as they are now.
pub(crate) type ShapesNow = Box<dyn Fn() -> Arc<Shapes> + Send + Sync>;
/// The secret from which follows what names that do not exist are challenged with.
pub(crate) type DecoyKey = Box<dyn Fn() -> [u8; 32] + Send + Sync>;
/// The keys of the issuer of tokens, as they are now.
pub(crate) type IssuerKeys = Box<dyn Fn() -> Arc<Keys> + Send + Sync>;

/// What one listener knows of those who may authenticate.
pub(crate) struct Sasl {
    /// The mechanisms that it offers, and after which time each must be gone through anew; zero:
    /// never.
    pub(crate) mechanisms: BTreeMap<Mechanism, Duration>,
    /// The users of PLAIN.
    pub(crate) users: BTreeMap<String, Secret>,
    /// The users of SCRAM.
    pub(crate) credentials: Credentials,
    /// What names that do not exist take after.
    pub(crate) shapes: ShapesNow,
    /// How tokens are judged. `None`: they are not offered.
    pub(crate) tokens: Option<Tokens>,
    /// A secret that outlives this process, for answers to names that do not exist.
    pub(crate) decoy_key: DecoyKey,
    /// How large requests may be before their client has authenticated.
    pub(crate) request_bytes_max: usize,
    /// How long a refusal waits.
    pub(crate) refusal_delay: Duration,
    /// Nonces, none of them twice.
    pub(crate) nonce: fn() -> String,
}

/// How tokens are judged.
pub(crate) struct Tokens {
    pub(crate) keys: IssuerKeys,
    /// Hears of tokens whose keys are not there: they may have been made since.
    pub(crate) miss: Box<dyn Fn() + Send + Sync>,
    pub(crate) expected: Expected,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl").field("mechanisms", &self.mechanisms).finish_non_exhaustive()
    }
}

/// Why somebody is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error(transparent)]
    Sasl(#[from] SaslError),
    #[error("OAUTHBEARER: {0}")]
    Token(#[from] TokenError),
}

/// One exchange of messages by one mechanism.
#[derive(Debug)]
pub(crate) struct Exchange {
    mechanism: Mechanism,
    state: State,
    /// The name that the client gave.
    claimed: Option<String>,
}

#[derive(Debug)]
enum State {
    Plain,
    Scram {
        server: scram::Server,
        /// False when there is no such name: whatever the proof, it is refused.
        is_known: bool,
    },
    Bearer,
    /// A token was refused: its client has one more message to say so.
    BearerRefused(AuthError),
}

/// What is said next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is to be proved.
    Challenge(Vec<u8>),
    /// It is proved.
    Proved {
        /// Who it is.
        name: String,
        /// The last message to it.
        message: Vec<u8>,
        /// For how long it may stay so. `None`: for ever.
        lifetime: Option<Duration>,
    },
}

impl Exchange {
    /// Begins one.
    pub(crate) fn new(mechanism: Mechanism, sasl: &Sasl) -> Self {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Scram(hash) => {
                let server = scram::Server::new(hash, (sasl.nonce)());
                State::Scram { server, is_known: false }
            }
            Mechanism::OAuthBearer => State::Bearer,
        };
        Self { mechanism, state, claimed: None }
    }

    /// By which mechanism.
    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Why it is over, where its client has one more message to send before it is told. `None`: it is
    /// not over.
    pub(crate) fn refused(&self) -> Option<&AuthError> {
        match &self.state {
            State::BearerRefused(error) => Some(error),
            State::Plain | State::Scram { .. } | State::Bearer => None,
        }
    }

    /// The name that the client gave, whether it is true or not. `None`: none, or none in clear.
    pub(crate) fn claimed(self) -> Option<String> {
        self.claimed
    }

    /// Takes the client's next message.
    ///
    /// # Errors
    /// When it is not believed. The exchange is then over.
    pub(crate) fn step(
        &mut self,
        sasl: &Sasl,
        now: Timestamp,
        message: &[u8],
    ) -> Result<Step, AuthError> {
        let max = sasl.mechanisms.get(&self.mechanism).copied().unwrap_or_default();
        let lifetime = (max > Duration::ZERO).then_some(max);
        match &mut self.state {
            State::Plain => {
                let claim = plain::Claim::decode(message)?;
                self.claimed = Some(claim.username.clone());
                // Somebody who does not exist takes as long as somebody who does.
                let known = sasl.users.get(&claim.username);
                let is_equal = *known.unwrap_or(&claim.password) == claim.password;
                if known.is_none() || !is_equal {
                    return Err(SaslError::Credentials("PLAIN").into());
                }
                Ok(Step::Proved { name: claim.username, message: Vec::new(), lifetime })
            }
            State::Scram { server, is_known } => {
                let hash = server.hash();
                let claimed = &mut self.claimed;
                let decoy_key = (sasl.decoy_key)();
                let look_up = |name: &str| {
                    *claimed = Some(name.to_owned());
                    // Made for each: a name that does not exist must not take longer.
                    let decoy = (sasl.shapes)().decoy(hash, name, &decoy_key);
                    let known = (sasl.credentials)(hash, name);
                    *is_known = known.is_some();
                    Some(known.unwrap_or(decoy))
                };
                match server.step(message, look_up, &decoy_key)? {
                    Answer::Challenge(challenge) => Ok(Step::Challenge(challenge)),
                    Answer::Proof { .. } if !*is_known => {
                        Err(SaslError::Credentials(hash.mechanism()).into())
                    }
                    Answer::Proof { username: name, message } => {
                        Ok(Step::Proved { name, message, lifetime })
                    }
                }
            }
            State::Bearer => match believe(sasl, now, message) {
                Ok((name, left)) => {
                    let lifetime = Some(lifetime.map_or(left, |lifetime| lifetime.min(left)));
                    Ok(Step::Proved { name, message: Vec::new(), lifetime })
                }
                Err(error @ AuthError::Token(_)) => {
                    self.state = State::BearerRefused(error);
                    Ok(Step::Challenge(bearer::INVALID_TOKEN.to_vec()))
                }
                Err(error) => Err(error),
            },
            State::BearerRefused(error) => Err(error.clone()),
        }
    }
}

/// Whose token it is, and for how long it will be valid.
fn believe(sasl: &Sasl, now: Timestamp, message: &[u8]) -> Result<(String, Duration), AuthError> {
    let claim = bearer::Claim::decode(message)?;
    let Some(tokens) = &sasl.tokens else {
        return Err(TokenError::Signature.into());
    };
    let believed = jwt::verify(&claim.token, &(tokens.keys)(), &tokens.expected, now);
    if believed == Err(TokenError::NoKey) {
        (tokens.miss)();
    }
    let believed = believed?;
    claim.check(&believed.subject)?;
    let left = u64::try_from(believed.expires_at.0.saturating_sub(now.0)).unwrap_or(0);
    // Where the clocks differ a token may count that has just expired: for a moment.
    Ok((believed.subject, Duration::from_millis(left.max(1))))
}
