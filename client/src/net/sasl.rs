//! Who a client says it is, and how it proves it.
//!
//! [`Credentials`] are a name and a password, or whatever brings a token. Tokens come from a closure,
//! a file, or an endpoint over HTTPS; they are asked for at each connection, as they expire. What is
//! secret in them is not printed. Shell.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::rand::fill;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use protocol::sasl::{Hash, Mechanism, SaslError, bearer, plain, scram};
use protocol::secret::Secret;

use super::https::Https;

/// 1 MiB: the longest answer of who issues tokens.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Brings a token that is valid now.
#[async_trait::async_trait]
pub trait TokenProvider: Send + Sync {
    /// The token.
    ///
    /// # Errors
    /// When there is none; all of it may be retried.
    async fn token(&self) -> io::Result<Secret>;
}

/// Who we are.
#[derive(Clone)]
pub enum Credentials {
    /// By a name and its password, sent in clear: over TLS alone, or a network that is trusted.
    Plain {
        /// The name.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// By a name, and by knowing its password, which is not sent.
    Scram {
        /// Which mechanism.
        hash: Hash,
        /// The name.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// By a token.
    Bearer(Arc<dyn TokenProvider>),
}

impl Credentials {
    /// By the token that `bring` makes, each time that one is needed.
    pub fn bearer<F, T>(bring: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = io::Result<Secret>> + Send + 'static,
    {
        Self::Bearer(Arc::new(Brought(move || -> Bringing { Box::pin(bring()) })))
    }

    /// By which mechanism.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain { .. } => Mechanism::Plain,
            Self::Scram { hash, .. } => Mechanism::Scram(*hash),
            Self::Bearer(_) => Mechanism::OAuthBearer,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { username, .. } | Self::Scram { username, .. } => {
                write!(f, "{} {username}", self.mechanism())
            }
            Self::Bearer(_) => write!(f, "{}", self.mechanism()),
        }
    }
}

type Bringing = std::pin::Pin<Box<dyn Future<Output = io::Result<Secret>> + Send>>;

/// A closure that brings tokens.
struct Brought<F>(F);

#[async_trait::async_trait]
impl<F: Fn() -> Bringing + Send + Sync> TokenProvider for Brought<F> {
    async fn token(&self) -> io::Result<Secret> {
        (self.0)().await
    }
}

/// A file that holds a token and nothing else, read at each connection.
#[derive(Clone, Debug)]
pub struct TokenFile(pub PathBuf);

#[async_trait::async_trait]
impl TokenProvider for TokenFile {
    async fn token(&self) -> io::Result<Secret> {
        let text = std::fs::read_to_string(&self.0).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.0.display()))
        })?;
        Ok(Secret::new(text.trim()))
    }
}

/// An endpoint that gives tokens for a client's own credentials (RFC 6749, section 4.4).
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    /// Where it is; `https` alone.
    pub url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// What the token is to be for, if the issuer wants to know.
    pub scope: Option<String>,
    /// How it is asked.
    pub https: Https,
}

#[async_trait::async_trait]
impl TokenProvider for TokenEndpoint {
    async fn token(&self) -> io::Result<Secret> {
        let (id, secret) = (coded(&self.client_id), coded(self.client_secret.expose()));
        let basic = BASE64_STANDARD.encode(format!("{id}:{secret}"));
        let scope = self.scope.as_ref().map(|it| format!("&scope={}", coded(it)));
        let form = format!("grant_type=client_credentials{}", scope.unwrap_or_default());
        let authorization = Secret::new(format!("Basic {basic}"));
        let (url, form) = (&self.url, Secret::new(form));
        let answer = self.https.post_form(url, &authorization, &form, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|error| io::Error::other(format!("{url}: {error}")))?;
        let answer: Option<serde_json::Value> = serde_json::from_slice(&answer).ok();
        let token = answer.as_ref().and_then(|it| it.get("access_token")?.as_str());
        let token = token.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{url}: there is no access_token"))
        })?;
        Ok(Secret::new(token))
    }
}

/// A text as forms write it.
fn coded(text: &str) -> String {
    let mut coded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                coded.push(char::from(byte));
            }
            other => coded.push_str(&format!("%{other:02X}")),
        }
    }
    coded
}

/// One exchange with a broker, from our side.
pub(super) enum Exchange {
    /// For an answer, whatever it says.
    Plain {
        first: Vec<u8>,
    },
    Scram(Box<scram::Client>),
    /// For an answer that says nothing.
    Bearer {
        first: Vec<u8>,
    },
}

impl Exchange {
    pub(super) async fn new(credentials: &Credentials) -> io::Result<Self> {
        match credentials {
            Credentials::Plain { username, password } => {
                let (username, password) = (username.clone(), password.clone());
                Ok(Self::Plain { first: plain::Claim { username, password }.encode() })
            }
            Credentials::Scram { hash, username, password } => {
                let client = scram::Client::new(*hash, username, password.clone(), nonce());
                Ok(Self::Scram(Box::new(client)))
            }
            Credentials::Bearer(provider) => {
                Ok(Self::Bearer { first: bearer::Claim::encode(&provider.token().await?) })
            }
        }
    }

    /// What to say first.
    pub(super) fn first(&self) -> Vec<u8> {
        match self {
            Self::Plain { first } | Self::Bearer { first } => first.clone(),
            Self::Scram(client) => client.first(),
        }
    }

    /// What to say next. `None`: nothing, it is done.
    pub(super) fn step(&mut self, answer: &[u8]) -> Result<Option<Vec<u8>>, SaslError> {
        match self {
            Self::Plain { .. } => Ok(None),
            Self::Scram(client) => client.step(answer),
            Self::Bearer { .. } if answer.is_empty() => Ok(None),
            // The broker says why, and waits for us to give up; then it refuses.
            Self::Bearer { .. } => Ok(Some(bearer::GIVEN_UP.to_vec())),
        }
    }
}

/// 144 bits that nobody foresees.
fn nonce() -> String {
    let mut bytes = [0; 18];
    // Not from the client's seed: whoever knows that must still not know this.
    fill(&mut bytes).expect("the operating system offers chance");
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_come_from_closures_and_files_and_are_not_printed() {
        let closure = Credentials::bearer(|| async { Ok(Secret::new("canary")) });
        let Credentials::Bearer(provider) = &closure else { panic!() };
        assert_eq!(provider.token().await.unwrap().expose(), "canary");
        let missing = TokenFile("/nowhere/token".into()).token().await.unwrap_err();
        assert!(missing.to_string().contains("/nowhere/token"));
        let (username, password) = ("alice".to_owned(), Secret::new("canary"));
        let plain = Credentials::Plain { username, password };
        assert_eq!(format!("{closure:?}, {plain:?}"), "OAUTHBEARER, PLAIN alice");
    }

    #[test]
    fn what_goes_into_a_form_is_coded() {
        assert_eq!(coded("a b&c=ä~"), "a%20b%26c%3D%C3%A4~");
    }
}
