//! Which tokens are believed, and that all others are not. Keys are made by each test. Pure.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

enum Signer {
    Rsa(RsaKeyPair),
    Curve(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

fn coded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn curve() -> Self {
        Self::Curve(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                // A sequence of two numbers in DER: 256 bytes after a zero, then 65537.
                let key = pair.public_key().as_ref();
                assert_eq!((key.len(), &key[265..]), (270, &[2, 3, 1, 0, 1][..]));
                json!({"kty": "RSA", "n": coded(&key[9..265]), "e": coded(&[1, 0, 1])})
            }
            Self::Curve(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": coded(&point[1..33]), "y": coded(&point[33..])})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": coded(pair.public_key().as_ref())})
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> Secret {
        let header_text = header.to_string();
        let signed =
            format!("{}.{}", coded(header_text.as_bytes()), coded(claims.to_string().as_bytes()));
        let (message, chance) = (signed.as_bytes(), SystemRandom::new());
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let is_pss = header["alg"] == "PS256";
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if is_pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &chance, message, &mut signature).unwrap();
                signature
            }
            Self::Curve(pair) => pair.sign(&chance, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        };
        Secret::new(format!("{signed}.{}", coded(&signature)))
    }
}

fn keys(all: &[Value]) -> Keys {
    Keys::parse(json!({ "keys": all }).to_string().as_bytes()).unwrap()
}

fn expected() -> Expected {
    Expected {
        audience: vec!["kafka".to_owned(), "other".to_owned()],
        issuer: "https://id.example".to_owned(),
        subject_claim: "sub".to_owned(),
        skew: Duration::from_secs(30),
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "kafka", "sub": "alice",
           "exp": 1_800_000_060, "iat": 1_799_999_000})
}

fn believe(token: &Secret, keys: &Keys) -> Result<Believed, TokenError> {
    verify(token, keys, &expected(), NOW)
}

#[test]
fn each_algorithm_is_verified_by_its_key_and_by_no_other() {
    let rsa = Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let signers = [
        ("RS256", &rsa),
        ("PS256", &rsa),
        ("ES256", &Signer::curve()),
        ("EdDSA", &Signer::Ed(Ed25519KeyPair::generate().unwrap())),
    ];
    let stranger = keys(&[Signer::curve().jwk()]);
    for (algorithm, signer) in signers {
        let token = signer.token(&json!({"alg": algorithm}), &claims());
        let believed = believe(&token, &keys(&[stranger_jwk(), signer.jwk()])).unwrap();
        let expires_at = Timestamp(1_800_000_060_000);
        assert_eq!(believed, Believed { subject: "alice".to_owned(), expires_at });
        assert_eq!(believe(&token, &stranger), Err(TokenError::Signature), "{algorithm}");
        let other = signer.jwk().as_object().unwrap().clone();
        let mut other = Value::Object(other);
        other["alg"] = json!("RS512");
        assert_eq!(believe(&token, &keys(&[other])), Err(TokenError::Signature), "{algorithm}");
    }
}

fn stranger_jwk() -> Value {
    Signer::curve().jwk()
}

#[test]
fn a_token_that_is_not_signed_or_signed_by_a_shared_secret_is_refused() {
    let signer = Signer::curve();
    let keys = keys(&[signer.jwk()]);
    for algorithm in ["none", "None", "NONE", "HS256", "HS512", "", "ES256K"] {
        let token = signer.token(&json!({"alg": algorithm}), &claims());
        assert_eq!(believe(&token, &keys), Err(TokenError::Algorithm), "{algorithm}");
    }
    let token = signer.token(&json!({}), &claims());
    assert_eq!(believe(&token, &keys), Err(TokenError::Algorithm));
    // A signature left out.
    let token = signer.token(&json!({"alg": "ES256"}), &claims());
    let (signed, _) = token.expose().rsplit_once('.').unwrap();
    assert_eq!(believe(&Secret::new(format!("{signed}.")), &keys), Err(TokenError::Signature));
    assert_eq!(believe(&Secret::new(signed), &keys), Err(TokenError::Malformed));
    let token = signer.token(&json!({"alg": "ES256", "crit": ["x"]}), &claims());
    assert_eq!(believe(&token, &keys), Err(TokenError::Critical));
}

#[test]
fn what_was_signed_cannot_be_changed() {
    let signer = Signer::curve();
    let token = signer.token(&json!({"alg": "ES256"}), &claims());
    let mut parts: Vec<String> = token.expose().split('.').map(str::to_owned).collect();
    let mut admin = claims();
    admin["sub"] = json!("admin");
    parts[1] = coded(admin.to_string().as_bytes());
    let changed = Secret::new(parts.join("."));
    assert_eq!(believe(&changed, &keys(&[signer.jwk()])), Err(TokenError::Signature));
}

#[test]
fn a_key_is_chosen_by_its_id() {
    let (one, other) = (Signer::curve(), Signer::curve());
    let named = |signer: &Signer, id: &str| {
        let mut jwk = signer.jwk();
        jwk["kid"] = json!(id);
        jwk
    };
    let keys = keys(&[named(&one, "a"), named(&other, "b")]);
    let token = |id: &str| other.token(&json!({"alg": "ES256", "kid": id}), &claims());
    assert!(believe(&token("b"), &keys).is_ok());
    assert_eq!(believe(&token("a"), &keys), Err(TokenError::Signature));
    assert_eq!(believe(&token("c"), &keys), Err(TokenError::NoKey));
}

#[test]
fn every_claim_is_looked_at() {
    let signer = Signer::curve();
    let keys = keys(&[signer.jwk()]);
    let check = |name: &str, value: Value, want: Result<(), TokenError>| {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        let token = signer.token(&json!({"alg": "ES256"}), &claims);
        assert_eq!(believe(&token, &keys).map(drop), want, "{name}");
    };
    let claim = |name: &str| Err(TokenError::Claim(name.to_owned()));
    check("iss", json!("https://evil.example"), Err(TokenError::Issuer));
    check("iss", Value::Null, claim("iss"));
    check("aud", json!("elsewhere"), Err(TokenError::Audience));
    check("aud", json!(["elsewhere"]), Err(TokenError::Audience));
    check("aud", json!([]), Err(TokenError::Audience));
    check("aud", json!(["elsewhere", "other"]), Ok(()));
    check("aud", Value::Null, claim("aud"));
    check("exp", json!(1_799_999_970), Err(TokenError::Expired));
    check("exp", json!(1_799_999_971), Ok(()));
    check("exp", json!("1800000060"), claim("exp"));
    check("exp", json!(-1), claim("exp"));
    check("exp", Value::Null, claim("exp"));
    check("nbf", json!(1_800_000_031), Err(TokenError::Early));
    check("nbf", json!(1_800_000_030), Ok(()));
    check("iat", json!(1_800_000_031), Err(TokenError::Early));
    check("iat", Value::Null, Ok(()));
    check("sub", Value::Null, claim("sub"));
    check("sub", json!(" "), claim("sub"));
    check("sub", json!(7), claim("sub"));
}

#[test]
fn what_is_no_set_of_keys_is_refused() {
    for text in ["", "[]", "{}", "{\"keys\": 1}"] {
        assert!(matches!(Keys::parse(text.as_bytes()), Err(KeysError::NoSet(_))), "{text}");
    }
    let secret = json!({"kty": "oct", "k": "c2VjcmV0"});
    let mut to_encrypt = Signer::curve().jwk();
    to_encrypt["use"] = json!("enc");
    let set = json!({"keys": [secret, to_encrypt, {"kty": "RSA"}]}).to_string();
    assert_eq!(Keys::parse(set.as_bytes()).unwrap_err(), KeysError::NoKey);
}
