//! SASL SCRAM, both sides: to prove that one knows a password without sending it.
//!
//! The broker keeps of a password only what lets it verify a proof ([`Credential`]): who steals
//! that can pretend to be the broker, not the user. Salts and nonces are the caller's, who has
//! chance to offer. A name without a credential is answered as if it had one, so that asking does
//! not tell which names exist.
//!
//! | side | waits for | then |
//! |---|---|---|
//! | client | the challenge | proves itself |
//! | client | the broker's proof | is done |
//! | broker | the name and a nonce | challenges |
//! | broker | the proof | is done, or refuses |
//!
//! RFC 5802, RFC 7677, KIP-84, KIP-554. Pure.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{SaslError, check_authzid};
use crate::secret::{Secret, are_equal};

/// Fewer iterations make a stolen credential too easy to try passwords on. RFC 5802.
pub const ITERATIONS_MIN: u32 = 4096;
/// More iterations are refused where credentials are made, as in Kafka.
pub const ITERATIONS_MAX: u32 = 16_384;
/// 2^20: the most iterations that a client does because a broker says so: half a second of work.
const ITERATIONS_ASKED_MAX: u32 = 1 << 20;
/// The longest salt, and the longest nonce, of a peer.
const SALT_BYTES_MAX: usize = 1024;

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The name of the mechanism that uses it.
    #[must_use]
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism's number in requests and in the metadata log. KIP-554.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The hash of the mechanism of this number. `None`: there is none.
    #[must_use]
    pub fn from_wire(number: i8) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|hash| hash.to_wire() == number)
    }

    /// Of what it yields.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.digest().output_len()
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn sum(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.digest(), data).as_ref().to_vec()
    }

    fn sign(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    /// The password as it is salted; as slow as `iterations` make it.
    fn salted(self, password: &Secret, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.bytes()];
        pbkdf2::derive(algorithm, iterations, salt, password.expose().as_bytes(), &mut salted);
        salted
    }
}

/// What a broker knows of a password: enough to verify who knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// What the password was salted with.
    pub salt: Vec<u8>,
    /// The hash of the key that a client proves to have.
    pub stored_key: Vec<u8>,
    /// The key by which the broker proves itself.
    pub server_key: Vec<u8>,
    /// How often it was hashed.
    pub iterations: u32,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credential {
    /// Of a password; as slow as `iterations` make it. 0 counts as 1.
    #[must_use]
    pub fn of(hash: Hash, password: &Secret, salt: &[u8], iterations: u32) -> Self {
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        Self::of_salted(hash, &hash.salted(password, salt, rounds), salt, iterations)
    }

    /// Of a password that was salted already, `iterations` times.
    #[must_use]
    pub fn of_salted(hash: Hash, salted: &[u8], salt: &[u8], iterations: u32) -> Self {
        let client_key = hash.sign(salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            stored_key: hash.sum(&client_key),
            server_key: hash.sign(salted, b"Server Key"),
            iterations,
        }
    }

    /// That of a name which has none: nothing proves it, but it looks like one. The same name has
    /// the same salt for as long as `key` stays the same, as it would have if it existed.
    #[must_use]
    pub fn decoy(hash: Hash, name: &str, key: &[u8]) -> Self {
        let mut salt = Hash::Sha256.sign(key, format!("salt {name}").as_bytes());
        salt.truncate(24);
        Self {
            salt,
            stored_key: hash.sign(key, format!("stored {name}").as_bytes()),
            server_key: hash.sign(key, format!("server {name}").as_bytes()),
            iterations: ITERATIONS_MIN,
        }
    }
}

/// The broker's side of one exchange.
#[derive(Debug)]
pub struct Server {
    hash: Hash,
    state: ServerState,
}

#[derive(Debug)]
enum ServerState {
    /// For the name.
    Waiting { nonce: String },
    /// For the proof of who was challenged.
    Challenged(Box<Challenged>),
    /// For nothing: it is over.
    Over,
}

#[derive(Debug)]
struct Challenged {
    username: String,
    credential: Credential,
    /// False when there is none: whatever the proof, it is refused.
    is_known: bool,
    /// What the client said of channels, in base64: it must say the same again.
    channel: String,
    /// Both nonces.
    nonce: String,
    /// What both have said, to be signed.
    said: String,
}

/// What the broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The challenge.
    Challenge(Vec<u8>),
    /// Its own proof: the client is who it says.
    Proof {
        /// Who that is.
        username: String,
        /// What to tell it.
        message: Vec<u8>,
    },
}

impl Server {
    /// Waits for a client. `nonce` must never have been used, and no one may foresee it; printable
    /// characters without a comma.
    #[must_use]
    pub fn new(hash: Hash, nonce: String) -> Self {
        Self { hash, state: ServerState::Waiting { nonce } }
    }

    /// By which hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Takes the client's next message. `look_up` yields what is known of a name's password;
    /// `decoy_key` is a secret of this process.
    ///
    /// # Errors
    /// When the message makes no sense or the proof is wrong. The exchange is then over.
    pub fn step(
        &mut self,
        message: &[u8],
        look_up: impl FnOnce(&str) -> Option<Credential>,
        decoy_key: &[u8],
    ) -> Result<Answer, SaslError> {
        match std::mem::replace(&mut self.state, ServerState::Over) {
            ServerState::Waiting { nonce } => self.challenge(message, &nonce, look_up, decoy_key),
            ServerState::Challenged(challenged) => self.verify(message, *challenged),
            ServerState::Over => Err(self.malformed("the exchange is over")),
        }
    }

    fn challenge(
        &mut self,
        message: &[u8],
        own_nonce: &str,
        look_up: impl FnOnce(&str) -> Option<Credential>,
        decoy_key: &[u8],
    ) -> Result<Answer, SaslError> {
        let hash = self.hash;
        let first = ClientFirst::parse(hash.mechanism(), message)?;
        let found = look_up(&first.username);
        let is_known = found.is_some();
        let decoy = || Credential::decoy(hash, &first.username, decoy_key);
        let credential = found.unwrap_or_else(decoy);
        let nonce = format!("{}{own_nonce}", first.nonce);
        let salt = BASE64_STANDARD.encode(&credential.salt);
        let challenge = format!("r={nonce},s={salt},i={}", credential.iterations);
        let said = format!("{},{challenge}", first.bare);
        let channel = BASE64_STANDARD.encode(first.header);
        let username = first.username;
        let challenged = Challenged { username, credential, is_known, channel, nonce, said };
        self.state = ServerState::Challenged(Box::new(challenged));
        Ok(Answer::Challenge(challenge.into_bytes()))
    }

    fn verify(&self, message: &[u8], challenged: Challenged) -> Result<Answer, SaslError> {
        let Challenged { username, credential, is_known, channel, nonce, said } = challenged;
        let hash = self.hash;
        let text = text(hash.mechanism(), message)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or_else(|| self.malformed("there is no proof"))?;
        let mut attributes = without_proof.split(',');
        if attributes.next().and_then(|it| it.strip_prefix("c=")) != Some(channel.as_str()) {
            return Err(self.malformed("the channel is not the one said before"));
        }
        // A proof for another challenge must not do for this one (CVE-2024-56128).
        if attributes.next().and_then(|it| it.strip_prefix("r=")) != Some(nonce.as_str()) {
            return Err(self.malformed("the nonce is not the one given"));
        }
        check_extensions(hash.mechanism(), attributes)?;
        let proof = BASE64_STANDARD.decode(proof);
        let proof = proof.map_err(|_| self.malformed("the proof is not base64"))?;
        if proof.len() != hash.bytes() {
            return Err(self.malformed("the proof is of another length"));
        }
        let said = format!("{said},{without_proof}");
        let signature = hash.sign(&credential.stored_key, said.as_bytes());
        let client_key = xor(&proof, &signature);
        let is_proved = are_equal(&hash.sum(&client_key), &credential.stored_key);
        if !is_proved || !is_known {
            return Err(SaslError::Credentials(hash.mechanism()));
        }
        let own = BASE64_STANDARD.encode(hash.sign(&credential.server_key, said.as_bytes()));
        Ok(Answer::Proof { username, message: format!("v={own}").into_bytes() })
    }

    fn malformed(&self, reason: &'static str) -> SaslError {
        SaslError::malformed(self.hash.mechanism(), reason)
    }
}

/// The client's first message, taken apart.
struct ClientFirst<'a> {
    /// All before the name: which channel is bound to, and for whom it acts.
    header: &'a str,
    /// The rest.
    bare: &'a str,
    username: String,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(mechanism: &'static str, message: &'a [u8]) -> Result<Self, SaslError> {
        let malformed = |reason| SaslError::malformed(mechanism, reason);
        let text = text(mechanism, message)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("expected a header and a name"));
        };
        if !matches!(binding, "n" | "y") {
            return Err(malformed("binding to a channel is not offered"));
        }
        let mut attributes = bare.split(',');
        let name = attributes.next().and_then(|it| it.strip_prefix("n="));
        let name = name.ok_or_else(|| malformed("expected a name"))?;
        let username = unescaped(name).ok_or_else(|| malformed("the name has a wrong escape"))?;
        if username.is_empty() {
            return Err(malformed("the name is empty"));
        }
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce));
        let nonce = nonce.ok_or_else(|| malformed("expected a nonce"))?;
        check_extensions(mechanism, attributes)?;
        let authzid = match authzid {
            "" => String::new(),
            text => text
                .strip_prefix("a=")
                .and_then(unescaped)
                .ok_or_else(|| malformed("expected an identity"))?,
        };
        check_authzid(mechanism, &authzid, &username)?;
        let header = &text[..text.len() - bare.len()];
        Ok(Self { header, bare, username, nonce })
    }
}

/// The client's side of one exchange.
#[derive(Debug)]
pub struct Client {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// What was said so far, to be signed.
    said: String,
    state: ClientState,
}

#[derive(Debug)]
enum ClientState {
    /// For the challenge.
    Waiting,
    /// For the broker's own proof.
    Proved { expected: Vec<u8> },
    /// For nothing: it is over.
    Over,
}

impl Client {
    /// Who knows `password`. `nonce` must never have been used; printable characters without a
    /// comma.
    #[must_use]
    pub fn new(hash: Hash, username: &str, password: Secret, nonce: String) -> Self {
        let said = format!("n={},r={nonce}", escaped(username));
        Self { hash, password, nonce, said, state: ClientState::Waiting }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.said).into_bytes()
    }

    /// Takes the broker's next message. What to answer; `None`: it is done, and both are proved.
    ///
    /// # Errors
    /// When the message makes no sense, the broker refuses, or cannot prove itself.
    pub fn step(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, SaslError> {
        match std::mem::replace(&mut self.state, ClientState::Over) {
            ClientState::Waiting => self.prove(message).map(Some),
            ClientState::Proved { expected } => self.finish(message, &expected).map(|()| None),
            ClientState::Over => Err(self.malformed("the exchange is over")),
        }
    }

    fn prove(&mut self, message: &[u8]) -> Result<Vec<u8>, SaslError> {
        let hash = self.hash;
        let text = text(hash.mechanism(), message)?;
        self.check_error(text)?;
        let mut attributes = text.split(',');
        let mut take = |prefix| attributes.next().and_then(|it| it.strip_prefix(prefix));
        let (Some(nonce), Some(salt), Some(iterations)) = (take("r="), take("s="), take("i="))
        else {
            return Err(self.malformed("expected a nonce, a salt and a number of iterations"));
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || !is_nonce(nonce) {
            return Err(self.malformed("the nonce is not ours with more to it"));
        }
        let salt = BASE64_STANDARD.decode(salt).ok();
        let salt = salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        let salt = salt.ok_or_else(|| self.malformed("the salt is no salt"))?;
        let range = ITERATIONS_MIN..=ITERATIONS_ASKED_MAX;
        let iterations = iterations.parse().ok().filter(|count| range.contains(count));
        let iterations = iterations.and_then(NonZeroU32::new);
        let iterations = iterations.ok_or_else(|| self.malformed("too few or many iterations"))?;
        check_extensions(hash.mechanism(), attributes)?;
        let salted = hash.salted(&self.password, &salt, iterations);
        // "n,,": no channel is bound to.
        let last = format!("c=biws,r={nonce}");
        let said = format!("{},{text},{last}", self.said);
        let client_key = hash.sign(&salted, b"Client Key");
        let signature = hash.sign(&hash.sum(&client_key), said.as_bytes());
        let proof = BASE64_STANDARD.encode(xor(&client_key, &signature));
        let server_key = hash.sign(&salted, b"Server Key");
        let expected = hash.sign(&server_key, said.as_bytes());
        self.state = ClientState::Proved { expected };
        Ok(format!("{last},p={proof}").into_bytes())
    }

    fn finish(&self, message: &[u8], expected: &[u8]) -> Result<(), SaslError> {
        let text = text(self.hash.mechanism(), message)?;
        self.check_error(text)?;
        let proof = text.strip_prefix("v=").map(|it| it.split(',').next().unwrap_or_default());
        let proof = proof.and_then(|it| BASE64_STANDARD.decode(it).ok());
        let proof = proof.ok_or_else(|| self.malformed("the broker brings no proof"))?;
        if are_equal(&proof, expected) {
            Ok(())
        } else {
            Err(SaslError::Impostor(self.hash.mechanism()))
        }
    }

    fn check_error(&self, text: &str) -> Result<(), SaslError> {
        let Some(reason) = text.strip_prefix("e=") else { return Ok(()) };
        let reason = reason.split(',').next().unwrap_or_default().to_owned();
        Err(SaslError::Refused { mechanism: self.hash.mechanism(), reason })
    }

    fn malformed(&self, reason: &'static str) -> SaslError {
        SaslError::malformed(self.hash.mechanism(), reason)
    }
}

fn text<'a>(mechanism: &'static str, message: &'a [u8]) -> Result<&'a str, SaslError> {
    let text = str::from_utf8(message);
    text.map_err(|_| SaslError::malformed(mechanism, "the message is not UTF-8"))
}

/// Extensions may be passed over, except those that say that they must not.
fn check_extensions<'a>(
    mechanism: &'static str,
    attributes: impl Iterator<Item = &'a str>,
) -> Result<(), SaslError> {
    for attribute in attributes {
        let mut chars = attribute.chars();
        let is_named = chars.next().is_some_and(|it| it.is_ascii_alphabetic());
        if attribute.starts_with("m=") {
            return Err(SaslError::malformed(mechanism, "an extension is not known"));
        }
        // Delegation tokens (`tokenauth`) would prove another credential than this one.
        if attribute.starts_with("tokenauth=") {
            return Err(SaslError::malformed(mechanism, "delegation tokens are not offered"));
        }
        if !is_named || !attribute.contains('=') {
            return Err(SaslError::malformed(mechanism, "an extension has no name"));
        }
    }
    Ok(())
}

fn is_nonce(text: &str) -> bool {
    (1..=SALT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|it| matches!(it, 0x21..=0x7e) && it != b',')
}

fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// `None`: an equals sign that begins no escape.
fn unescaped(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix("2C") {
            plain.push(',');
            rest = after;
        } else {
            plain.push('=');
            rest = after.strip_prefix("3D")?;
        }
    }
    plain.push_str(rest);
    Some(plain)
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
