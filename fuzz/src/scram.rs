//! SCRAM and the other words of SASL: nothing but the right proof for this very exchange
//! authenticates, and whatever else is said is refused without a stumble.
//!
//! The right proof is computed here, by the RFC and apart from the code under test. Input: a byte for
//! the hash, one of switches, then what the client says first (or its nonce), what it says last (or
//! an extension), and changes to that. Pure.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use protocol::sasl::jaas::Jaas;
use protocol::sasl::scram::{Answer, Client, Credential, Server};
use protocol::sasl::{Hash, bearer, plain};
use protocol::secret::Secret;

use crate::input::{Input, short};
use crate::memory::in_proportion;

/// The one user.
pub(crate) const USER: &str = "alice";
/// The one user's password.
pub(crate) const PASSWORD: &str = "pencil";
const SALT: &[u8] = b"salt of alice";
const ITERATIONS: u32 = 4096;
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// The first message is made of the user's name and a nonce.
const MAKE_FIRST: u8 = 1;
/// The last message is the right one, with an extension and changes.
const MAKE_LAST: u8 = 2;
/// Let the client's side have the bytes, too.
const ASK_CLIENT: u8 = 4;

/// All that follows from the password.
pub(crate) struct Known {
    hash: Hash,
    client_key: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    pub(crate) credential: Credential,
}

impl Known {
    /// By `hash`. Slow: once per process.
    pub(crate) fn new(hash: Hash) -> Self {
        let algorithm = match hash {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; hash.bytes()];
        let iterations = NonZeroU32::new(ITERATIONS).expect("not zero");
        pbkdf2::derive(algorithm, iterations, SALT, PASSWORD.as_bytes(), &mut salted);
        let client_key = sign(hash, &salted, b"Client Key");
        let stored_key = match hash {
            Hash::Sha256 => digest::digest(&digest::SHA256, &client_key).as_ref().to_vec(),
            Hash::Sha512 => digest::digest(&digest::SHA512, &client_key).as_ref().to_vec(),
        };
        let server_key = sign(hash, &salted, b"Server Key");
        let credential = Credential::of(hash, &Secret::new(PASSWORD), SALT, ITERATIONS);
        assert_eq!(credential.stored_key, stored_key);
        assert_eq!(credential.server_key, server_key);
        Self { hash, client_key, stored_key, server_key, credential }
    }

    /// What proves to know the password, after this was said.
    fn proof(&self, said: &str) -> Vec<u8> {
        let signature = sign(self.hash, &self.stored_key, said.as_bytes());
        self.client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect()
    }

    /// The right last message to `challenge` after `first`, with `extension` in it.
    pub(crate) fn last(&self, first: &str, challenge: &str, extension: &str) -> Option<String> {
        let bare = first.splitn(3, ',').nth(2)?;
        let channel = BASE64_STANDARD.encode(&first[..first.len() - bare.len()]);
        let nonce = challenge.split(',').next()?;
        let unproved = format!("c={channel},{nonce}{extension}");
        let proof = BASE64_STANDARD.encode(self.proof(&format!("{bare},{challenge},{unproved}")));
        Some(format!("{unproved},p={proof}"))
    }
}

fn sign(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
}

thread_local! {
    static KNOWN: [Known; 2] = [Known::new(Hash::Sha256), Known::new(Hash::Sha512)];
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    KNOWN.with(|known| {
        let mut input = Input::new(bytes);
        let known = input.pick(known);
        let switches = input.byte();
        in_proportion(bytes.len(), 0, || {
            check_words(input.rest());
            exchange(known, switches, input);
        });
        // A client that is asked to hashes as often as it is told, so it is seldom asked.
        if switches & ASK_CLIENT != 0 && crc_fast::crc32_iscsi(bytes) % 64 == 0 {
            ask_client(known.hash, input);
        }
    });
}

fn exchange(known: &Known, switches: u8, mut input: Input<'_>) {
    let said = input.short();
    let first =
        if switches & MAKE_FIRST != 0 { [b"n,,n=alice,r=", said].concat() } else { said.to_vec() };
    let mut server = Server::new(known.hash, SERVER_NONCE.to_owned());
    let look_up = |name: &str| (name == USER).then(|| known.credential.clone());
    let Ok(answer) = server.step(&first, look_up, b"decoy") else {
        assert!(server.step(&first, |_| panic!("it is over"), b"").is_err());
        return;
    };
    let Answer::Challenge(challenge) = answer else { panic!("nothing was proved yet") };
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let first = String::from_utf8(first).expect("what is not text is refused");
    let said = input.short();
    let (last, is_right) = if switches & MAKE_LAST != 0 {
        let extension = String::from_utf8_lossy(said);
        let right = known.last(&first, &challenge, &extension);
        let right = right.expect("a first message that was challenged has three parts");
        let mut last = right.clone().into_bytes();
        while !input.is_empty() {
            let at = input.number() % last.len();
            last[at] ^= input.byte();
        }
        let is_right = last == right.as_bytes();
        (last, Some(is_right))
    } else {
        (said.to_vec(), None)
    };
    let outcome = server.step(&last, |_| panic!("asked twice"), b"decoy");
    assert!(server.step(&last, |_| panic!("it is over"), b"").is_err());
    let Ok(answer) = outcome else {
        let is_plain = said.is_empty() && first.starts_with("n,,n=alice,");
        assert!(is_right != Some(true) || !is_plain, "the right proof is refused: {outcome:?}");
        return;
    };
    assert_ne!(is_right, Some(false), "a proof that was changed is believed");
    check_proved(known, &first, &challenge, &last, &answer);
}

/// What a client must have said to be believed.
fn check_proved(known: &Known, first: &str, challenge: &str, last: &[u8], answer: &Answer) {
    let Answer::Proof { username, message } = answer else { panic!("challenged twice") };
    assert_eq!(username, USER);
    let last = str::from_utf8(last).expect("text");
    let (unproved, proof) = last.rsplit_once(",p=").expect("a proof");
    let (binding, rest) = first.split_once(',').expect("a header");
    let (authzid, bare) = rest.split_once(',').expect("a header");
    assert!(["n", "y"].contains(&binding));
    assert!(["", "a=alice"].contains(&authzid) || authzid.contains('='));
    let nonce = challenge.strip_prefix("r=").and_then(|it| it.split(',').next()).expect("a nonce");
    assert!(nonce.ends_with(SERVER_NONCE) && nonce.len() > SERVER_NONCE.len());
    let channel = BASE64_STANDARD.encode(format!("{binding},{authzid},"));
    let want = format!("c={channel},r={nonce}");
    assert!(unproved == want || unproved.starts_with(&format!("{want},")), "{unproved}");
    let said = format!("{bare},{challenge},{unproved}");
    assert_eq!(BASE64_STANDARD.decode(proof).as_ref(), Ok(&known.proof(&said)));
    let own = BASE64_STANDARD.encode(sign(known.hash, &known.server_key, said.as_bytes()));
    assert_eq!(message[..], *format!("v={own}").as_bytes());
}

/// The words of the other mechanisms, and the line in which all are set.
fn check_words(bytes: &[u8]) {
    if let Ok(claim) = plain::Claim::decode(bytes) {
        assert_eq!(plain::Claim::decode(&claim.encode()), Ok(claim));
    }
    if let Ok(claim) = bearer::Claim::decode(bytes) {
        let again = bearer::Claim::decode(&bearer::Claim::encode(&claim.token));
        assert_eq!(again.map(|again| again.token), Ok(claim.token));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = Jaas::parse(text);
    }
}

fn ask_client(hash: Hash, mut input: Input<'_>) {
    let (challenge, last) = (input.short(), input.short());
    let text = String::from_utf8_lossy(challenge).into_owned();
    let asked = text.rsplit_once("i=").and_then(|(_, count)| count.split(',').next());
    if asked.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > ITERATIONS) {
        return;
    }
    let mut client = Client::new(hash, USER, Secret::new(PASSWORD), "nonce".to_owned());
    if let Ok(said) = client.step(challenge) {
        assert!(said.is_some(), "a challenge is answered");
        // Nobody says by chance what takes the password to know.
        assert!(client.step(last).is_err());
    }
}

/// Exchanges that succeed, each part of the words, and lines of settings.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for hash in [0, 1] {
        let all = MAKE_FIRST | MAKE_LAST;
        seeds.push([&[hash, all][..], &short(b"abc"), &short(b"")].concat());
        seeds.push([&[hash, all][..], &short(b"abc,x=1"), &short(b",x=1"), &[0, 5, 1]].concat());
        seeds
            .push([&[hash, MAKE_LAST][..], &short(b"y,a=alice,n=alice,r=q"), &short(b"")].concat());
        seeds.push([&[hash, MAKE_LAST][..], &short(b"n,,n=bo=2Cb=3D,r=q"), &short(b"")].concat());
        let last = b"c=biws,r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        seeds.push([&[hash, MAKE_FIRST][..], &short(b"abc"), &short(last)].concat());
        let challenge = b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        seeds
            .push([&[hash, ASK_CLIENT][..], &short(challenge), &short(b"v=6rriTRBi23Wp")].concat());
        seeds.push([&[hash, ASK_CLIENT][..], &short(b"e=invalid-proof")].concat());
    }
    let words = [
        &b"\0alice\0pencil"[..],
        b"alice\0alice\0pencil",
        b"n,,\x01auth=Bearer ey.J0.x\x01\x01",
        b"n,a=me,\x01host=h\x01auth=bearer ey.J0.x\x01port=1\x01\x01",
        b"org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"b c\" username=x;",
        b"org.apache.kafka.common.security.scram.ScramLoginModule optional username='a' password=\"\\\"\" ;",
    ];
    seeds.extend(words.map(|words| [&[0, 0], words].concat()));
    seeds
}
