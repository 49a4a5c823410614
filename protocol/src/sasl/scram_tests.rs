//! SCRAM against the vectors of its RFCs, against itself, and against liars. Pure.

use super::*;

const KEY: &[u8] = b"of this process";

/// The exchange of RFC 7677, section 3.
const USER: &str = "user";
const PASSWORD: &str = "pencil";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn credential(hash: Hash) -> Credential {
    let salt = BASE64_STANDARD.decode(SALT).unwrap();
    Credential::of(hash, &Secret::new(PASSWORD), &salt, 4096)
}

fn server() -> Server {
    Server::new(Hash::Sha256, SERVER_NONCE.to_owned())
}

fn look_up(name: &str) -> Option<Credential> {
    (name == USER).then(|| credential(Hash::Sha256))
}

fn said(answer: Answer) -> String {
    let (Answer::Challenge(bytes) | Answer::Proof { message: bytes, .. }) = answer;
    String::from_utf8(bytes).unwrap()
}

/// What the broker says to `first` and then to `proof`.
fn serve(first: &str, proof: &str) -> Result<Answer, SaslError> {
    let mut server = server();
    server.step(first.as_bytes(), look_up, KEY)?;
    server.step(proof.as_bytes(), |_| panic!("asked twice"), KEY)
}

fn client() -> Client {
    Client::new(Hash::Sha256, USER, Secret::new(PASSWORD), CLIENT_NONCE.to_owned())
}

#[test]
fn the_exchange_of_the_rfc_is_had_by_both_sides() {
    let (mut server, mut client) = (server(), client());
    assert_eq!(client.first(), FIRST.as_bytes());
    let challenge = server.step(FIRST.as_bytes(), look_up, KEY).unwrap();
    assert_eq!(said(challenge), CHALLENGE);
    assert_eq!(client.step(CHALLENGE.as_bytes()), Ok(Some(PROOF.as_bytes().to_vec())));
    let proved = server.step(PROOF.as_bytes(), look_up, KEY).unwrap();
    let want = Answer::Proof { username: USER.to_owned(), message: LAST.as_bytes().to_vec() };
    assert_eq!(proved, want);
    assert_eq!(client.step(LAST.as_bytes()), Ok(None));
    assert!(server.step(PROOF.as_bytes(), look_up, KEY).is_err(), "it is over");
    assert!(client.step(LAST.as_bytes()).is_err(), "it is over");
}

#[test]
fn both_hashes_and_names_with_commas_and_equals_signs_come_through() {
    for hash in [Hash::Sha256, Hash::Sha512] {
        assert_eq!(Hash::from_wire(hash.to_wire()), Some(hash));
        let name = "a=b,c=2Cä";
        let mut client = Client::new(hash, name, Secret::new("pä,=s"), "x".to_owned());
        let mut server = Server::new(hash, "y".to_owned());
        let known = Credential::of(hash, &Secret::new("pä,=s"), b"salt", 4097);
        let find = |asked: &str| (asked == name).then(|| known.clone());
        let challenge = said(server.step(&client.first(), find, KEY).unwrap());
        let proof = client.step(challenge.as_bytes()).unwrap().unwrap();
        let Answer::Proof { username, message } = server.step(&proof, find, KEY).unwrap() else {
            panic!()
        };
        assert_eq!(username, name);
        assert_eq!(client.step(&message), Ok(None));
    }
}

#[test]
fn every_part_of_the_first_message_is_looked_at() {
    for first in [
        "",
        "n,,",
        "n,n=user,r=abc",
        "n,,r=abc,n=user",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=user,r=a c",
        "n,,n=user,r=\u{e4}",
        "n,,m=x,n=user,r=abc",
        "n,,n=user,r=abc,m=x",
        "n,,n=user,r=abc,tokenauth=true",
        "n,,n=user,r=abc,=",
        "p=tls-unique,,n=user,r=abc",
        "x,,n=user,r=abc",
        "n,b=user,n=user,r=abc",
    ] {
        let refused = server().step(first.as_bytes(), look_up, KEY);
        assert!(matches!(refused, Err(SaslError::Malformed { .. })), "{first}: {refused:?}");
    }
    assert!(server().step(b"n,,n=\xff,r=abc", look_up, KEY).is_err());
    let other = server().step(b"n,a=admin,n=user,r=abc", look_up, KEY);
    assert_eq!(other, Err(SaslError::OtherIdentity("SCRAM-SHA-256")));
    assert!(server().step(b"y,a=user,n=user,r=abc,x=1", look_up, KEY).is_ok());
}

#[test]
fn every_part_of_the_proof_is_looked_at() {
    assert!(serve(FIRST, PROOF).is_ok());
    let other_nonce = PROOF.replace("r=rOpr", "r=sOpr");
    let own_nonce_alone = PROOF.replace(SERVER_NONCE, "");
    let longer_nonce = PROOF.replace("k0,p", "k00,p");
    let other_channel = PROOF.replace("biws", "eSws");
    let no_channel = PROOF.replace("c=biws,", "");
    let no_proof = PROOF.split(",p=").next().unwrap().to_owned();
    let short_proof = PROOF.replace("dHzb", "");
    let no_base64 = PROOF.replace("dHzb", "d*zb");
    let mandatory = PROOF.replace(",p=", ",m=1,p=");
    for proof in [
        other_nonce,
        own_nonce_alone,
        longer_nonce,
        other_channel,
        no_channel,
        no_proof,
        short_proof,
        no_base64,
        mandatory,
        String::new(),
    ] {
        let refused = serve(FIRST, &proof);
        assert!(matches!(refused, Err(SaslError::Malformed { .. })), "{proof}: {refused:?}");
    }
    let wrong = Err(SaslError::Credentials("SCRAM-SHA-256"));
    assert_eq!(serve(FIRST, &PROOF.replace("dHzb", "dHzc")), wrong);
    // The same proof with more said: it was not signed.
    assert_eq!(serve(FIRST, &PROOF.replace(",p=", ",x=1,p=")), wrong);
    // What the client says in clear about the channel is part of what is signed.
    let with_y = PROOF.replace("biws", "eSws");
    assert_eq!(serve(&FIRST.replace("n,,", "y,,"), &with_y), wrong);
}

#[test]
fn a_name_that_does_not_exist_is_challenged_alike_and_refused_alike() {
    let first = FIRST.replace("n=user", "n=nobody");
    let challenge = |key: &[u8]| said(server().step(first.as_bytes(), look_up, key).unwrap());
    assert_eq!(challenge(KEY), challenge(KEY));
    assert_ne!(challenge(KEY), challenge(b"of another"));
    assert_eq!(serve(&first, PROOF), Err(SaslError::Credentials("SCRAM-SHA-256")));
}

#[test]
fn a_client_looks_at_every_part_of_the_challenge() {
    let check = |challenge: &str| client().step(challenge.as_bytes());
    assert!(check(CHALLENGE).is_ok());
    for challenge in [
        CHALLENGE.replace("r=rOpr", "r=sOpr"),
        CHALLENGE.replace(SERVER_NONCE, ""),
        CHALLENGE.replace(SALT, ""),
        CHALLENGE.replace(SALT, "*"),
        CHALLENGE.replace("i=4096", "i=4095"),
        CHALLENGE.replace("i=4096", "i=2000000"),
        CHALLENGE.replace("i=4096", "i=x"),
        CHALLENGE.replace(",i=4096", ""),
        format!("m=1,{CHALLENGE}"),
        format!("{CHALLENGE},m=1"),
        String::new(),
    ] {
        let refused = check(&challenge);
        assert!(matches!(refused, Err(SaslError::Malformed { .. })), "{challenge}: {refused:?}");
    }
    let refused =
        SaslError::Refused { mechanism: "SCRAM-SHA-256", reason: "unknown-user".to_owned() };
    assert_eq!(check("e=unknown-user"), Err(refused));
}

#[test]
fn a_broker_that_does_not_know_the_password_is_found_out() {
    let finish = |last: &str| {
        let mut client = client();
        client.step(CHALLENGE.as_bytes()).unwrap();
        client.step(last.as_bytes())
    };
    assert_eq!(finish(LAST), Ok(None));
    assert_eq!(finish(&LAST.replace("6rri", "7rri")), Err(SaslError::Impostor("SCRAM-SHA-256")));
    assert!(matches!(finish("v=*"), Err(SaslError::Malformed { .. })));
    assert!(matches!(finish(""), Err(SaslError::Malformed { .. })));
    assert!(matches!(finish("e=invalid-proof"), Err(SaslError::Refused { .. })));
}

#[test]
fn a_credential_made_of_a_salted_password_is_that_of_the_password() {
    for hash in [Hash::Sha256, Hash::Sha512] {
        let password = Secret::new(PASSWORD);
        let salted = hash.salted(&password, b"salt", NonZeroU32::new(5000).unwrap());
        let made = Credential::of_salted(hash, &salted, b"salt", 5000);
        assert_eq!(made, Credential::of(hash, &password, b"salt", 5000));
        assert!(!format!("{made:?}").contains("key"));
    }
}
