//! The audit trail of those who want to come in, and that no secret leads out: over sockets, with
//! certificates and tokens made for each test. Shell.

use std::sync::Arc;

use client::net::connection::{CallError, Connection};
use client::net::tcp::TcpConnector;
use client::net::tls::TlsConnector;
use client::net::{Connector, Endpoint};
use protocol::api::configs::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    IncrementalAlterConfigsRequest,
};
use protocol::sasl::Hash;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::filter::LevelFilter;

use super::security_tests::{
    Certificates, ISSUER, Issuer, PATIENCE, connect, plain, refused, scram, start, told,
};
use crate::api::Logged;

const CANARY: &str = "canary";

/// The events of the audit trail, once there are so many.
async fn events(logged: &Logged, count: usize) -> Vec<Value> {
    let mut events = logged.events();
    while events.len() < count {
        tokio::task::yield_now().await;
        events.extend(logged.events());
    }
    events
}

fn check(events: &[Value], principal: &str, listener: &str, error: &str) {
    assert_eq!(events.len(), 1, "{events:#?}");
    let event = &events[0];
    assert_eq!((&event["event"], &event["outcome"]), (&"authentication".into(), &"failure".into()));
    assert_eq!((&event["principal"], &event["listener"]), (&principal.into(), &listener.into()));
    assert_eq!(event["address"], "127.0.0.1");
    let told = event["error"].as_str().unwrap();
    assert!(told.contains(error), "{told}");
}

#[tokio::test]
async fn each_who_cannot_prove_who_they_are_is_one_event() {
    let certificates = Certificates::new();
    certificates.root("other");
    certificates.signed("client", "ca", "/CN=client", 365);
    certificates.signed("foreign", "other", "/CN=client", 365);
    let issuer = Issuer::new("1");
    std::fs::write(certificates.path("jwks.json"), issuer.jwks()).unwrap();
    let url = format!("file://{}", certificates.text("jwks.json"));
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,OAUTHBEARER"),
        (
            "listener.name.sasl_plaintext.plain.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"a\";",
        ),
        ("initial.scram.credentials", "SCRAM-SHA-256=[name=admin,password=a]"),
        ("sasl.oauthbearer.jwks.endpoint.url", &url),
        ("sasl.oauthbearer.allowed.urls", &url),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("sasl.oauthbearer.expected.issuer", ISSUER),
        ("ssl.keystore.location", &certificates.text("broker.both")),
        ("ssl.truststore.location", &certificates.text("ca.pem")),
        ("listener.name.ssl.ssl.client.auth", "required"),
    ];
    let logged = Logged::from(LevelFilter::INFO);
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints();
    assert!(logged.events().is_empty());
    for (sasl, principal, error) in [
        (plain("alice", "b"), "User:alice", "PLAIN: invalid credentials"),
        (plain("bob", "a"), "User:bob", "PLAIN: invalid credentials"),
        (plain("eve\nlevel=INFO", "a"), "User:eve\\nlevel=INFO", "PLAIN: invalid credentials"),
        (scram(Hash::Sha256, "admin", "b"), "User:admin", "SCRAM-SHA-256: invalid credentials"),
        (scram(Hash::Sha256, "eve", "b"), "User:eve", "SCRAM-SHA-256: invalid credentials"),
        (scram(Hash::Sha512, "eve", "b"), "User:ANONYMOUS", "SCRAM-SHA-512"),
        (issuer.client("ES256", ISSUER, -600), "User:ANONYMOUS", "the token has expired"),
        (None, "User:ANONYMOUS", "came before authentication"),
    ] {
        refused(&connect(&at[0], None, sasl)).await;
        check(&events(&logged, 1).await, principal, "SASL_PLAINTEXT", error);
    }
    for own in [None, Some("foreign")] {
        let options = certificates.options("ca", own);
        assert!(told(&connect(&at[1], Some(&options), None)).await.is_err());
        check(&events(&logged, 1).await, "User:ANONYMOUS", "SSL", "TLS: ");
    }
    // Who proves it is told of to those who ask for everything.
    assert!(told(&connect(&at[0], None, plain("alice", "a"))).await.is_ok());
    assert!(logged.events().is_empty());
    drop(logged);
    let logged = Logged::from(LevelFilter::DEBUG);
    let options = certificates.options("ca", Some("client"));
    assert!(told(&connect(&at[0], None, plain("alice", "a"))).await.is_ok());
    assert!(told(&connect(&at[1], Some(&options), None)).await.is_ok());
    let proved = logged.events();
    let names: Vec<_> = proved.iter().map(|it| it["principal"].as_str().unwrap()).collect();
    assert_eq!(names, ["User:alice", "User:CN=client"]);
    broker.shutdown().await.unwrap();
}

/// What a scraper is told at the port of metrics.
async fn scraped(at: &Endpoint, header: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect((&*at.host, at.port)).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

/// What who alters secrets and asks for them is told.
async fn altered_and_described(alice: &Connection) -> String {
    let mut answers = String::new();
    let config = |(name, value): (&str, &str)| AlterableConfig {
        name: name.to_owned(),
        config_operation: 0,
        value: Some(value.to_owned()),
    };
    for setting in [
        ("sasl.jaas.config", CANARY),
        ("ssl.keystore.key", CANARY),
        ("listener.name.sasl_plaintext.plain.sasl.jaas.config", CANARY),
        ("initial.scram.credentials", CANARY),
        ("metrics.bearer.token", CANARY),
        ("of.no.release", CANARY),
    ] {
        let resource = AlterConfigsResource {
            resource_type: 4,
            resource_name: "1".to_owned(),
            configs: vec![config(setting)],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let altered: Result<_, CallError> = alice.call(request, PATIENCE).await;
        answers.push_str(&format!("{altered:?}"));
    }
    let all = DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".to_owned(),
        configuration_keys: None,
    };
    let all = DescribeConfigsRequest {
        resources: vec![all],
        include_synonyms: true,
        include_documentation: true,
    };
    let described = format!("{:?}", alice.call(all, PATIENCE).await.unwrap());
    assert!(described.contains("ssl.keystore.password"), "{described}");
    answers.push_str(&described);
    answers
}

/// A secret in each setting, request and credential that can hold one: it is in no log of any level,
/// no error, no description and no metric.
#[tokio::test]
async fn no_secret_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let jaas = format!("{module} user_alice=\"{CANARY}\";");
    let base64 = "Authorization: Basic YTpjYW5hcnk=";
    let settings = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256"),
        ("sasl.jaas.config", &*jaas),
        ("listener.name.sasl_plaintext.plain.sasl.jaas.config", &*jaas),
        ("initial.scram.credentials", "SCRAM-SHA-256=[name=admin,password=canary]"),
        ("ssl.keystore.key", CANARY),
        ("ssl.keystore.certificate.chain", CANARY),
        ("ssl.keystore.password", CANARY),
        ("ssl.key.password", CANARY),
        ("ssl.truststore.certificates", CANARY),
        ("ssl.truststore.password", CANARY),
        ("metrics.listener", "127.0.0.1:0"),
        ("metrics.basic.auth", "a:canary"),
        ("metrics.bearer.token", CANARY),
    ];
    let logged = Logged::from(LevelFilter::TRACE);
    let broker = start(dir.path(), &settings).await;
    let at = broker.endpoints()[0].clone();
    let mut answers = String::new();
    for sasl in [
        plain("alice", "canary2"),
        plain("eve", CANARY),
        scram(Hash::Sha256, "admin", "canary2"),
        Some(client::net::Credentials::bearer(|| async {
            Ok(protocol::secret::Secret::new("canary.canary.canary"))
        })),
    ] {
        answers.push_str(&refused(&connect(&at, None, sasl)).await);
    }
    let alice = connect(&at, None, plain("alice", CANARY));
    assert!(told(&alice).await.is_ok());
    assert!(told(&connect(&at, None, scram(Hash::Sha256, "admin", CANARY))).await.is_ok());

    answers.push_str(&altered_and_described(&alice).await);
    let metrics = broker.metrics_endpoint().unwrap().clone();
    answers.push_str(&scraped(&metrics, "Authorization: Bearer canary2").await);
    let page = scraped(&metrics, base64).await;
    assert!(page.contains("millstream_audit_events_total{event=\"authentication\"} "), "{page}");
    answers.push_str(&page);
    broker.shutdown().await.unwrap();

    let text = logged.text();
    assert!(text.lines().count() > 50, "everything was logged: {text}");
    for (what, text) in [("logs", &text), ("answers", &answers)] {
        for secret in [CANARY, "Y2FuYXJ5", "YTpjYW5hcnk"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} in {what}: {line:?}");
        }
    }
}

#[tokio::test]
async fn the_port_of_metrics_is_encrypted_and_asks_who_it_is_where_the_settings_say_so() {
    let certificates = Certificates::new();
    certificates.root("other");
    certificates.signed("client", "ca", "/CN=client", 365);
    certificates.signed("foreign", "other", "/CN=client", 365);
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,METRICS:SSL"),
        ("listener.name.metrics.ssl.keystore.location", &certificates.text("broker.both")),
        ("listener.name.metrics.ssl.truststore.location", &certificates.text("ca.pem")),
        ("listener.name.metrics.ssl.client.auth", "required"),
        // Beyond loopback, which a certificate is guard enough for.
        ("metrics.listener", "0.0.0.0:0"),
    ];
    let logged = Logged::from(LevelFilter::INFO);
    let broker = start(dir.path(), &settings).await;
    let at = Endpoint::new("localhost", broker.metrics_endpoint().unwrap().port);
    for (own, is_let_in) in [(Some("client"), true), (Some("foreign"), false), (None, false)] {
        let options = certificates.options("ca", own);
        let connector = TlsConnector::new(Arc::new(TcpConnector), &options).unwrap();
        let mut page = String::new();
        if let Ok(mut stream) = connector.connect(&at).await {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await;
            let _ = stream.read_to_string(&mut page).await;
        }
        assert_eq!(page.starts_with("HTTP/1.0 200 "), is_let_in, "{own:?}: {page}");
        if !is_let_in {
            check(&events(&logged, 1).await, "User:ANONYMOUS", "METRICS", "TLS: ");
        }
    }
    // In clear nothing is told.
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", at.port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let mut page = Vec::new();
    let _ = stream.read_to_end(&mut page).await;
    assert!(!page.starts_with(b"HTTP"));
    broker.shutdown().await.unwrap();
}
