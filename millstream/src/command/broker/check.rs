//! `millstream broker --check`: which doors of a broker are open, by its settings and its files.
//!
//! A [`Finding`] names the setting or file, what is open, and what to do. What follows from the
//! settings and from [`Facts`] about files alone is decided here; reading the files is for the
//! caller. A broker that only this machine reaches needs no lock on its doors: of it only what other
//! users of the machine could read is told. Pure.

use broker::config::{
    BrokerConfig, ClientAuth, ListenerSettings, METRICS, TlsSettings, is_loopback,
};
use protocol::sasl::Mechanism;
use protocol::security::SecurityProtocol;
use protocol::security::store::Pem;
use protocol::time::Timestamp;

/// A certificate that expires in less time is told of.
const CERTIFICATE_DAYS_MIN: i64 = 30;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What is wrong with a secret in the arguments of a program.
pub(super) const SEEN_BY_ALL: &str =
    "every user of this machine sees its value in the list of processes";

/// What may others do: the last three bits of a file's mode.
const OTHERS: u32 = 0o007;
const OTHERS_READ: u32 = 0o004;
/// Who is not the owner may write.
const WRITABLE: u32 = 0o022;

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileFact {
    /// Where it is.
    pub(super) path: String,
    /// Its permissions.
    pub(super) mode: u32,
}

/// A certificate that a listener shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateFact {
    /// Which listener.
    pub(super) listener: String,
    /// When it expires, or why that is not known.
    pub(super) expires: Result<Timestamp, String>,
}

/// What is known beyond the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The time now.
    pub(super) now: Timestamp,
    /// The file of settings, and the names of the secrets in it.
    pub(super) settings: Option<(FileFact, Vec<String>)>,
    /// The names of the secrets that were given as arguments.
    pub(super) arguments: Vec<String>,
    /// The directory of data, if it is there.
    pub(super) data: Option<FileFact>,
    /// Files of keys and certificates that are there.
    pub(super) keys: Vec<FileFact>,
    /// Files of keys by which tokens are verified.
    pub(super) issuers: Vec<FileFact>,
    /// Certificates, by listener.
    pub(super) certificates: Vec<CertificateFact>,
}

/// A door that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What kind it is, for programs.
    pub(super) kind: &'static str,
    /// The setting or file.
    pub(super) subject: String,
    /// What is open.
    pub(super) found: String,
    /// What to do.
    pub(super) advice: String,
}

fn finding(kind: &'static str, subject: impl Into<String>, found: &str, advice: &str) -> Finding {
    Finding { kind, subject: subject.into(), found: found.to_owned(), advice: advice.to_owned() }
}

/// The listeners that other machines reach, each with how it is secured.
fn reached(config: &BrokerConfig) -> Vec<(String, ListenerSettings)> {
    let far = config.listen_on().into_iter().filter(|on| !is_loopback(&on.host));
    far.filter_map(|on| Some((on.to_string(), config.listener(&on.listener).ok()?))).collect()
}

/// True when nobody needs to say who they are.
fn is_anonymous(settings: &ListenerSettings) -> bool {
    let shows = |tls: &TlsSettings| tls.client_auth == ClientAuth::Required;
    !settings.protocol.has_sasl() && !settings.tls.as_ref().is_some_and(shows)
}

/// Everything that is open.
pub(super) fn findings(config: &BrokerConfig, facts: &Facts) -> Vec<Finding> {
    let reached = reached(config);
    let mut found = Vec::new();
    for (name, settings) in &reached {
        of_listener(name, settings, &mut found);
    }
    of_authorization(config, &reached, &mut found);
    of_metrics(config, &mut found);
    of_tls(config, &mut found);
    of_arguments(facts, &mut found);
    of_files(config, facts, &mut found);
    of_certificates(facts, &mut found);
    found
}

fn of_listener(name: &str, settings: &ListenerSettings, found: &mut Vec<Finding>) {
    match settings.protocol {
        SecurityProtocol::Plaintext => found.push(finding(
            "plaintext-listener",
            name,
            "other machines reach it, nothing is encrypted, and nobody is asked who they are",
            "speak SASL_SSL there (listener.security.protocol.map), or listen on localhost",
        )),
        SecurityProtocol::SaslPlaintext => {
            let is_plain = settings.mechanisms.contains_key(&Mechanism::Plain);
            let is_bearer = settings.mechanisms.contains_key(&Mechanism::OAuthBearer);
            if is_plain || is_bearer {
                found.push(finding(
                    "secrets-in-clear",
                    name,
                    "passwords of PLAIN and tokens of OAUTHBEARER cross the network in clear",
                    "speak SASL_SSL there, or offer SCRAM alone",
                ));
            }
            found.push(finding(
                "unencrypted-listener",
                name,
                "other machines reach it, and records cross the network in clear",
                "speak SASL_SSL there",
            ));
        }
        SecurityProtocol::Ssl if is_anonymous(settings) => found.push(finding(
            "anonymous-listener",
            name,
            "nobody is asked who they are",
            "set ssl.client.auth=required with ssl.truststore.location, or speak SASL_SSL",
        )),
        SecurityProtocol::Ssl | SecurityProtocol::SaslSsl => {}
    }
}

fn of_authorization(
    config: &BrokerConfig,
    reached: &[(String, ListenerSettings)],
    found: &mut Vec<Finding>,
) {
    if reached.is_empty() {
        return;
    }
    if config.authorizer_class_name.is_empty() {
        found.push(finding(
            "no-authorizer",
            "authorizer.class.name",
            "whoever comes in may do everything",
            "set it to org.apache.kafka.metadata.authorizer.StandardAuthorizer, and super.users",
        ));
    } else if config.allow_everyone_if_no_acl_found {
        found.push(finding(
            "everyone-allowed",
            "allow.everyone.if.no.acl.found",
            "everybody may do everything with what no access control list is about",
            "set it to false, and add entries for those who need them",
        ));
    }
    let mut supers = config.super_users.split(';').map(str::trim);
    if supers.any(|it| it == "User:ANONYMOUS") {
        found.push(finding(
            "anonymous-super-user",
            "super.users",
            "who has not said who they are may do everything",
            "take User:ANONYMOUS out of it",
        ));
    }
    let is_open = reached.iter().any(|(_, settings)| is_anonymous(settings));
    let may_create =
        config.authorizer_class_name.is_empty() || config.allow_everyone_if_no_acl_found;
    if config.auto_create_topics_enable && is_open && may_create {
        found.push(finding(
            "anonymous-creation",
            "auto.create.topics.enable",
            "who has not said who they are creates topics by asking for them",
            "set it to false",
        ));
    }
}

fn of_metrics(config: &BrokerConfig, found: &mut Vec<Finding>) {
    let Some(endpoint) = config.metrics_endpoint().filter(|on| !is_loopback(&on.host)) else {
        return;
    };
    let is_encrypted = config.metrics_security().is_ok_and(|it| it.is_some());
    if !config.metrics_are_guarded() {
        found.push(finding(
            "open-metrics",
            endpoint.to_string(),
            "metrics, with the names of topics, are told to all who reach it",
            "set metrics.basic.auth or metrics.bearer.token, and metrics.open.to.all=false",
        ));
    } else if !is_encrypted {
        found.push(finding(
            "metrics-in-clear",
            endpoint.to_string(),
            "credentials and metrics cross the network in clear",
            "add METRICS:SSL to listener.security.protocol.map, with listener.name.metrics.ssl.…",
        ));
    }
}

/// The listeners that are encrypted, that of metrics among them.
pub(super) fn encrypted(config: &BrokerConfig) -> Vec<(String, ListenerSettings)> {
    let of_clients = config.listen_on().into_iter();
    let of_clients = of_clients.filter_map(|on| {
        let settings = config.listener(&on.listener).ok()?;
        Some((on.listener, settings))
    });
    let metrics = config.metrics_endpoint().and(config.metrics_security().ok().flatten());
    let metrics = metrics.map(|settings| (METRICS.to_owned(), settings));
    of_clients.chain(metrics).filter(|(_, settings)| settings.tls.is_some()).collect()
}

fn of_tls(config: &BrokerConfig, found: &mut Vec<Finding>) {
    for (name, settings) in encrypted(config) {
        if !settings.config.ssl_enabled_protocols.iter().any(|it| it == "TLSv1.3") {
            found.push(finding(
                "old-tls",
                name,
                "ssl.enabled.protocols leaves out TLSv1.3",
                "add TLSv1.3",
            ));
        }
    }
}

/// The files of keys that listeners read.
pub(super) fn key_files(config: &BrokerConfig) -> Vec<String> {
    let of_tls = |tls: TlsSettings| [tls.identity.chain, tls.identity.key];
    let stores = encrypted(config).into_iter().filter_map(|(_, it)| it.tls).flat_map(of_tls);
    let mut paths: Vec<_> = stores
        .filter_map(|pem| match pem {
            Pem::File(path) => Some(path.display().to_string()),
            Pem::Text(_) => None,
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The files of keys by which listeners verify tokens.
pub(super) fn issuer_files(config: &BrokerConfig) -> Vec<String> {
    let listeners = config.listen_on().into_iter();
    let urls = listeners.filter_map(|on| {
        let settings = config.listener(&on.listener).ok()?;
        settings.config.sasl_oauthbearer_jwks_endpoint_url
    });
    let mut paths: Vec<_> =
        urls.filter_map(|url| url.strip_prefix("file://").map(str::to_owned)).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn of_arguments(facts: &Facts, found: &mut Vec<Finding>) {
    for name in &facts.arguments {
        let advice = "write it into the file that --config names, and chmod 600 that";
        found.push(finding("secret-argument", name, SEEN_BY_ALL, advice));
    }
}

fn of_files(config: &BrokerConfig, facts: &Facts, found: &mut Vec<Finding>) {
    for file in facts.keys.iter().filter(|it| it.mode & (OTHERS | WRITABLE) != 0) {
        let what = "every user of this machine, or of a group, can read or replace a private key";
        found.push(finding("open-key", &*file.path, what, "chmod 600, owned by the broker's user"));
    }
    for file in facts.issuers.iter().filter(|it| it.mode & WRITABLE != 0) {
        let what = "others than its owner can add a key, and so make tokens for anybody";
        found.push(finding("open-issuer", &*file.path, what, "chmod 644, owned by root"));
    }
    if let Some((file, secrets)) = &facts.settings {
        if file.mode & OTHERS_READ != 0 && !secrets.is_empty() {
            let what = format!("every user of this machine can read {} in it", secrets.join(", "));
            found.push(finding("open-settings", &*file.path, &what, "chmod 600"));
        }
        if file.mode & WRITABLE != 0 {
            let what = "others than its owner can change the settings";
            found.push(finding("open-settings", &*file.path, what, "chmod 600"));
        }
        if config.initial_scram_credentials.is_some()
            && secrets.iter().any(|name| name == "initial.scram.credentials")
        {
            found.push(finding(
                "initial-credentials",
                "initial.scram.credentials",
                "a password stands in the settings that is needed at the first start alone",
                "alter the password by kafka-configs once the broker runs, and take it out",
            ));
        }
    }
    if let Some(dir) = facts.data.as_ref().filter(|dir| dir.mode & OTHERS != 0) {
        let what = "every user of this machine can look into the directory of all records";
        found.push(finding("open-data", &*dir.path, what, "chmod 700, owned by the broker's user"));
    }
}

fn of_certificates(facts: &Facts, found: &mut Vec<Finding>) {
    const ADVICE: &str = "renew it; the broker takes up the new one within seconds";
    for CertificateFact { listener, expires } in &facts.certificates {
        match expires {
            Ok(at) if *at <= facts.now => {
                let what = "its certificate has expired: clients refuse it";
                found.push(finding("expired-certificate", listener, what, ADVICE));
            }
            Ok(at) => {
                let days = at.0.saturating_sub(facts.now.0) / DAY_MILLIS;
                if days < CERTIFICATE_DAYS_MIN {
                    let what = format!("its certificate expires in {days} days");
                    found.push(finding("expiring-certificate", listener, &what, ADVICE));
                }
            }
            Err(reason) => {
                let advice = "the broker would not start: put it right";
                found.push(finding("unusable-certificate", listener, reason, advice));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORIZER: (&str, &str) =
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    const KEY: (&str, &str) = ("ssl.keystore.location", "/k.pem");

    fn kinds_of(pairs: &[(&str, &str)], facts: &Facts) -> Vec<&'static str> {
        let config = BrokerConfig::from_pairs(pairs.iter().copied()).unwrap();
        let found = findings(&config, facts);
        for it in &found {
            assert!(!it.subject.is_empty() && !it.found.is_empty() && !it.advice.is_empty());
            assert!(!format!("{it:?}").contains("canary"), "{it:?}");
        }
        found.into_iter().map(|it| it.kind).collect()
    }

    fn check(pairs: &[(&str, &str)], want: &[&str]) {
        assert_eq!(kinds_of(pairs, &Facts::default()), want, "{pairs:?}");
    }

    fn on(listener: &str) -> (&str, &str) {
        ("listeners", listener)
    }

    #[test]
    fn a_broker_that_only_this_machine_reaches_has_no_open_door() {
        check(&[], &[]);
        check(&[on("PLAINTEXT://[::1]:9092"), ("metrics.listener", "127.0.0.1:1")], &[]);
    }

    #[test]
    fn each_door_to_other_machines_is_told_of() {
        let open = ["plaintext-listener", "no-authorizer", "anonymous-creation"];
        check(&[on("PLAINTEXT://:9092")], &open);
        check(
            &[on("PLAINTEXT://0.0.0.0:9092"), ("auto.create.topics.enable", "false")],
            &open[..2],
        );
        check(&[on("PLAINTEXT://:9092"), AUTHORIZER], &open[..1]);
        let lax = ("allow.everyone.if.no.acl.found", "true");
        let want = ["plaintext-listener", "everyone-allowed", "anonymous-creation"];
        check(&[on("PLAINTEXT://:9092"), AUTHORIZER, lax], &want);
        let anonymous = ("super.users", "User:admin; User:ANONYMOUS");
        let want = ["anonymous-listener", "anonymous-super-user"];
        check(&[on("SSL://:9092"), KEY, AUTHORIZER, anonymous], &want);
        let roots = ("ssl.truststore.location", "/ca.pem");
        let required = ("ssl.client.auth", "required");
        check(&[on("SSL://:9092"), KEY, AUTHORIZER, roots, required], &[]);
    }

    #[test]
    fn what_crosses_the_network_in_clear_is_told_of() {
        let scram = ("sasl.enabled.mechanisms", "SCRAM-SHA-512");
        let open = on("SASL_PLAINTEXT://:9092");
        check(&[open, scram, AUTHORIZER], &["unencrypted-listener"]);
        let plain = ("sasl.enabled.mechanisms", "PLAIN");
        let jaas = (
            "listener.name.sasl_plaintext.plain.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"canary\";",
        );
        let want = ["secrets-in-clear", "unencrypted-listener"];
        check(&[open, plain, jaas, AUTHORIZER], &want);
        check(&[on("SASL_SSL://:9092"), scram, KEY, AUTHORIZER], &[]);
        let old = ("ssl.enabled.protocols", "TLSv1.2");
        check(&[on("SASL_SSL://:9092"), scram, KEY, AUTHORIZER, old], &["old-tls"]);
    }

    #[test]
    fn metrics_that_others_reach_are_told_of() {
        let port = ("metrics.listener", ":9644");
        let token = ("metrics.bearer.token", "canary");
        check(&[port, ("metrics.open.to.all", "true")], &["open-metrics"]);
        check(&[port, token], &["metrics-in-clear"]);
        let map = ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,METRICS:SSL");
        check(&[port, token, map, KEY], &[]);
    }

    #[test]
    fn files_that_others_read_or_write_are_told_of() {
        let file = |mode| FileFact { path: "/f".to_owned(), mode };
        let secrets = || vec!["initial.scram.credentials".to_owned()];
        for (facts, want) in [
            (Facts { keys: vec![file(0o600), file(0o640)], ..Facts::default() }, &[][..]),
            (Facts { keys: vec![file(0o644)], ..Facts::default() }, &["open-key"]),
            (Facts { keys: vec![file(0o660)], ..Facts::default() }, &["open-key"]),
            (Facts { arguments: secrets(), ..Facts::default() }, &["secret-argument"]),
            (Facts { issuers: vec![file(0o644)], ..Facts::default() }, &[]),
            (Facts { issuers: vec![file(0o664)], ..Facts::default() }, &["open-issuer"]),
            (Facts { data: Some(file(0o750)), ..Facts::default() }, &[]),
            (Facts { data: Some(file(0o755)), ..Facts::default() }, &["open-data"]),
            (Facts { settings: Some((file(0o644), vec![])), ..Facts::default() }, &[]),
            (
                Facts { settings: Some((file(0o664), vec![])), ..Facts::default() },
                &["open-settings"],
            ),
            (
                Facts { settings: Some((file(0o600), secrets())), ..Facts::default() },
                &["initial-credentials"],
            ),
            (
                Facts { settings: Some((file(0o644), secrets())), ..Facts::default() },
                &["open-settings", "initial-credentials"],
            ),
        ] {
            let first = ("initial.scram.credentials", "SCRAM-SHA-256=[name=a,password=canary]");
            assert_eq!(kinds_of(&[first], &facts), want, "{facts:?}");
        }
    }

    #[test]
    fn certificates_that_expire_soon_are_told_of() {
        let now = Timestamp(1000 * DAY_MILLIS);
        for (expires, want) in [
            (Ok(30), &[][..]),
            (Ok(29), &["expiring-certificate"]),
            (Ok(0), &["expired-certificate"]),
            (Ok(-1), &["expired-certificate"]),
            (Err("no PEM".to_owned()), &["unusable-certificate"]),
        ] {
            let expires = expires.map(|days: i64| Timestamp(now.0 + days * DAY_MILLIS));
            let certificates = vec![CertificateFact { listener: "SSL".to_owned(), expires }];
            let facts = Facts { now, certificates, ..Facts::default() };
            assert_eq!(kinds_of(&[], &facts), want, "{facts:?}");
        }
    }

    #[test]
    fn the_files_that_listeners_read_are_those_of_their_settings() {
        let pairs = [
            on("SSL://:1,SASL_SSL://:2,PLAINTEXT://:3"),
            KEY,
            ("listener.name.sasl_ssl.ssl.keystore.location", "/other.pem"),
            ("sasl.enabled.mechanisms", "OAUTHBEARER"),
            ("sasl.oauthbearer.jwks.endpoint.url", "file:///jwks.json"),
            ("sasl.oauthbearer.allowed.urls", "file:///jwks.json"),
            ("sasl.oauthbearer.expected.audience", "kafka"),
            ("sasl.oauthbearer.expected.issuer", "https://id.example"),
        ];
        let config = BrokerConfig::from_pairs(pairs).unwrap();
        assert_eq!(key_files(&config), ["/k.pem", "/other.pem"]);
        assert_eq!(issuer_files(&config), ["/jwks.json"]);
    }
}
