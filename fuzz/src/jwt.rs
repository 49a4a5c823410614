//! Tokens: believed is what the issuer's key has signed, is for us, and is in its time; all of that
//! is believed, and nothing else.
//!
//! Input: a byte of switches. With 1 the rest is a token as it stands; else a header and claims, each
//! with its length before it (two bytes), which are signed here with the issuer's key, and changes
//! to the text that comes of it. Pure.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use broker::auth::probe::{Judge, Wanted};
use protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::input::{Input, long};
use crate::memory::in_proportion;

const NOW_SECONDS: f64 = 1_800_000_000.0;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "kafka";
const SKEW_SECONDS: f64 = 30.0;
const RAW: u8 = 1;

/// The issuer, and who judges what it signs.
pub(crate) struct Issuer {
    pair: Ed25519KeyPair,
    pub(crate) judge: Judge,
}

fn coded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[42; 32]).expect("32 bytes");
        let x = "a6zV0PjbVAA6sHtNfgS8AAPCZ2h3hgAAAAAAAAAAAAA";
        let jwks = json!({"keys": [
            {"kty": "RSA", "n": coded(&[0xc3; 256]), "e": coded(&[1, 0, 1]), "alg": "RS256"},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": x},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": coded(pair.public_key().as_ref())},
        ]});
        let wanted = Wanted {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            skew: Duration::from_secs_f64(SKEW_SECONDS),
        };
        let judge = Judge::new(jwks.to_string().as_bytes(), &wanted).expect("three keys");
        Self { pair, judge }
    }

    /// The token of this header and these claims.
    pub(crate) fn token(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", coded(header), coded(claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", coded(signature.as_ref()))
    }

    /// The claims that would be believed, and of `name`.
    pub(crate) fn claims(name: &str) -> Value {
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": name, "exp": NOW_SECONDS + 3600.0})
    }
}

thread_local! {
    static ISSUER_OF_TOKENS: Issuer = Issuer::new();
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    ISSUER_OF_TOKENS.with(|issuer| {
        let mut input = Input::new(bytes);
        if input.byte() & RAW != 0 {
            if let Ok(token) = str::from_utf8(input.rest()) {
                judge(issuer, token);
            }
            return;
        }
        let (header, claims) = (input.long(), input.long());
        let token = issuer.token(header, claims);
        let mut changed = token.clone().into_bytes();
        while !input.is_empty() {
            let at = input.number() % changed.len();
            changed[at] ^= input.byte();
        }
        let is_changed = changed != token.as_bytes();
        if let Ok(changed) = str::from_utf8(&changed) {
            let is_believed = judge(issuer, changed);
            assert!(!is_changed || !is_believed, "a token that was changed is believed");
            let deserves = deserves_header(header) && deserves_claims(claims, -1.0);
            assert!(is_changed || is_believed || !deserves, "a sound token is not believed");
        }
    });
}

/// Whether `token` is believed, which it must deserve.
fn judge(issuer: &Issuer, token: &str) -> bool {
    let judged = in_proportion(token.len(), 0, || issuer.judge.believes(token, NOW));
    let Some((name, until)) = judged else { return false };
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let (header, claims) = signed.split_once('.').expect("three parts");
    // The signature of a message by this algorithm is always the same.
    assert_eq!(signature, coded(issuer.pair.sign(signed.as_bytes()).as_ref()));
    let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
    assert!(deserves_header(&decode(header)));
    let claims = decode(claims);
    assert!(deserves_claims(&claims, 1.0));
    let claims: Map<String, Value> = serde_json::from_slice(&claims).expect("an object");
    assert_eq!(claims["sub"], *name);
    assert!(until.0 > NOW.0 - 31_000);
    true
}

fn deserves_header(header: &[u8]) -> bool {
    let Ok(header) = serde_json::from_slice::<Map<String, Value>>(header) else { return false };
    let algorithm = header.get("alg").and_then(Value::as_str);
    let key = header.get("kid").and_then(Value::as_str);
    matches!(algorithm, Some("EdDSA" | "Ed25519"))
        && !header.contains_key("crit")
        && matches!(key, None | Some("ed"))
}

/// True when the claims are right, give or take `slack` seconds.
fn deserves_claims(claims: &[u8], slack: f64) -> bool {
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(claims) else { return false };
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let seconds = |name: &str| match claims.get(name) {
        None => Some(None),
        Some(value) => value.as_f64().filter(|it| (0.0..1e11).contains(it)).map(Some),
    };
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(|it| it == AUDIENCE),
        Some(one) => one == AUDIENCE,
        None => false,
    };
    let (Some(Some(expires)), Some(from), Some(issued)) =
        (seconds("exp"), seconds("nbf"), seconds("iat"))
    else {
        return false;
    };
    let latest = NOW_SECONDS + SKEW_SECONDS + slack;
    text("iss") == Some(ISSUER)
        && is_for_us
        && expires > NOW_SECONDS - SKEW_SECONDS - slack
        && [from, issued].into_iter().flatten().all(|it| it <= latest)
        && text("sub").is_some_and(|it| !it.trim().is_empty())
}

/// Sound tokens, whole and in parts, and one of each way to be unsound.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let issuer = Issuer::new();
    let headers = [
        json!({"alg": "EdDSA"}),
        json!({"alg": "Ed25519", "kid": "ed", "typ": "JWT"}),
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": "ed"}),
        json!({"alg": "ES256", "kid": "ec"}),
        json!({"alg": "RS256"}),
        json!({"alg": "PS512", "kid": "other"}),
        json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}),
    ];
    let sound = Issuer::claims("alice");
    let with = |name: &str, value: Value| {
        let mut claims = sound.clone();
        claims[name] = value;
        claims
    };
    let all_claims = [
        sound.clone(),
        with("aud", json!(["other", "kafka"])),
        with("aud", json!("other")),
        with("iss", json!("https://evil.example")),
        with("exp", json!(1_799_999_000)),
        with("exp", json!("soon")),
        with("nbf", json!(1_800_000_031)),
        with("iat", json!(1_799_999_999.5)),
        with("sub", json!(" ")),
    ];
    let mut seeds = Vec::new();
    for header in &headers {
        let (header, claims) = (header.to_string(), sound.to_string());
        seeds.push([&[0][..], &long(header.as_bytes()), &long(claims.as_bytes())].concat());
    }
    for claims in &all_claims {
        let (header, claims) = (headers[0].to_string(), claims.to_string());
        seeds.push([&[0][..], &long(header.as_bytes()), &long(claims.as_bytes())].concat());
        let token = issuer.token(header.as_bytes(), claims.as_bytes());
        seeds.push([&[RAW], token.as_bytes()].concat());
        let changes = [0, 40, 1];
        let parts = [&[0][..], &long(header.as_bytes()), &long(claims.as_bytes()), &changes];
        seeds.push(parts.concat());
    }
    seeds
}
