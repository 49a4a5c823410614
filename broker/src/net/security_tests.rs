//! A broker with listeners of every protocol, and clients of ours that may or may not come in.
//! Certificates are made by openssl for each test. Shell.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use client::net::connection::{CallError, Connection, ConnectionOptions};
use client::net::https::testing::{HttpsServer, Reply};
use client::net::tcp::TcpConnector;
use client::net::tls::{TlsConnector, TlsOptions};
use client::net::{Connector, Credentials, Endpoint};
use protocol::api::configs::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, IncrementalAlterConfigsRequest,
};
use protocol::api::metadata::{DescribeClusterRequest, MetadataRequest};
use protocol::api::sasl::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use protocol::api::scram::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, ScramCredentialDeletion,
    ScramCredentialUpsertion,
};
use protocol::api::{decode_response, encode_request};
use protocol::api_key::ApiKey;
use protocol::rng::Rng;
use protocol::sasl::Hash;
use protocol::secret::Secret;
use protocol::security::store::{Identity, Pem};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::BrokerConfig;
use crate::limits::AUTHENTICATION_MAX;
use crate::metadata::Resource;
use crate::{Broker, BrokerHandle, Outside};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of certificates: a root `ca`, and what it signs.
pub(super) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(super) fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.root("ca");
        made.signed("broker", "ca", "/CN=broker", 365);
        made
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub(super) fn root(&self, name: &str) {
        let (key, cert, subject) =
            (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-keyout",
            &key,
            "-out",
            &cert,
            "-subj",
            &subject,
            "-days",
            "3650",
        ]);
    }

    /// `NAME.both`: certificate and key, valid for so many days from yesterday on.
    pub(super) fn signed(&self, name: &str, root: &str, subject: &str, days: i32) {
        let file = |ending: &str| format!("{name}.{ending}");
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            subject,
        ]);
        let host = if name == "elsewhere" { "elsewhere.example" } else { "localhost" };
        let names = format!("subjectAltName=DNS:{host},IP:127.0.0.1\n");
        std::fs::write(self.path(&file("ext")), names).unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            &format!("{root}.pem"),
            "-CAkey",
            &format!("{root}.key"),
            "-CAcreateserial",
            "-out",
            &file("crt"),
            "-extfile",
            &file("ext"),
            "-days",
            &days.to_string(),
        ]);
        let read = |ending: &str| std::fs::read(self.path(&file(ending))).unwrap();
        std::fs::write(self.path(&file("both")), [read("crt"), read("key")].concat()).unwrap();
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A client that trusts `root` and shows `own`.
    pub(super) fn options(&self, root: &str, own: Option<&str>) -> TlsOptions {
        let identity = own.map(|name| {
            let file = Pem::File(self.path(&format!("{name}.both")));
            Identity { chain: file.clone(), key: file }
        });
        let roots = Some(Pem::File(self.path(&format!("{root}.pem"))));
        TlsOptions { roots, identity, ..TlsOptions::default() }
    }
}

pub(super) async fn start(dir: &Path, settings: &[(&str, &str)]) -> BrokerHandle {
    let base = [("log.dir", dir.to_str().unwrap()), ("group.initial.rebalance.delay.ms", "0")];
    let config = BrokerConfig::from_pairs(base.iter().chain(settings).copied()).unwrap();
    Broker::start(config, Outside::real()).await.unwrap()
}

pub(super) fn connect(
    at: &Endpoint,
    tls: Option<&TlsOptions>,
    sasl: Option<Credentials>,
) -> Connection {
    let connector: Arc<dyn Connector> = match tls {
        None => Arc::new(TcpConnector),
        Some(options) => Arc::new(TlsConnector::new(Arc::new(TcpConnector), options).unwrap()),
    };
    let options = ConnectionOptions { sasl, ..ConnectionOptions::default() };
    Connection::new(connector, at.clone(), options, Rng::new(1))
}

/// Which broker's address a client is told, or why none.
pub(super) async fn told(connection: &Connection) -> Result<u16, CallError> {
    let told = connection.call(MetadataRequest::default(), PATIENCE).await?;
    let cluster = connection.call(DescribeClusterRequest::default(), PATIENCE).await?;
    assert_eq!(cluster.brokers[0].port, told.brokers[0].port);
    Ok(u16::try_from(told.brokers[0].port).unwrap())
}

/// Why a client does not come in.
pub(super) async fn refused(connection: &Connection) -> String {
    match told(connection).await {
        Ok(port) => panic!("let in at {port}"),
        Err(CallError::Connect { reason, .. }) => reason.to_string(),
        Err(other) => other.to_string(),
    }
}

pub(super) fn plain(username: &str, password: &str) -> Option<Credentials> {
    let (username, password) = (username.to_owned(), Secret::new(password));
    Some(Credentials::Plain { username, password })
}

pub(super) fn scram(hash: Hash, username: &str, password: &str) -> Option<Credentials> {
    let (username, password) = (username.to_owned(), Secret::new(password));
    Some(Credentials::Scram { hash, username, password })
}

#[tokio::test]
async fn each_listener_speaks_its_own_protocol_and_tells_its_own_address() {
    let certificates = Certificates::new();
    let dir = tempfile::tempdir().unwrap();
    let both = certificates.text("broker.both");
    let users =
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"a\";";
    let broker = start(
        dir.path(),
        &[
            (
                "listeners",
                "CLEAR://127.0.0.1:0,SSL://127.0.0.1:0,NAMED://127.0.0.1:0,BOTH://127.0.0.1:0",
            ),
            (
                "listener.security.protocol.map",
                "CLEAR:PLAINTEXT,SSL:SSL,NAMED:SASL_PLAINTEXT,BOTH:SASL_SSL",
            ),
            ("ssl.keystore.location", &both),
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.named.plain.sasl.jaas.config", users),
            ("listener.name.both.plain.sasl.jaas.config", users),
        ],
    )
    .await;
    let at = broker.endpoints();
    let tls = certificates.options("ca", None);
    let alice = || plain("alice", "a");
    for (endpoint, tls, sasl) in [
        (&at[0], None, None),
        (&at[1], Some(&tls), None),
        (&at[2], None, alice()),
        (&at[3], Some(&tls), alice()),
    ] {
        assert_eq!(told(&connect(endpoint, tls, sasl)).await.unwrap(), endpoint.port);
    }
    // Who is not asked is told so when it says who it is all the same.
    let unasked = refused(&connect(&at[0], None, alice())).await;
    assert!(unasked.contains("SaslHandshake"), "{unasked}");
    // In clear where it must be encrypted; without saying who one is where one must.
    assert!(told(&connect(&at[1], None, None)).await.is_err());
    assert!(told(&connect(&at[2], None, None)).await.is_err());
    assert!(told(&connect(&at[3], Some(&tls), None)).await.is_err());
    let wrong = refused(&connect(&at[3], Some(&tls), plain("alice", "b"))).await;
    assert!(wrong.contains("PLAIN: authentication failed"), "{wrong}");
    let other = refused(&connect(&at[2], None, scram(Hash::Sha256, "alice", "a"))).await;
    assert!(other.contains("the broker offers PLAIN"), "{other}");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn certificates_are_looked_at_on_both_sides() {
    let certificates = Certificates::new();
    certificates.root("other");
    certificates.signed("client", "ca", "/CN=client/O=Example", 365);
    certificates.signed("foreign", "other", "/CN=client/O=Example", 365);
    certificates.signed("expired", "ca", "/CN=client/O=Example", -1);
    certificates.signed("unnamed", "ca", "/O=Example", 365);
    certificates.signed("elsewhere", "ca", "/CN=elsewhere", 365);
    let dir = tempfile::tempdir().unwrap();
    let (both, ca) = (certificates.text("broker.both"), certificates.text("ca.pem"));
    let broker = start(
        dir.path(),
        &[
            ("listeners", "SSL://localhost:0,ELSEWHERE://localhost:0"),
            ("listener.security.protocol.map", "SSL:SSL,ELSEWHERE:SSL"),
            ("listener.name.elsewhere.ssl.keystore.location", &certificates.text("elsewhere.both")),
            ("ssl.keystore.location", &both),
            ("ssl.truststore.location", &ca),
            ("ssl.client.auth", "required"),
            ("ssl.principal.mapping.rules", "RULE:^.*CN=([a-z]+).*$/$1/"),
        ],
    )
    .await;
    let at = Endpoint::new("localhost", broker.endpoints()[0].port);
    let ask =
        |root: &str, own: Option<&str>| connect(&at, Some(&certificates.options(root, own)), None);
    assert_eq!(told(&ask("ca", Some("client"))).await.unwrap(), at.port);
    for own in [None, Some("foreign"), Some("expired"), Some("unnamed")] {
        assert!(told(&ask("ca", own)).await.is_err(), "{own:?}");
    }
    let foreign = refused(&ask("other", Some("client"))).await;
    assert!(foreign.contains("UnknownIssuer"), "{foreign}");
    // A broker whose certificate names another host is none, unless that is left unchecked.
    let elsewhere = Endpoint::new("localhost", broker.endpoints()[1].port);
    let options = certificates.options("ca", Some("client"));
    let why = refused(&connect(&elsewhere, Some(&options), None)).await;
    assert!(why.contains("certificate"), "{why}");
    let lenient = TlsOptions { is_any_host: true, ..options };
    assert_eq!(told(&connect(&elsewhere, Some(&lenient), None)).await.unwrap(), elsewhere.port);
    broker.shutdown().await.unwrap();
}

/// A broker that knows alice, by PLAIN and a password, with one more setting.
async fn start_with_alice(dir: &Path, setting: (&str, &str)) -> BrokerHandle {
    let users =
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"a\";";
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("sasl.jaas.config", users),
        setting,
    ];
    start(dir, &settings).await
}

/// CVE-2022-34917: a frame of the length that its prefix says would be kept in memory, for a client
/// that nobody knows.
#[tokio::test]
async fn before_authentication_a_frame_may_not_be_large() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with_alice(dir.path(), ("sasl.server.max.receive.size", "1000")).await;
    let at = broker.endpoints()[0].clone();
    // Out of order, and so answered at once.
    let answer_to = async |bytes: usize| {
        let auth_bytes = vec![7; bytes].into();
        let request = SaslAuthenticateRequest { auth_bytes }.into();
        let frame = encode_request(&request, 1, 1, None).unwrap().into_bytes();
        let mut stream = TcpConnector.connect(&at).await.unwrap();
        // The broker may end the connection before it has all of it.
        let _ = stream.write_all(&frame).await;
        stream.read_i32().await
    };
    assert!(answer_to(900).await.is_ok());
    assert!(answer_to(1001).await.is_err());
    assert!(answer_to(100_000).await.is_err());
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn users_of_scram_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256,SCRAM-SHA-512"),
        ("initial.scram.credentials", "SCRAM-SHA-256=[name=admin,password=canary]"),
    ];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let admin = connect(&at, None, scram(Hash::Sha256, "admin", "canary"));
    assert_eq!(told(&admin).await.unwrap(), at.port);
    for (hash, name, password) in [
        (Hash::Sha256, "admin", "wrong"),
        (Hash::Sha512, "admin", "canary"),
        (Hash::Sha256, "nobody", "canary"),
    ] {
        let why = refused(&connect(&at, None, scram(hash, name, password))).await;
        let want = format!("{}: authentication failed", hash.mechanism());
        assert!(why.contains(&want), "{why}");
    }
    let salted = |bytes| Bytes::from(vec![7; bytes]);
    let upsert = |name: &str, mechanism: i8, iterations: i32, length| ScramCredentialUpsertion {
        name: name.to_owned(),
        mechanism,
        iterations,
        salt: salted(8),
        salted_password: salted(length),
    };
    let remove =
        |name: &str, mechanism| ScramCredentialDeletion { name: name.to_owned(), mechanism };
    let alter = AlterUserScramCredentialsRequest {
        deletions: vec![remove("ghost", 1)],
        upsertions: vec![
            upsert("bob", 2, 4096, 64),
            upsert("few", 1, 4095, 32),
            upsert("many", 1, 16_385, 32),
            upsert("short", 1, 4096, 31),
            upsert("strange", 3, 4096, 32),
            upsert("twice", 1, 4096, 32),
            upsert("twice", 1, 8192, 32),
            upsert("", 1, 4096, 32),
        ],
    };
    let altered = admin.call(alter, PATIENCE).await.unwrap().results;
    let codes: Vec<_> = altered.iter().map(|it| (it.user.as_str(), it.error_code)).collect();
    let want = [
        ("", 93),
        ("bob", 0),
        ("few", 93),
        ("ghost", 91),
        ("many", 93),
        ("short", 93),
        ("strange", 33),
        ("twice", 92),
    ];
    assert_eq!(codes, want);
    let all = DescribeUserScramCredentialsRequest { users: None };
    let described = admin.call(all.clone(), PATIENCE).await.unwrap().results;
    let infos = described.iter().map(|it| {
        let info = &it.credential_infos[0];
        (it.user.as_str(), info.mechanism, info.iterations)
    });
    assert_eq!(infos.collect::<Vec<_>>(), [("admin", 1, 4096), ("bob", 2, 4096)]);
    let gone = AlterUserScramCredentialsRequest {
        deletions: vec![remove("bob", 2)],
        upsertions: Vec::new(),
    };
    assert_eq!(admin.call(gone, PATIENCE).await.unwrap().results[0].error_code, 0);
    assert_eq!(admin.call(all, PATIENCE).await.unwrap().results.len(), 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn users_of_scram_outlive_the_broker_and_their_passwords_are_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
        ("initial.scram.credentials", "SCRAM-SHA-512=[name=admin,password=canary]"),
    ];
    let admin = |broker: &BrokerHandle, password: &str| {
        connect(&broker.endpoints()[0], None, scram(Hash::Sha512, "admin", password))
    };
    let broker = start(dir.path(), &settings).await;
    // The first password is replaced: a later start does not bring it back.
    let salt = b"another salt";
    let salted = pbkdf2_sha512(b"changed", salt);
    let upsertion = ScramCredentialUpsertion {
        name: "admin".to_owned(),
        mechanism: 2,
        iterations: 4096,
        salt: Bytes::from_static(salt),
        salted_password: salted.into(),
    };
    let alter =
        AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
    let altered = admin(&broker, "canary").call(alter, PATIENCE).await.unwrap();
    assert_eq!(altered.results[0].error_code, 0);
    broker.shutdown().await.unwrap();
    let again = start(dir.path(), &settings).await;
    assert!(told(&admin(&again, "changed")).await.is_ok());
    assert!(told(&admin(&again, "canary")).await.is_err());
    again.shutdown().await.unwrap();
    assert!(contains(dir.path(), b"admin"));
    assert!(!contains(dir.path(), b"canary"));
}

/// What `name` is challenged with, before it proves anything.
async fn challenge(broker: &BrokerHandle, name: &str) -> String {
    let mut stream = TcpConnector.connect(&broker.endpoints()[0]).await.unwrap();
    let handshake = SaslHandshakeRequest { mechanism: "SCRAM-SHA-512".to_owned() };
    let auth_bytes = format!("n,,n={name},r=nonce").into_bytes().into();
    let mut told = Bytes::new();
    for (request, version) in
        [(handshake.into(), 1), (SaslAuthenticateRequest { auth_bytes }.into(), 1)]
    {
        let frame = encode_request(&request, version, 1, None).unwrap().into_bytes();
        stream.write_all(&frame).await.unwrap();
        let length = usize::try_from(stream.read_i32().await.unwrap()).unwrap();
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await.unwrap();
        told = frame.into();
    }
    let (_, told) = decode_response(ApiKey::SaslAuthenticate, 1, told).unwrap();
    let told = SaslAuthenticateResponse::try_from(told).unwrap();
    let told = String::from_utf8(told.auth_bytes.to_vec()).unwrap();
    // The nonce is another each time.
    told.split_once(",s=").unwrap().1.to_owned()
}

/// Asked before a restart and after it, names that do not exist must not show by other answers.
#[tokio::test]
async fn who_does_not_exist_is_challenged_alike_by_the_next_run_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
        ("initial.scram.credentials", "SCRAM-SHA-512=[name=admin,password=admin]"),
    ];
    let broker = start(dir.path(), &settings).await;
    let mut before = Vec::new();
    for name in ["admin", "nobody", "somebody"] {
        before.push(challenge(&broker, name).await);
    }
    broker.shutdown().await.unwrap();
    let again = start(dir.path(), &settings).await;
    for (name, before) in ["admin", "nobody", "somebody"].into_iter().zip(before) {
        assert_eq!(challenge(&again, name).await, before, "{name}");
    }
    again.shutdown().await.unwrap();
    let path = dir.path().join("scram-decoys.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, b"short").unwrap();
    let config = BrokerConfig::from_pairs(
        [("log.dir", dir.path().to_str().unwrap())].into_iter().chain(settings),
    );
    let error = Broker::start(config.unwrap(), Outside::real()).await.err().unwrap();
    assert!(error.to_string().contains("scram-decoys.key"), "{error}");
}

/// Whoever reaches the port opens as many connections as it takes, and says nothing.
#[tokio::test]
async fn strangers_keep_no_known_client_out() {
    // Of themselves they would be gone only after this time.
    let done = tokio::time::timeout(AUTHENTICATION_MAX * 4 / 5, strangers_and_clients()).await;
    done.expect("strangers make room at once");
}

async fn strangers_and_clients() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with_alice(dir.path(), ("max.connections", "8")).await;
    let at = broker.endpoints()[0].clone();
    let alice = || connect(&at, None, plain("alice", "a"));
    let first = alice();
    told(&first).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(TcpConnector.connect(&at).await.unwrap());
    }
    // Those that came first are gone, half of eight stay; and who is known has lost nothing.
    for mut stranger in strangers.drain(..16) {
        assert!(stranger.read_u8().await.is_err());
    }
    told(&first).await.unwrap();
    let mut known = Vec::new();
    for _ in 0..7 {
        let one = alice();
        told(&one).await.unwrap();
        known.push(one);
    }
    for mut stranger in strangers {
        assert!(stranger.read_u8().await.is_err(), "it made room");
    }
    for one in &known {
        told(one).await.unwrap();
    }
    let mut late = TcpConnector.connect(&at).await.unwrap();
    assert!(late.read_u8().await.is_err(), "as many are open as allowed");
    broker.shutdown().await.unwrap();
}

fn pbkdf2_sha512(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let rounds = std::num::NonZeroU32::new(4096).unwrap();
    let mut salted = vec![0; 64];
    let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA512;
    aws_lc_rs::pbkdf2::derive(algorithm, rounds, salt, password, &mut salted);
    salted
}

/// Whether a file below `dir` has these bytes.
fn contains(dir: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return contains(&path, wanted);
        }
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

pub(super) const ISSUER: &str = "https://id.example";

/// Signs tokens, by a key of this name.
pub(super) struct Issuer(EcdsaKeyPair, &'static str);

fn coded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub(super) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), name))
    }

    pub(super) fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (coded(&point[1..33]), coded(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": self.1, "x": x, "y": y});
        json!({ "keys": [jwk] }).to_string()
    }

    fn token(&self, algorithm: &str, issuer: &str, expires: i64) -> Secret {
        let now = client::time::real_clock().now().wall.0 / 1000;
        let header = json!({"alg": algorithm, "kid": self.1}).to_string();
        let claims = json!({"iss": issuer, "aud": "kafka", "sub": "alice", "exp": now + expires});
        let claims = claims.to_string();
        let signed = format!("{}.{}", coded(header.as_bytes()), coded(claims.as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let signature = if algorithm == "none" { String::new() } else { coded(signature.as_ref()) };
        Secret::new(format!("{signed}.{signature}"))
    }

    /// A client that gets a new token whenever it needs one.
    pub(super) fn client(
        self: &Arc<Self>,
        algorithm: &'static str,
        issuer: &'static str,
        expires: i64,
    ) -> Option<Credentials> {
        let own = self.clone();
        Some(Credentials::bearer(move || {
            let token = own.token(algorithm, issuer, expires);
            async move { Ok(token) }
        }))
    }
}

#[tokio::test]
async fn tokens_of_the_issuer_alone_let_in() {
    let (issuer, stranger) = (Issuer::new("1"), Issuer::new("1"));
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("jwks.json");
    std::fs::write(&path, issuer.jwks()).unwrap();
    let url = format!("file://{}", path.display());
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", &url),
        ("sasl.oauthbearer.allowed.urls", &url),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("sasl.oauthbearer.expected.issuer", ISSUER),
    ];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let known = connect(&at, None, issuer.client("ES256", ISSUER, 600));
    assert_eq!(told(&known).await.unwrap(), at.port);
    for sasl in [
        issuer.client("none", ISSUER, 600),
        issuer.client("HS256", ISSUER, 600),
        issuer.client("ES256", "https://evil.example", 600),
        issuer.client("ES256", ISSUER, -600),
        stranger.client("ES256", ISSUER, 600),
    ] {
        let why = refused(&connect(&at, None, sasl)).await;
        assert!(why.contains("OAUTHBEARER: authentication failed"), "{why}");
    }
    // Tokens that live for some seconds: calls go on beyond, over connections that are renewed.
    let short = connect(&at, None, issuer.client("ES256", ISSUER, 4));
    let clock = client::time::real_clock();
    let began = clock.now().monotonic;
    while clock.now().monotonic < began + Duration::from_secs(5) {
        assert_eq!(told(&short).await.unwrap(), at.port);
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn keys_come_over_https_and_are_asked_for_again_when_a_token_names_a_new_one() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let certificates = tempfile::tempdir().unwrap();
    let server = HttpsServer::start(certificates.path()).await;
    server.reply(Reply::ok(&old.jwks()));
    let url = server.url("/keys");
    let root = certificates.path().join("ca.pem");
    let jaas = format!(
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         ssl.truststore.location=\"{}\";",
        root.display()
    );
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config", &jaas),
        ("sasl.oauthbearer.jwks.endpoint.url", &url),
        ("sasl.oauthbearer.allowed.urls", &url),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("sasl.oauthbearer.expected.issuer", ISSUER),
    ];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let ask = |issuer: &Arc<Issuer>| connect(&at, None, issuer.client("ES256", ISSUER, 600));
    assert_eq!(told(&ask(&old)).await.unwrap(), at.port);
    server.reply(Reply::ok(&new.jwks()));
    let why = refused(&ask(&new)).await;
    assert!(why.contains("OAUTHBEARER: authentication failed"), "{why}");
    while told(&ask(&new)).await.is_err() {}
    assert_eq!(server.asked().len(), 2, "however often the token came");
    assert!(told(&ask(&old)).await.is_err(), "the old key is not the issuer's any more");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_those_who_come_later() {
    let certificates = Certificates::new();
    certificates.root("new");
    let dir = tempfile::tempdir().unwrap();
    let both = certificates.text("broker.both");
    let settings = [("listeners", "SSL://127.0.0.1:0"), ("ssl.keystore.location", both.as_str())];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let options = |root: &str| certificates.options(root, None);
    let before = connect(&at, Some(&options("ca")), None);
    assert_eq!(told(&before).await.unwrap(), at.port);
    assert!(told(&connect(&at, Some(&options("new")), None)).await.is_err());
    // What cannot be used changes nothing.
    std::fs::write(&both, "no certificate").unwrap();
    certificates.signed("broker", "new", "/CN=broker", 365);
    while told(&connect(&at, Some(&options("new")), None)).await.is_err() {}
    assert!(told(&connect(&at, Some(&options("ca")), None)).await.is_err());
    assert_eq!(told(&before).await.unwrap(), at.port, "who was there stays");
    broker.shutdown().await.unwrap();
}

/// Sets settings of a broker, or of all of them; what is said against it.
async fn alter(admin: &Connection, broker: &str, settings: &[(&str, &str)]) -> Option<String> {
    let change = |&(name, value): &(&str, &str)| AlterableConfig {
        name: name.to_owned(),
        config_operation: i8::from(value.is_empty()),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
    };
    let resource = AlterConfigsResource {
        resource_type: Resource::BROKER,
        resource_name: broker.to_owned(),
        configs: settings.iter().map(change).collect(),
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let told = admin.call(request, PATIENCE).await.unwrap().responses.remove(0);
    assert_eq!(told.error_code == 0, told.error_message.is_none(), "{told:?}");
    told.error_message
}

async fn described(admin: &Connection) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource {
        resource_type: Resource::BROKER,
        resource_name: "1".to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    admin.call(request, PATIENCE).await.unwrap().results.remove(0).configs
}

#[tokio::test]
async fn certificates_are_altered_at_once_or_stay_as_they_were() {
    const OWN: &str = "listener.name.ssl.ssl.keystore.location";
    let certificates = Certificates::new();
    certificates.root("new");
    certificates.signed("next", "new", "/CN=broker", 365);
    let read = |name: &str| std::fs::read(certificates.path(name)).unwrap();
    let mixed = [read("broker.crt"), read("next.key")].concat();
    std::fs::write(certificates.path("mixed.both"), mixed).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let both = certificates.text("broker.both");
    let settings = [
        ("listeners", "SSL://127.0.0.1:0,OTHER://127.0.0.1:0"),
        ("listener.security.protocol.map", "SSL:SSL,OTHER:SSL"),
        ("ssl.keystore.location", both.as_str()),
    ];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints().to_vec();
    let ask =
        |at: &Endpoint, root: &str| connect(at, Some(&certificates.options(root, None)), None);
    let admin = ask(&at[0], "ca");
    let (next, mixed) = (certificates.text("next.both"), certificates.text("mixed.both"));
    let without_key = certificates.text("ca.pem");
    // The same, whether there is a file or not, and whatever stands in it.
    let unusable = "listener SSL: its stores cannot be used: this broker's log says why";
    for (to, name, value, want) in [
        ("1", OWN, "/nowhere/a.pem", unusable),
        ("1", OWN, "/dev/null", unusable),
        ("1", OWN, dir.path().to_str().unwrap(), unusable),
        ("1", OWN, without_key.as_str(), unusable),
        ("1", OWN, mixed.as_str(), unusable),
        ("1", "listener.name.ssl.ssl.keystore.type", "JKS", "stores are read as PEM alone"),
        ("1", "ssl.keystore.key", "x", "leave out one of them"),
        ("1", "listener.name.nobody.ssl.keystore.location", &next, "there is no listener NOBODY"),
        ("1", "listener.name.SSL.ssl.keystore.location", &next, "listener.name.SSL.ssl.keystore"),
        ("1", "listener.name.ssl.ssl.client.auth", "required", "cannot be changed while running"),
        ("", OWN, next.as_str(), "is each broker's own"),
        ("", "ssl.keystore.location", next.as_str(), "is each broker's own"),
    ] {
        let told = alter(&admin, to, &[(name, value)]).await.unwrap();
        assert!(told.contains(want), "{told}");
        assert_eq!(told_port(&ask(&at[0], "ca")).await, Some(at[0].port), "{told}");
    }
    assert_eq!(alter(&admin, "1", &[(OWN, &next)]).await, None);
    assert_eq!(told_port(&ask(&at[0], "new")).await, Some(at[0].port), "at once");
    assert_eq!(told_port(&ask(&at[0], "ca")).await, None);
    assert_eq!(told_port(&ask(&at[1], "ca")).await, Some(at[1].port), "another listener's");
    assert_eq!(told_port(&admin).await, Some(at[0].port), "who was there stays");
    let own = described(&admin).await.into_iter().find(|it| it.name == OWN).unwrap();
    // From this broker's own settings.
    assert_eq!((own.value, own.config_source, own.read_only), (Some(next), 2, false));
    broker.shutdown().await.unwrap();

    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints().to_vec();
    let admin = ask(&at[0], "new");
    assert_eq!(told_port(&admin).await, Some(at[0].port), "from the start on");
    assert_eq!(alter(&admin, "1", &[(OWN, "")]).await, None);
    assert_eq!(told_port(&ask(&at[0], "ca")).await, Some(at[0].port));
    assert_eq!(told_port(&ask(&at[0], "new")).await, None);
    broker.shutdown().await.unwrap();
}

async fn told_port(connection: &Connection) -> Option<u16> {
    told(connection).await.ok()
}

#[tokio::test]
async fn keys_that_stand_in_settings_are_described_as_null() {
    let certificates = Certificates::new();
    certificates.signed("next", "ca", "/CN=next", 365);
    let read = |name: &str| std::fs::read_to_string(certificates.path(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (read("broker.crt"), read("broker.key"));
    let settings = [
        ("listeners", "SSL://127.0.0.1:0"),
        ("ssl.keystore.certificate.chain", chain.as_str()),
        ("ssl.keystore.key", key.as_str()),
    ];
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let admin = connect(&at, Some(&certificates.options("ca", None)), None);
    let (chain, key) = (read("next.crt"), read("next.key"));
    let next = [
        ("listener.name.ssl.ssl.keystore.certificate.chain", chain.as_str()),
        ("listener.name.ssl.ssl.keystore.key", key.as_str()),
    ];
    let half = alter(&admin, "1", &[("ssl.keystore.key", "canary")]).await.unwrap();
    assert!(!half.contains("canary"), "{half}");
    assert_eq!(alter(&admin, "1", &next).await, None);
    let all = described(&admin).await;
    for (name, source) in [("ssl.keystore.key", 4), (next[1].0, 2)] {
        let one = all.iter().find(|it| it.name == name).unwrap();
        assert_eq!((one.value.as_ref(), one.config_source), (None, source), "{name}");
        assert!(one.is_sensitive && !one.read_only, "{name}");
        assert!(one.synonyms.iter().all(|it| it.value.is_none()), "{name}");
    }
    assert!(!format!("{all:?}").contains("PRIVATE KEY"));
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_keys_for_its_tokens_a_broker_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig::from_pairs([
        ("log.dir", dir.path().to_str().unwrap()),
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", "file:///nowhere/jwks.json"),
        ("sasl.oauthbearer.allowed.urls", "file:///nowhere/jwks.json"),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("sasl.oauthbearer.expected.issuer", "https://id.example"),
    ]);
    let refused = Broker::start(config.unwrap(), Outside::real()).await.unwrap_err();
    assert!(matches!(refused, crate::StartError::Keys { .. }), "{refused}");
}
