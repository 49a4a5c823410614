//! The gate of a connection: nothing but ApiVersions passes before a client has proved itself, and
//! proved is who brought the right password, the right proof or a token that was signed.
//!
//! Input: a byte for how long a proof holds, then steps, each a byte with its argument. Frames go
//! in as they would come from a socket. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::auth::probe::{Door, Guests, Told};
use bytes::Bytes;
use protocol::api::metadata::MetadataRequest;
use protocol::api::sasl::{SaslAuthenticateRequest, SaslHandshakeRequest};
use protocol::api::versions::ApiVersionsRequest;
use protocol::api::{AnyRequest, AnyResponse, encode_request};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::frame::PREFIX_BYTES;
use protocol::sasl::{Hash, bearer};
use protocol::secret::Secret;
use protocol::time::{Now, Timestamp};
use serde_json::json;

use crate::input::{Input, short};
use crate::jwt::Issuer;
use crate::memory::in_proportion;
use crate::scram::{Known, PASSWORD, USER};

/// Steps that are taken, of one input.
const STEPS_MAX: usize = 24;
/// What clients ask for: each mechanism, and none.
const MECHANISMS: [&str; 5] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "NONE"];
/// The hash of this world's one credential.
const HASH: Hash = Hash::Sha256;

struct World {
    known: Known,
    token: String,
    forever: Guests,
    for_a_minute: Guests,
}

impl World {
    fn new() -> Self {
        let (known, issuer) = (Known::new(HASH), Issuer::new());
        let header = json!({"alg": "EdDSA"}).to_string();
        let claims = Issuer::claims(USER).to_string();
        let token = issuer.token(header.as_bytes(), claims.as_bytes());
        let guests = |seconds| {
            let users = [(USER.to_owned(), Secret::new(PASSWORD))];
            let credentials = [(USER.to_owned(), (HASH, known.credential.clone()))];
            Guests::new(
                BTreeMap::from(users),
                BTreeMap::from(credentials),
                issuer.judge.clone(),
                Duration::from_secs(seconds),
            )
        };
        let (forever, for_a_minute) = (guests(0), guests(60));
        Self { known, token, forever, for_a_minute }
    }
}

thread_local! {
    static WORLD: World = World::new();
}

/// What the client says, and so may be believed for.
enum Words {
    /// Whatever the fuzzer says.
    Any(Vec<u8>),
    /// What the mechanism wants, unchanged.
    Right(Vec<u8>),
}

/// One client.
struct Client<'a> {
    world: &'a World,
    door: Door,
    now: Now,
    /// The mechanism that was agreed on; `None` outside of an exchange.
    mechanism: Option<&'static str>,
    /// What it said first in this exchange, if it was right, and what it was told.
    first: Option<(String, String)>,
    is_admitted: bool,
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    WORLD.with(|world| {
        in_proportion(bytes.len(), 0, || {
            let mut input = Input::new(bytes);
            let guests = if input.byte() % 2 == 0 { &world.forever } else { &world.for_a_minute };
            let wall = Timestamp(1_800_000_000_000);
            let mut client = Client {
                world,
                door: Door::new(guests),
                now: Now { monotonic: Duration::from_secs(1), wall },
                mechanism: None,
                first: None,
                is_admitted: false,
            };
            for _ in 0..STEPS_MAX {
                if input.is_empty() || !client.step(&mut input) {
                    break;
                }
            }
        });
    });
}

fn frame(request: &AnyRequest, version: i16) -> Bytes {
    let frame = encode_request(request, version, 7, Some("c"));
    frame.expect("a small request").into_bytes().slice(PREFIX_BYTES..)
}

impl Client<'_> {
    /// Takes one step. False when the connection ended.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        match input.byte() % 8 {
            0 => {
                let mechanism: &'static str = *input.pick::<&'static str>(&MECHANISMS);
                self.shake_hands(mechanism, i16::from(input.byte() % 2))
            }
            1 => {
                let words = input.short().to_vec();
                self.say(Words::Any(words))
            }
            2 => {
                let Some(words) = self.right() else { return true };
                self.say(Words::Right(words))
            }
            3 => {
                let Some(mut words) = self.right().filter(|it| !it.is_empty()) else { return true };
                let (at, change) = (input.number() % words.len(), input.byte());
                words[at] ^= change;
                self.say(if change == 0 { Words::Right(words) } else { Words::Any(words) })
            }
            4 => {
                let version = i16::from(input.byte() % 5);
                self.ask(frame(&ApiVersionsRequest::default().into(), version))
            }
            5 => self.ask(frame(&MetadataRequest::default().into(), 12)),
            6 => {
                self.now.monotonic += Duration::from_secs(u64::from(input.byte()));
                true
            }
            _ => self.ask(Bytes::copy_from_slice(input.short())),
        }
    }

    fn shake_hands(&mut self, mechanism: &'static str, version: i16) -> bool {
        if self.door.is_bare() {
            return true;
        }
        let request = SaslHandshakeRequest { mechanism: mechanism.to_owned() };
        match self.door.frame(self.now, frame(&request.into(), version)) {
            Told::Answered(AnyResponse::SaslHandshake(answer)) => {
                if ErrorCode::from_wire(answer.error_code) == ErrorCode::None {
                    (self.mechanism, self.first) = (Some(mechanism), None);
                }
                true
            }
            Told::Closed => false,
            other => panic!("a handshake is answered: {other:?}"),
        }
    }

    /// What a client who knows everything would say next.
    fn right(&self) -> Option<Vec<u8>> {
        match self.mechanism? {
            "PLAIN" => Some(format!("\0{USER}\0{PASSWORD}").into_bytes()),
            "OAUTHBEARER" => Some(bearer::Claim::encode(&Secret::new(self.world.token.as_str()))),
            "SCRAM-SHA-256" => match &self.first {
                None => Some(format!("n,,n={USER},r=abc").into_bytes()),
                Some((first, challenge)) => {
                    self.world.known.last(first, challenge, "").map(String::into_bytes)
                }
            },
            _ => Some(format!("n,,n={USER},r=abc").into_bytes()),
        }
    }

    /// Says `words` to the mechanism.
    fn say(&mut self, words: Words) -> bool {
        let (bytes, is_right) = match words {
            Words::Any(bytes) => (bytes, false),
            Words::Right(bytes) => (bytes, true),
        };
        let is_bare = self.door.is_bare();
        let message = if is_bare {
            Bytes::from(bytes.clone())
        } else {
            let auth_bytes = Bytes::from(bytes.clone());
            frame(&SaslAuthenticateRequest { auth_bytes }.into(), 2)
        };
        let told = self.door.frame(self.now, message);
        let answer = match told {
            Told::Closed => {
                let is_due = self.mechanism == Some("PLAIN") && !self.is_admitted;
                assert!(!(is_right && is_due), "who knows the password is refused");
                return false;
            }
            Told::Admitted(name) => {
                self.check_admitted(&name, &bytes);
                return true;
            }
            Told::Answered(AnyResponse::SaslAuthenticate(answer)) => answer.auth_bytes,
            Told::AnsweredBare(bytes) => bytes,
            other => panic!("a message of the mechanism is answered: {other:?}"),
        };
        if let (Ok(first), Ok(challenge)) = (String::from_utf8(bytes), str::from_utf8(&answer))
            && challenge.starts_with("r=")
        {
            self.first = Some((first, challenge.to_owned()));
        }
        true
    }

    fn check_admitted(&mut self, name: &str, said: &[u8]) {
        assert_eq!(name, USER);
        let text = str::from_utf8(said).expect("what is believed is text");
        match self.mechanism.take().expect("an exchange was begun") {
            "PLAIN" => {
                let right = format!("\0{USER}\0{PASSWORD}");
                assert!(text == right || text == format!("{USER}{right}"), "{text:?}");
            }
            "SCRAM-SHA-256" => {
                let (first, challenge) = self.first.take().expect("it was challenged");
                let extension = text.split(",p=").next().and_then(|it| it.splitn(3, ',').nth(2));
                let extension = extension.map(|it| format!(",{it}")).unwrap_or_default();
                let right = self.world.known.last(&first, &challenge, &extension);
                assert_eq!(Some(text), right.as_deref());
            }
            "OAUTHBEARER" => assert!(text.contains(&self.world.token)),
            other => panic!("{other} has no users"),
        }
        self.is_admitted = true;
    }

    /// Asks for anything at all.
    fn ask(&mut self, frame: Bytes) -> bool {
        let is_bare = self.door.is_bare();
        match self.door.frame(self.now, frame.clone()) {
            Told::Served(ApiKey::ApiVersions) => true,
            Told::Served(api) => {
                assert!(self.is_admitted, "{api} is served before its client is known");
                true
            }
            Told::Admitted(name) => {
                // A frame of the fuzzer's own making: what it said is in it.
                let said = if is_bare { &frame[..] } else { &[] };
                assert_eq!(name, USER);
                assert!(is_bare || contains_secret(&frame, self.world), "{said:?}");
                (self.is_admitted, self.mechanism, self.first) = (true, None, None);
                true
            }
            Told::Answered(_) | Told::AnsweredBare(_) => {
                // It may have begun an exchange, or ended one.
                self.mechanism = None;
                true
            }
            Told::Closed => false,
        }
    }
}

fn contains_secret(frame: &[u8], world: &World) -> bool {
    let has = |what: &str| frame.windows(what.len()).any(|it| it == what.as_bytes());
    has(PASSWORD) || has(&world.token) || has(",p=")
}

/// Whole sessions by each mechanism, with and without headers, and what must not pass.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for lifetime in [0, 1] {
        for mechanism in 0..5 {
            for version in [0, 1] {
                let open = [lifetime, 4, 3, 0, mechanism, version, 2, 2, 5];
                seeds.push(open.to_vec());
                seeds.push([&open[..], &[6, 59, 5, 0, mechanism, 1, 2, 2, 5, 6, 61, 5]].concat());
                seeds.push(vec![lifetime, 0, mechanism, version, 3, 0, 9, 1, 5]);
                let other =
                    [&[lifetime, 0, mechanism, version, 1][..], &short(b"\0bob\0x")].concat();
                seeds.push(other);
            }
        }
    }
    seeds.push(vec![0, 5]);
    let auth_bytes = Bytes::from_static(b"\0alice\0pencil");
    let request = frame(&SaslAuthenticateRequest { auth_bytes }.into(), 2);
    seeds.push([&[0, 0, 0, 1, 7][..], &short(&request), &[5]].concat());
    seeds
}
