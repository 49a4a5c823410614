//! Our client, Streams and Connect at listeners of Apache Kafka's that encrypt and ask who comes.
//!
//! The broker has its own certificate, users of PLAIN and SCRAM, and believes tokens that nobody
//! signed. Certificates are made by openssl. Shell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use client::config::SecurityConfig;
use client::{Admin, Bootstrap, CommitOutcome, GroupMetadata, Producer, ProducerRecord};
use connect::config::WorkerConfig;
use connect::sdk::Config;
use connect::{Standalone, registry::Registry};
use harness::certificates::{make_certificates, openssl};
use harness::kafka::{KafkaProcess, java};
use harness::process::output;
use protocol::ids::{Offset, TopicPartition};
use serde_json::json;
use streams::runtime::App;
use streams::{StreamsBuilder, Topic, Unit, Utf8};

use crate::cluster::{Cluster, PATIENCE, append, listen, poll_values};

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
const BEARER: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

/// A broker with a listener for certificates and one for SASL, and what is needed to come in.
struct Secured {
    dir: tempfile::TempDir,
    ssl: String,
    sasl_ssl: String,
    _kafka: KafkaProcess,
}

/// Behind a lock, as what the broker prints is for one reader.
static SECURED: LazyLock<Option<Mutex<Secured>>> =
    LazyLock::new(|| Secured::start().expect("Apache Kafka starts").map(Mutex::new));

impl Secured {
    fn start() -> anyhow::Result<Option<Self>> {
        listen();
        let dir = tempfile::tempdir()?;
        make_certificates(dir.path())?;
        make_token(dir.path())?;
        let text = |name: &str| dir.path().join(name).display().to_string();
        let line = "listener.name.sasl_ssl";
        let settings = [
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", text("broker.both")),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", text("ca.pem")),
            "listener.name.ssl.ssl.client.auth=required".to_owned(),
            format!("{line}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER"),
            format!("{line}.plain.sasl.jaas.config={PLAIN} required user_alice=\"a-secret\";"),
            format!("{line}.scram-sha-512.sasl.jaas.config={SCRAM} required;"),
            format!(
                "{line}.oauthbearer.sasl.jaas.config={BEARER} required \
                 unsecuredLoginStringClaim_sub=\"broker\";"
            ),
        ];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let started = KafkaProcess::start_with(&["SSL", "SASL_SSL"], &settings)?;
        let Some(kafka) = started else { return Ok(None) };
        let mut users = java("kafka.admin.ConfigCommand")?.expect("Kafka is installed");
        users.args(["--bootstrap-server", kafka.endpoint(), "--alter", "--entity-type", "users"]);
        let credential = "SCRAM-SHA-512=[iterations=4096,password=a-secret]";
        output(users.args(["--entity-name", "alice", "--add-config", credential]))?;
        let [ssl, sasl_ssl] = kafka.more_endpoints() else { anyhow::bail!("two listeners") };
        let (ssl, sasl_ssl) = (ssl.clone(), sasl_ssl.clone());
        Ok(Some(Self { dir, ssl, sasl_ssl, _kafka: kafka }))
    }

    fn text(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Who trusts `root`, and shows `own` or says who it is by `sasl`.
    fn client(&self, root: &str, own: Option<&str>, sasl: &[(&str, &str)]) -> Cluster {
        let is_sasl = !sasl.is_empty();
        let protocol = if is_sasl { "SASL_SSL" } else { "SSL" };
        let mut pairs: BTreeMap<String, String> = BTreeMap::from([
            ("security.protocol".to_owned(), protocol.to_owned()),
            ("ssl.truststore.location".to_owned(), self.text(&format!("{root}.pem"))),
        ]);
        pairs.extend(sasl.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        if let Some(own) = own {
            pairs.insert("ssl.keystore.location".to_owned(), self.text(&format!("{own}.both")));
        }
        let endpoint = if is_sasl { &self.sasl_ssl } else { &self.ssl };
        Cluster { endpoint: endpoint.clone(), security: SecurityConfig::of(pairs).unwrap() }
    }

    fn with_password(&self, mechanism: &str, name: &str, password: &str) -> Cluster {
        let class = if mechanism == "PLAIN" { PLAIN } else { SCRAM };
        let jaas = format!("{class} required username=\"{name}\" password=\"{password}\";");
        self.client("ca", None, &[("sasl.mechanism", mechanism), ("sasl.jaas.config", &jaas)])
    }

    fn with_token(&self, file: &str) -> Cluster {
        let url = format!("file://{}", self.text(file));
        let sasl = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", url.as_str()),
            ("sasl.oauthbearer.allowed.urls", url.as_str()),
        ];
        self.client("ca", None, &sasl)
    }
}

/// A token that nobody signed, valid for an hour from now, and one that is over.
fn make_token(dir: &Path) -> anyhow::Result<()> {
    let now = client::time::real_clock().now().wall.0 / 1000;
    for (file, until) in [("token", now + 3600), ("old-token", now - 3600)] {
        let claims = json!({"sub": "alice", "iat": now - 7200, "exp": until}).to_string();
        let mut parts = Vec::new();
        for part in [r#"{"alg":"none"}"#, &claims] {
            std::fs::write(dir.join("part"), part)?;
            let coded = openssl(dir, &["base64", "-A", "-in", "part"])?;
            let coded = coded.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
            parts.push(coded);
        }
        std::fs::write(dir.join(file), format!("{}.", parts.join(".")))?;
    }
    Ok(())
}

/// What each test asks of the broker; without Kafka it asks nothing.
fn secured<T>(ask: impl FnOnce(&Secured) -> T) -> Option<T> {
    Some(ask(&SECURED.as_ref()?.lock().unwrap()))
}

/// Writes in a transaction, and reads it as a member of a group.
async fn write_and_read(cluster: &Cluster) {
    let topic = cluster.topic(2).await;
    let (id, group) = (cluster.name("id"), cluster.name("group"));
    let mut producer: Producer = cluster.producer(&[("transactional.id", &id)]).await;
    producer.init_transactions().await.unwrap();
    producer.begin().unwrap();
    for value in ["one", "two"] {
        append(&mut producer, &ProducerRecord::new(&topic, value).key("key")).await;
    }
    let offsets = BTreeMap::from([(TopicPartition::new(topic.as_str(), 1), Offset(0).into())]);
    producer.send_offsets(offsets, &GroupMetadata::simple(cluster.name("other"))).await.unwrap();
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    producer.close().await.unwrap();
    let settings = [("group.id", group.as_str()), ("isolation.level", "read_committed")];
    let mut consumer = cluster.consumer(&settings).await;
    consumer.subscribe([topic.as_str()]);
    assert_eq!(poll_values(&mut consumer, 2).await, ["one", "two"]);
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_certificate_password_or_token_records_groups_and_transactions_work() {
    let Some(ways) = secured(|it| {
        [
            it.client("ca", Some("client"), &[]),
            it.with_password("PLAIN", "alice", "a-secret"),
            it.with_password("SCRAM-SHA-512", "alice", "a-secret"),
            it.with_token("token"),
        ]
    }) else {
        return;
    };
    for way in &ways {
        write_and_read(way).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_in_is_told_what_to_do() {
    let password = "look at the username and the password";
    let Some(cases) = secured(|it| {
        let scram = [("sasl.mechanism", "SCRAM-SHA-256"), ("sasl.username", "alice")];
        let scram = [&scram[..], &[("sasl.password", "a-secret")]].concat();
        [
            (it.with_password("PLAIN", "alice", "wrong"), password),
            (it.with_password("SCRAM-SHA-512", "alice", "wrong"), password),
            (it.with_password("SCRAM-SHA-512", "nobody", "a-secret"), password),
            (it.client("ca", None, &scram), "set sasl.mechanism to one of these"),
            (it.with_token("old-token"), "look at whom the token is for"),
            (it.client("stranger", Some("client"), &[]), "set ssl.truststore.location"),
            (it.client("ca", None, &[]), "set ssl.keystore.location"),
            (it.client("ca", Some("foreign"), &[]), "set ssl.keystore.location"),
        ]
    }) else {
        return;
    };
    for (case, want) in cases {
        let told = Admin::connect(case.bootstrap(), PATIENCE).await.map(drop);
        let told = told.expect_err(want).to_string();
        assert!(told.contains(want), "{told}");
        assert!(!told.contains("a-secret") && !told.contains("wrong"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_connect_come_in_by_the_same_settings() {
    let Some(cluster) = secured(|it| it.with_password("SCRAM-SHA-512", "alice", "a-secret")) else {
        return;
    };
    let (lines, loud) = (cluster.topic(1).await, cluster.topic(1).await);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lines.txt"), "one\ntwo\n").unwrap();
    let source = json!({
        "name": "files", "connector": "file-source", "topic": lines, "paths": [dir.path()],
    });
    let source = Config::parse("source", &source.to_string()).unwrap();
    let registry =
        Registry::default().with(connectors::file::FILE_SOURCE, connectors::file::file_source);
    let worker = WorkerConfig {
        offsets_partitions: 1,
        offsets_topic: cluster.name("connect-offsets").into(),
        ..WorkerConfig::new(cluster.bootstrap())
    };
    let running = Standalone::new(worker, registry).run(&[source]).await.unwrap();

    let builder = StreamsBuilder::new();
    builder
        .stream(&Topic::new(lines.as_str(), Unit, Utf8))
        .map(|(), line: String| ((), line.to_uppercase()))
        .to(&Topic::new(loud.as_str(), Unit, Utf8));
    let app = App::new(cluster.name("app"), builder.build().unwrap());
    let bootstrap: Bootstrap = cluster.bootstrap();
    let app = app.connect_with(bootstrap).start().await.unwrap();

    let group = cluster.name("group");
    let settings = [("group.id", group.as_str()), ("isolation.level", "read_committed")];
    let mut consumer = cluster.consumer(&settings).await;
    consumer.subscribe([loud.as_str()]);
    assert_eq!(poll_values(&mut consumer, 2).await, ["ONE", "TWO"]);
    consumer.close().await.unwrap();
    app.shutdown(PATIENCE).await.unwrap();
    running.stop().await;
}
