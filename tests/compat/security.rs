//! Foreign clients at listeners that encrypt and ask who they are: kcat, confluent-kafka, Kafka's
//! own tools, openssl, and our commands. Certificates and tokens are made by openssl.
//!
//! Shell.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use harness::certificates::{make_certificates, openssl};
use harness::kafka::java;
use harness::process::{BrokerProcess, binary, output, python};

/// A broker with two secured listeners, and all that is needed to come in.
struct Secured {
    dir: tempfile::TempDir,
    broker: BrokerProcess,
    ssl: String,
    sasl_ssl: String,
}

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                     user_alice=\"alice-secret\";";

impl Secured {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        make_certificates(dir.path())?;
        make_jwks(dir.path())?;
        let text = |name: &str| dir.path().join(name).display().to_string();
        let url = format!("file://{}", text("jwks.json"));
        let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|it| format!("{it}=[name=alice,password=alice-secret]"));
        let settings = [
            "listeners=SSL://localhost:0,SASL_SSL://localhost:0".to_owned(),
            format!("ssl.keystore.location={}", text("broker.both")),
            format!("ssl.truststore.location={}", text("ca.pem")),
            "listener.name.ssl.ssl.client.auth=requested".to_owned(),
            "ssl.principal.mapping.rules=RULE:^CN=(.*?),.*$/$1/".to_owned(),
            "listener.name.sasl_ssl.sasl.enabled.mechanisms=\
             PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
                .to_owned(),
            format!("listener.name.sasl_ssl.plain.sasl.jaas.config={PLAIN}"),
            format!("initial.scram.credentials={}", users.join(";")),
            format!("sasl.oauthbearer.jwks.endpoint.url={url}"),
            format!("sasl.oauthbearer.allowed.urls={url}"),
            "sasl.oauthbearer.expected.audience=kafka".to_owned(),
            "sasl.oauthbearer.expected.issuer=https://id.example".to_owned(),
            "group.initial.rebalance.delay.ms=0".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let broker = BrokerProcess::start(&dir.path().join("data"), &settings)?;
        let [ssl, sasl_ssl] = broker.endpoints() else { anyhow::bail!("expected two listeners") };
        let (ssl, sasl_ssl) = (ssl.clone(), sasl_ssl.clone());
        Ok(Self { dir, broker, ssl, sasl_ssl })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of settings as Kafka's tools take it.
    fn command_config(&self, username: &str, password: &str) -> anyhow::Result<String> {
        let text = format!(
            "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"{username}\" password=\"{password}\";\n",
            self.text("ca.pem")
        );
        let path = self.path(&format!("{username}.properties"));
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

/// The key by which tokens are signed, another, and what is published of the first.
fn make_jwks(dir: &Path) -> anyhow::Result<()> {
    for key in ["jwks.key", "other.key"] {
        openssl(dir, &["genrsa", "-out", key, "2048"])?;
    }
    let modulus = openssl(dir, &["rsa", "-in", "jwks.key", "-noout", "-modulus"])?;
    let hex = modulus.trim().strip_prefix("Modulus=").context("a modulus")?;
    let digits: Result<Vec<u8>, _> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect();
    std::fs::write(dir.join("modulus"), digits?)?;
    let coded = openssl(dir, &["base64", "-A", "-in", "modulus"])?;
    let coded = coded.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let set = format!(r#"{{"keys":[{{"kty":"RSA","kid":"1","e":"AQAB","n":"{coded}"}}]}}"#);
    Ok(std::fs::write(dir.join("jwks.json"), set)?)
}

#[test]
fn confluent_kafka_comes_in_by_every_mechanism_and_is_refused_where_it_must() -> anyhow::Result<()>
{
    let secured = Secured::start()?;
    let path = format!("{}/python/confluent_security.py", env!("CARGO_MANIFEST_DIR"));
    let dir = secured.dir.path().display().to_string();
    let arguments = [&path, &dir, &secured.ssl, &secured.sasl_ssl];
    let said = output(Command::new(python()?).args(arguments))?;
    ensure!(said.lines().last() == Some("ok"), "{said}");
    secured.broker.stop()
}

/// Not by SCRAM: librdkafka before 2.6.1, which Debian's kcat is of, repeats the wrong nonce, and
/// Kafka 4 refuses that, too.
#[test]
fn kcat_comes_in_by_certificate_and_by_plain() -> anyhow::Result<()> {
    let secured = Secured::start()?;
    let ca = format!("ssl.ca.location={}", secured.text("ca.pem"));
    let own = [
        format!("ssl.certificate.location={}", secured.text("client.crt")),
        format!("ssl.key.location={}", secured.text("client.key")),
    ];
    let names = ["sasl.username=alice", "sasl.password=alice-secret"];
    let ssl = ["security.protocol=ssl", ca.as_str()];
    let sasl = ["security.protocol=sasl_ssl", ca.as_str(), names[0], names[1]];
    let with = |base: &[&str], more: &[&str]| {
        base.iter().chain(more).map(|it| (*it).to_owned()).collect::<Vec<String>>()
    };
    for (at, settings) in [
        (&secured.ssl, with(&ssl, &[])),
        (&secured.ssl, with(&ssl, &[&own[0], &own[1]])),
        (&secured.sasl_ssl, with(&sasl, &["sasl.mechanisms=PLAIN"])),
    ] {
        let mut command = Command::new("kcat");
        command.args(["-b", at, "-L", "-J"]);
        for setting in &settings {
            command.args(["-X", setting]);
        }
        let listed = output(&mut command)?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        // Who came by one listener is told of that one.
        ensure!(listed["brokers"][0]["name"] == at.as_str(), "{settings:?}: {listed}");
    }
    secured.broker.stop()
}

#[test]
fn openssl_is_refused_with_old_protocols_and_foreign_expired_and_missing_certificates()
-> anyhow::Result<()> {
    let secured = Secured::start()?;
    // How s_client ends when the broker says nothing against it: standard input is empty.
    let shakes = |arguments: &[&str]| -> anyhow::Result<bool> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &secured.ssl, "-CAfile", "ca.pem", "-brief"]);
        command.args(["-verify_return_error", "-ign_eof"]).args(arguments);
        let child = command.current_dir(&secured.dir).stdin(Stdio::piped());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // No request of Kafka's: a broker that let us in ends the connection without an alert.
        use std::io::Write;
        child.stdin.take().context("its input")?.write_all(b"GET / HTTP/1.0\r\n\r\n\r\n\r\n").ok();
        let said = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        Ok(said.contains("CONNECTION ESTABLISHED") && !said.contains("alert"))
    };
    ensure!(shakes(&[])?);
    ensure!(shakes(&["-tls1_2"])?);
    ensure!(shakes(&["-tls1_3"])?);
    ensure!(shakes(&["-cert", "client.crt", "-key", "client.key"])?);
    for old in ["-tls1", "-tls1_1"] {
        ensure!(!shakes(&[old, "-cipher", "DEFAULT@SECLEVEL=0"])?, "{old}");
    }
    for own in ["foreign", "expired"] {
        let (crt, key) = (format!("{own}.crt"), format!("{own}.key"));
        for version in ["-tls1_2", "-tls1_3"] {
            ensure!(!shakes(&[version, "-cert", &crt, "-key", &key])?, "{own} {version}");
        }
    }
    secured.broker.stop()
}

#[test]
fn kafkas_tools_and_our_commands_keep_users_of_scram() -> anyhow::Result<()> {
    if java("kafka.admin.ConfigCommand")?.is_none() {
        return Ok(());
    }
    let secured = Secured::start()?;
    let alice = secured.command_config("alice", "alice-secret")?;
    let configs = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut command = java("kafka.admin.ConfigCommand")?.context("asked before")?;
        command.args(["--bootstrap-server", &secured.sasl_ssl, "--command-config", &alice]);
        output(command.args(arguments).args(["--entity-type", "users"]))
    };
    let bob = ["--entity-name", "bob"];
    let add = "SCRAM-SHA-512=[iterations=8192,password=bob-secret]";
    let said = configs(&[&["--alter", "--add-config", add][..], &bob].concat())?;
    ensure!(said.contains("Completed updating config for user bob"), "{said}");
    let said = configs(&[&["--describe"][..], &bob].concat())?;
    ensure!(said.contains("SCRAM-SHA-512=iterations=8192"), "{said}");
    let millstream = |config: &str| -> anyhow::Result<String> {
        let mut command = Command::new(binary("millstream")?);
        command.args(["topic", "list", "--bootstrap-server", &secured.sasl_ssl]);
        output(command.args(["--command-config", config]))
    };
    millstream(&alice)?;
    millstream(&secured.command_config("bob", "bob-secret")?)?;
    let wrong = millstream(&secured.command_config("bob", "alice-secret")?);
    let wrong = format!("{:#}", wrong.err().context("let in by a wrong password")?);
    ensure!(wrong.contains("authentication failed"), "{wrong}");
    configs(&[&["--alter", "--delete-config", "SCRAM-SHA-512"][..], &bob].concat())?;
    let gone = millstream(&secured.command_config("bob", "bob-secret")?);
    ensure!(gone.is_err(), "bob came in after he was deleted");
    secured.broker.stop()
}
