//! What the gate lets pass, and when. Pure.

use std::collections::BTreeMap;

use protocol::api::metadata::MetadataRequest;
use protocol::api::sasl::{SaslAuthenticateRequest, SaslHandshakeRequest};
use protocol::api::versions::ApiVersionsRequest;
use protocol::sasl::scram::{Client, Credential};
use protocol::sasl::{Hash, SaslError};
use protocol::secret::Secret;
use protocol::time::Timestamp;

use super::*;
use crate::auth::decoys::Shapes;
use crate::auth::sasl::{Exchange, Step};

const SCRAM: Mechanism = Mechanism::Scram(Hash::Sha256);

fn sasl(max_reauth: Duration) -> Arc<Sasl> {
    let alice = Credential::of(Hash::Sha256, &Secret::new("a"), b"salt", 4096);
    let shapes = Arc::new(Shapes::of([(Hash::Sha256, &alice)].into_iter()));
    let credentials = move |_, name: &str| (name == "alice").then(|| alice.clone());
    let mechanisms = [(Mechanism::Plain, max_reauth), (SCRAM, max_reauth)].into();
    let users = ["alice", "bob"].map(|name| (name.to_owned(), Secret::new(&name[..1])));
    Arc::new(Sasl {
        mechanisms,
        users: BTreeMap::from(users),
        credentials: Box::new(credentials),
        shapes: Box::new(move || shapes.clone()),
        tokens: None,
        decoy_key: Box::new(|| [7; 32]),
        request_bytes_max: 1000,
        refusal_delay: Duration::ZERO,
        nonce: || "nonce".to_owned(),
    })
}

fn gate(max_reauth: Duration) -> Gate {
    Gate::new(sasl(max_reauth))
}

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(0) }
}

fn handshake(mechanism: &str) -> AnyRequest {
    SaslHandshakeRequest { mechanism: mechanism.to_owned() }.into()
}

fn message(bytes: &[u8]) -> AnyRequest {
    SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(bytes) }.into()
}

/// What becomes of a request, in short.
fn told(verdict: Verdict) -> String {
    let code = |answer: &AnyResponse| match answer {
        AnyResponse::SaslHandshake(answer) => ErrorCode::from_wire(answer.error_code),
        AnyResponse::SaslAuthenticate(answer) => ErrorCode::from_wire(answer.error_code),
        other => panic!("{other:?}"),
    };
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Answer(answer) => format!("answer {:?}", code(&answer)),
        Verdict::Admit(answer, name) => format!("admit {name} {:?}", code(&answer)),
        Verdict::Refuse(answer, refusal) => format!("refuse {:?}: {refusal}", code(&answer)),
        Verdict::Close(refusal) => format!("close: {refusal}"),
    }
}

#[track_caller]
fn check(gate: &mut Gate, seconds: u64, request: &AnyRequest, want: &str) {
    assert_eq!(told(gate.step(at(seconds), 1, request)), want);
}

fn open(max_reauth: Duration) -> Gate {
    let mut gate = gate(max_reauth);
    check(&mut gate, 0, &handshake("PLAIN"), "answer None");
    check(&mut gate, 0, &message(b"\0alice\0a"), "admit alice None");
    gate
}

#[test]
fn before_authentication_three_apis_pass_and_no_other() {
    let mut gate = gate(Duration::ZERO);
    for &api in ApiKey::ALL {
        let want = match api {
            ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => Ok(()),
            other => Err(Refusal::Early(other)),
        };
        assert_eq!(gate.check(at(0), api, 100), want);
    }
    let large = HEADER_BYTES_MAX + 1;
    assert_eq!(gate.check(at(0), ApiKey::ApiVersions, large), Err(Refusal::Large(large)));
    assert_eq!(gate.check(at(0), ApiKey::SaslAuthenticate, large), Ok(()));
    check(&mut gate, 0, &ApiVersionsRequest::default().into(), "pass");
    assert!(gate.is_waiting());
}

#[test]
fn who_proves_itself_is_let_in() {
    let mut gate = open(Duration::ZERO);
    assert!(!gate.is_waiting());
    assert_eq!(gate.check(at(1_000_000), ApiKey::Produce, usize::MAX), Ok(()));
    check(&mut gate, 9, &MetadataRequest::default().into(), "pass");
    // Nobody need authenticate anew here: who tries is told, and stays.
    check(&mut gate, 9, &handshake("PLAIN"), "answer IllegalSaslState");
    check(&mut gate, 9, &message(b"\0alice\0a"), "answer IllegalSaslState");
    check(&mut gate, 9, &MetadataRequest::default().into(), "pass");
}

#[test]
fn scram_takes_two_messages() {
    let mut gate = gate(Duration::ZERO);
    let mut client = Client::new(Hash::Sha256, "alice", Secret::new("a"), "x".to_owned());
    check(&mut gate, 0, &handshake("SCRAM-SHA-256"), "answer None");
    let challenge = match gate.step(at(0), 1, &message(&client.first())) {
        Verdict::Answer(AnyResponse::SaslAuthenticate(answer)) => answer.auth_bytes,
        other => panic!("{other:?}"),
    };
    let proof = client.step(&challenge).unwrap().unwrap();
    match gate.step(at(0), 1, &message(&proof)) {
        Verdict::Admit(AnyResponse::SaslAuthenticate(answer), name) => {
            assert_eq!((name.as_str(), answer.session_lifetime_ms), ("alice", 0));
            assert_eq!(client.step(&answer.auth_bytes), Ok(None));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_cannot_prove_itself_is_refused_and_told_nothing_of_why() {
    let credentials = SaslError::Credentials("PLAIN");
    for (bytes, why) in [
        (&b"\0alice\0b"[..], credentials.clone()),
        (b"\0carol\0c", credentials),
        (b"bob\0alice\0a", SaslError::OtherIdentity("PLAIN")),
    ] {
        let mut gate = gate(Duration::ZERO);
        check(&mut gate, 0, &handshake("PLAIN"), "answer None");
        let Verdict::Refuse(AnyResponse::SaslAuthenticate(answer), refusal) =
            gate.step(at(0), 1, &message(bytes))
        else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.to_wire());
        let words = answer.error_message.unwrap();
        assert_eq!(words, "Authentication failed: invalid credentials");
        assert_eq!(refusal, Refusal::Auth(AuthError::Sasl(why)));
        assert!(gate.is_waiting());
        // It is over.
        let again = told(gate.step(at(0), 1, &message(b"\0alice\0a")));
        assert!(again.starts_with("refuse IllegalSaslState"), "{again}");
    }
}

#[test]
fn steps_out_of_order_are_refused() {
    let mut early = gate(Duration::ZERO);
    let told_early = told(early.step(at(0), 1, &message(b"\0alice\0a")));
    assert!(told_early.starts_with("refuse IllegalSaslState"), "{told_early}");
    let mut twice = gate(Duration::ZERO);
    check(&mut twice, 0, &handshake("PLAIN"), "answer None");
    let told_twice = told(twice.step(at(0), 1, &handshake("PLAIN")));
    assert!(told_twice.starts_with("refuse IllegalSaslState"), "{told_twice}");
    let mut unknown = gate(Duration::ZERO);
    match unknown.step(at(0), 1, &handshake("GSSAPI")) {
        Verdict::Refuse(AnyResponse::SaslHandshake(answer), _) => {
            assert_eq!(answer.error_code, ErrorCode::UnsupportedSaslMechanism.to_wire());
            assert_eq!(answer.mechanisms, ["PLAIN", "SCRAM-SHA-256"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn when_the_time_is_over_nothing_passes_until_the_client_has_authenticated_anew() {
    let mut gate = open(Duration::from_secs(10));
    assert_eq!(gate.check(at(9), ApiKey::Produce, 0), Ok(()));
    let expired = Err(Refusal::Expired("alice".to_owned()));
    assert_eq!(gate.check(at(10), ApiKey::Produce, 0), expired);
    assert_eq!(gate.check(at(10), ApiKey::SaslHandshake, 0), Ok(()));
    assert_eq!(gate.check(at(10), ApiKey::ApiVersions, 0), Ok(()));
    check(&mut gate, 10, &handshake("PLAIN"), "answer None");
    check(
        &mut gate,
        10,
        &MetadataRequest::default().into(),
        "close: Metadata came before authentication",
    );
    check(&mut gate, 10, &message(b"\0alice\0a"), "admit alice None");
    assert_eq!(gate.check(at(19), ApiKey::Produce, 0), Ok(()));
    assert_eq!(gate.check(at(20), ApiKey::Produce, 0), expired);
}

#[test]
fn nobody_becomes_somebody_else() {
    let mut gate = open(Duration::from_secs(10));
    // Too soon.
    check(&mut gate, 0, &handshake("PLAIN"), "answer IllegalSaslState");
    check(&mut gate, 5, &handshake("PLAIN"), "answer None");
    let changed = told(gate.step(at(5), 1, &message(b"\0bob\0b")));
    assert!(changed.starts_with("refuse SaslAuthenticationFailed: alice"), "{changed}");
}

#[test]
fn a_handshake_of_version_0_is_followed_by_bare_messages() {
    let mut gate = gate(Duration::ZERO);
    assert_eq!(told(gate.step(at(0), 0, &handshake("PLAIN"))), "answer None");
    assert!(gate.is_bare());
    let BareVerdict::Admit(answer, name) = gate.step_bare(at(0), b"\0bob\0b") else { panic!() };
    assert_eq!((answer.len(), name.as_str(), gate.is_bare()), (0, "bob", false));
    let mut gate = Gate::new(sasl(Duration::ZERO));
    gate.step(at(0), 0, &handshake("PLAIN"));
    assert!(matches!(gate.step_bare(at(0), b"\0bob\0x"), BareVerdict::Close(_)));
}

#[test]
fn a_name_that_does_not_exist_is_challenged_as_those_that_do() {
    let sasl = sasl(Duration::ZERO);
    let challenge = |name: &str| {
        let mut client = Client::new(Hash::Sha256, name, Secret::new("a"), "x".to_owned());
        let mut exchange = Exchange::new(SCRAM, &sasl);
        let step = exchange.step(&sasl, Timestamp(0), &client.first()).unwrap();
        let Step::Challenge(challenge) = step else { panic!("{step:?}") };
        let proof = client.step(&challenge).unwrap().unwrap();
        let proved = exchange.step(&sasl, Timestamp(0), &proof).is_ok();
        (String::from_utf8(challenge).unwrap(), proved)
    };
    let (known, is_proved) = challenge("alice");
    assert!(is_proved);
    let salt = |challenge: &str| challenge.split(',').nth(1).unwrap().to_owned();
    for name in ["bob", "nobody"] {
        let (unknown, is_proved) = challenge(name);
        assert!(!is_proved);
        assert_eq!(unknown.len(), known.len(), "{unknown} as {known}");
        assert!(unknown.ends_with(",i=4096") && salt(&unknown) != salt(&known), "{unknown}");
        assert_eq!(challenge(name).0, unknown, "the same again");
    }
}
