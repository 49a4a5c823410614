//! Tokens: what an issuer signed, and whether it may be believed here.
//!
//! A token is believed when one of the issuer's keys signed it by an algorithm that is for that
//! key, when it is for this audience, from this issuer, and in its time; everything else refuses
//! it, what is missing too. Algorithms are those with a public key: `none` is not among them, nor
//! is any by which who verifies could also sign. RFC 7515, RFC 7517, RFC 7519. Pure.

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use protocol::secret::Secret;
use protocol::time::Timestamp;
use serde_json::{Map, Value};
use thiserror::Error;

/// 64: keys of an issuer that are looked at; more are passed over. Issuers have two or three.
const KEYS_MAX: usize = 64;

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm that it is for. `None`: any that fits.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point of a curve, uncompressed.
    Curve {
        curve: String,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

/// Why a text is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum KeysError {
    #[error("not a JSON Web Key Set: {0}")]
    NoSet(String),
    #[error("no key of the set can verify a signature")]
    NoKey,
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys that are not for signatures, or of another kind, are passed
    /// over.
    ///
    /// # Errors
    /// When nothing could be verified by it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let set: Value =
            serde_json::from_slice(text).map_err(|error| KeysError::NoSet(error.to_string()))?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| KeysError::NoSet("there are no keys".to_owned()))?;
        let keys: Vec<Key> = keys.iter().filter_map(Key::parse).take(KEYS_MAX).collect();
        if keys.is_empty() { Err(KeysError::NoKey) } else { Ok(Self(keys)) }
    }
}

impl Keys {
    /// True when a token that names this key could be verified: it is there, or one without a name.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref().is_none_or(|own| own == id))
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name)?.as_str();
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|it| it != "sig") {
            return None;
        }
        let material = match text("kty")? {
            "RSA" => Material::Rsa { modulus: bytes("n")?, exponent: bytes("e")? },
            "EC" => {
                let point = [&[4], bytes("x")?.as_slice(), bytes("y")?.as_slice()].concat();
                Material::Curve { curve: text("crv")?.to_owned(), point }
            }
            "OKP" if text("crv") == Some("Ed25519") => Material::Ed25519(bytes("x")?),
            _ => return None,
        };
        let own = |name: &str| text(name).map(str::to_owned);
        Some(Self { id: own("kid"), algorithm: own("alg"), material })
    }

    /// True when it signed `message` by `algorithm`.
    fn has_signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.as_ref().is_some_and(|own| own != algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                let Some(parameters) = rsa(algorithm) else { return false };
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }
            Material::Curve { curve, point } => {
                let Some(curve) = elliptic(algorithm, curve) else { return false };
                UnparsedPublicKey::new(curve, point).verify(message, signature).is_ok()
            }
            Material::Ed25519(point) => {
                matches!(algorithm, "EdDSA" | "Ed25519")
                    && UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    match algorithm {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn elliptic(algorithm: &str, curve: &str) -> Option<&'static dyn VerificationAlgorithm> {
    match (algorithm, curve) {
        ("ES256", "P-256") => Some(&ECDSA_P256_SHA256_FIXED),
        ("ES384", "P-384") => Some(&ECDSA_P384_SHA384_FIXED),
        ("ES512", "P-521") => Some(&ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}

/// What a token must say.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// For whom it must be: one of these.
    pub(crate) audience: Vec<String>,
    /// Who must have issued it.
    pub(crate) issuer: String,
    /// Which claim names its user.
    pub(crate) subject_claim: String,
    /// How far the issuer's clock may be off.
    pub(crate) skew: Duration,
}

/// What a token that was believed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Believed {
    /// The name of its user.
    pub(crate) subject: String,
    /// Until when it is valid.
    pub(crate) expires_at: Timestamp,
}

/// Why a token is not believed. Names claims, never what they say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("the token is none of three parts of base64 and JSON")]
    Malformed,
    #[error("the token is signed by an algorithm that is not accepted")]
    Algorithm,
    #[error("the token needs extensions that are not known")]
    Critical,
    #[error("the issuer has no key of the name that the token gives")]
    NoKey,
    #[error("no key of the issuer has signed the token")]
    Signature,
    #[error("the token's claim {0} is missing or makes no sense")]
    Claim(String),
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
}

/// Whether `token` may be believed at the time `now`.
///
/// # Errors
/// When it may not.
pub(crate) fn verify(
    token: &Secret,
    keys: &Keys,
    expected: &Expected,
    now: Timestamp,
) -> Result<Believed, TokenError> {
    let mut parts = token.expose().split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    let signed = &token.expose().as_bytes()[..header.len() + 1 + claims.len()];
    let header = object(header)?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Algorithm)?;
    if rsa(algorithm).is_none()
        && !matches!(algorithm, "ES256" | "ES384" | "ES512" | "EdDSA" | "Ed25519")
    {
        return Err(TokenError::Algorithm);
    }
    if header.contains_key("crit") {
        return Err(TokenError::Critical);
    }
    let id = header.get("kid").and_then(Value::as_str);
    if id.is_some_and(|id| !keys.has(id)) {
        return Err(TokenError::NoKey);
    }
    // A key without an id may be the one that is meant; one with another id is not.
    let fits = |key: &&Key| match (id, &key.id) {
        (Some(id), Some(own)) => id == own,
        (None, _) | (_, None) => true,
    };
    let mut fitting = keys.0.iter().filter(fits);
    if !fitting.any(|key| key.has_signed(algorithm, signed, &signature)) {
        return Err(TokenError::Signature);
    }
    // Nothing it says is looked at before.
    check_claims(&object(claims)?, expected, now)
}

fn check_claims(
    claims: &Map<String, Value>,
    expected: &Expected,
    now: Timestamp,
) -> Result<Believed, TokenError> {
    let missing = |name: &str| TokenError::Claim(name.to_owned());
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or_else(|| missing("iss"))?;
    if issuer != expected.issuer {
        return Err(TokenError::Issuer);
    }
    let is_ours =
        |it: &Value| it.as_str().is_some_and(|it| expected.audience.iter().any(|own| own == it));
    let is_for_us = match claims.get("aud").ok_or_else(|| missing("aud"))? {
        Value::Array(all) => all.iter().any(is_ours),
        one => is_ours(one),
    };
    if !is_for_us {
        return Err(TokenError::Audience);
    }
    let expires_at = time(claims, "exp")?.ok_or_else(|| missing("exp"))?;
    if expires_at.plus(expected.skew) <= now {
        return Err(TokenError::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|from| from > now.plus(expected.skew)) {
            return Err(TokenError::Early);
        }
    }
    let name = &expected.subject_claim;
    let subject = claims.get(name).and_then(Value::as_str).filter(|it| !it.trim().is_empty());
    let subject = subject.ok_or_else(|| missing(name))?.to_owned();
    Ok(Believed { subject, expires_at })
}

/// A claim in seconds since 1970, which may have a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let refuse = || TokenError::Claim(name.to_owned());
    let seconds = value.as_f64().filter(|it| (0.0..1e11).contains(it)).ok_or_else(refuse)?;
    let millis = Duration::from_secs_f64(seconds).as_millis();
    Ok(Some(Timestamp(i64::try_from(millis).map_err(|_| refuse())?)))
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
