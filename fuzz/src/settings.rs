//! Settings of brokers, listeners, topics, groups and connectors, and rules from certificates to
//! names: a text is either refused with the name of the setting, or it is shown as a text that reads
//! back as the same.
//!
//! Input: a byte for the kind, then the text of a file; for rules the subject first, with its length
//! before it. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use broker::config::{BrokerConfig, GroupConfig, PrincipalRules, TopicConfig};
use connect::config::ConnectorConfig;
use connect::registry::Registry;
use connect::sdk::Config;
use protocol::config::{ConfigDef, ConfigError, ConfigErrors, find, near};

use crate::input::{Input, short};
use crate::memory::in_proportion;
use crate::settings_file;

/// 1 MiB: what a compiled pattern may take, and that several times over while it is compiled.
const PATTERN_BYTES: usize = 8 << 20;

type Pairs = Vec<(String, String)>;

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte() % 8;
    if kind == 7 {
        let subject = String::from_utf8_lossy(input.short()).into_owned();
        let rules = String::from_utf8_lossy(input.rest()).into_owned();
        return in_proportion(bytes.len(), PATTERN_BYTES, || check_rules(&rules, &subject));
    }
    let Ok(text) = str::from_utf8(input.rest()) else { return };
    in_proportion(bytes.len(), 0, || {
        let name = if kind == 6 { "x.toml" } else { "x.properties" };
        if kind == 5 {
            return check_connector(text);
        }
        let Ok(pairs) = settings_file::read(Path::new(name), text) else { return };
        match kind {
            0 | 6 => check_broker(pairs),
            1 => check_topic(&pairs),
            2 => check_group(&pairs),
            3 => check_properties(&pairs),
            _ => check_listener(pairs),
        }
    });
}

const INTER_BROKER: &str = "security.inter.broker.protocol";

/// Each error names a setting that was given, or that there is.
fn check_errors(errors: &ConfigErrors, given: &Pairs, defs: &[ConfigDef]) {
    assert!(!errors.0.is_empty());
    for error in &errors.0 {
        let name = match error {
            ConfigError::Unknown { name, .. } | ConfigError::Invalid { name, .. } => name.as_str(),
            ConfigError::Conflict { name, .. } => name,
        };
        let is_given = given.iter().any(|(given, _)| given == name);
        assert!(is_given || find(defs, name).is_some(), "{error} is about nothing that was given");
        assert!(error.to_string().starts_with(name));
    }
}

fn shown(pairs: Vec<(&'static ConfigDef, Option<String>)>) -> Pairs {
    let texts = pairs.into_iter().filter_map(|(def, text)| Some((def.name.to_owned(), text?)));
    texts.collect()
}

fn shown_of_broker(config: &BrokerConfig, given: &Pairs) -> Pairs {
    let mut texts = shown(config.pairs());
    // That it was given says something that its default does not: there must be such a listener.
    texts.retain(|(name, _)| name != INTER_BROKER || given.iter().any(|(given, _)| given == name));
    texts
}

fn check_broker(pairs: Pairs) {
    let config = match BrokerConfig::from_pairs(pairs.clone()) {
        Ok(config) => config,
        Err(errors) => return check_errors(&errors, &pairs, BrokerConfig::DEFS),
    };
    let again = BrokerConfig::from_pairs(shown_of_broker(&config, &pairs));
    assert_eq!(again.as_ref(), Ok(&config), "what is shown does not read back");
    let bound = config.listen_on();
    assert!(config.advertised(&bound, "here").len() == bound.len());
    for endpoint in &bound {
        let _ = config.listener(&endpoint.listener).map_err(|error| error.to_string());
    }
    let topic = TopicConfig::of(&config, []);
    assert!(topic.is_ok(), "a broker's settings are no defaults of topics: {topic:?}");
    let _ = GroupConfig::of(&config, []);
    let _ = (config.data_dir(), config.metrics_endpoint(), config.log_retention());
    let _ = (config.log_roll(), config.initial_users(), config.connections_per_ip().count());
    let altered = pairs.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    assert_eq!(config.with(altered), config, "what was given already changes nothing");
}

fn check_topic(pairs: &Pairs) {
    let broker = BrokerConfig::default();
    let borrowed = pairs.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    match TopicConfig::of(&broker, borrowed) {
        Ok(config) => {
            assert_eq!(TopicConfig::parse(shown(config.pairs())), Ok(config));
        }
        Err(errors) => check_errors(&errors, pairs, TopicConfig::DEFS),
    }
}

fn check_group(pairs: &Pairs) {
    let broker = BrokerConfig::default();
    let borrowed = || pairs.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let _ = GroupConfig::of(&broker, borrowed());
    match GroupConfig::check(&broker, borrowed()) {
        Ok(()) => {
            let config = GroupConfig::parse(borrowed()).expect("it was checked");
            assert_eq!(GroupConfig::parse(shown(config.pairs())), Ok(config));
        }
        Err(errors) => check_errors(&errors, pairs, GroupConfig::DEFS),
    }
}

/// What a file of properties says can be written so that it says it again.
fn check_properties(pairs: &Pairs) {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push_str(&escaped(name));
        text.push('=');
        text.push_str(&escaped(value));
        text.push('\n');
    }
    let again = settings_file::read(Path::new("x.properties"), &text);
    // A name may be empty where it was an escape that means nothing.
    if pairs.iter().all(|(name, _)| !name.is_empty()) {
        assert_eq!(again.as_ref(), Ok(pairs), "{text:?}");
    }
    for (name, _) in pairs {
        let found = near(BrokerConfig::DEFS, name);
        assert!(find(BrokerConfig::DEFS, name).is_none() || found == Some(name.as_str()));
    }
}

/// `text` as Java's properties write it: all but letters, digits and full stops by their numbers.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for it in text.chars() {
        match it {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => out.push(it),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            '\u{0}'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(it))),
            // Beyond four digits a character stands for itself.
            _ => out.push(it),
        }
    }
    out
}

/// Settings as those of one listener that is encrypted and asks for passwords.
fn check_listener(pairs: Pairs) {
    let mut all = vec![
        ("listeners".to_owned(), "X://h:1".to_owned()),
        ("listener.security.protocol.map".to_owned(), "X:SASL_SSL".to_owned()),
    ];
    let own = pairs.into_iter().map(|(name, text)| (format!("listener.name.x.{name}"), text));
    all.extend(own);
    let config = match BrokerConfig::from_pairs(all.clone()) {
        Ok(config) => config,
        Err(errors) => {
            let named = |error: &ConfigError| {
                let text = error.to_string();
                !text.is_empty()
            };
            assert!(errors.0.iter().all(named));
            return;
        }
    };
    let again = BrokerConfig::from_pairs(shown_of_broker(&config, &all));
    assert_eq!(again.as_ref(), Ok(&config), "what is shown does not read back");
    let _ = config.listener("X").map_err(|error| error.to_string());
}

fn check_connector(text: &str) {
    let Ok(config) = Config::parse("x", text) else { return };
    let errors = match ConnectorConfig::read(&config, &Registry::default()) {
        // There is no connector in this registry.
        Ok(_) => panic!("a connector of no registry was made"),
        Err(errors) => errors,
    };
    assert!(!errors.0.is_empty());
    let keys: BTreeSet<_> = errors.0.iter().map(ToString::to_string).collect();
    assert!(keys.iter().all(|text| text.starts_with("x: ")));
    assert!(ConnectorConfig::read_all(&[config], &Registry::default()).is_err());
}

fn check_rules(text: &str, subject: &str) {
    let Ok(rules) = PrincipalRules::parse(text) else { return };
    let name = rules.name(subject);
    if text.trim().is_empty() || text.trim_start().starts_with("DEFAULT") {
        assert_eq!(name.as_deref(), Some(subject));
    }
    // Rules one after the other decide as each would alone.
    let both = PrincipalRules::parse(&format!("RULE:no such subject/x/\n{text}"));
    if !text.trim().is_empty() && subject != "no such subject" {
        assert_eq!(both.expect("rules in a row").name(subject), name);
    }
}

/// Every setting with its default, and files as people write them.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut of = |kind: u8, text: &str| seeds.push([&[kind], text.as_bytes()].concat());
    for (kind, defs) in [(0, BrokerConfig::DEFS), (1, TopicConfig::DEFS), (2, GroupConfig::DEFS)] {
        for def in defs {
            let value = def.default.unwrap_or("x");
            of(kind, &format!("{}={value}\n", def.name));
        }
        let all: String = defs.iter().take(12).map(|it| format!("{} = 7\n", it.name)).collect();
        of(kind, &all);
    }
    for text in [
        "listeners=A://:9092,B://[::1]:0\nlistener.security.protocol.map=A:PLAINTEXT,B:SSL\n",
        "listeners=X://h:1\nlistener.security.protocol.map=X:SASL_PLAINTEXT\nsasl.enabled.mechanisms=PLAIN\nlistener.name.x.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"b\";\n",
        "initial.scram.credentials=SCRAM-SHA-256=[name=a,password=b,iterations=8192]\n",
        "log.dirs=/a\\ b\n! a comment\n# another\nnode.id : 7\nmax.connections.per.ip.overrides=10.0.0.1:5,::1:7\n",
        "listener.name.x.ssl.client.auth=required\\u0020\nlog.retention.hours=-1\n",
        "metrics.listener=localhost:0\ncontroller.quota.window.num=3\nprocess.roles=broker\n",
    ] {
        of(0, text);
        of(3, text);
        of(4, text);
    }
    of(
        4,
        "ssl.keystore.location=/k\nsasl.enabled.mechanisms=OAUTHBEARER\nsasl.oauthbearer.jwks.endpoint.url=https://k\n",
    );
    of(4, "plain.sasl.jaas.config=x\nscram-sha-256.connections.max.reauth.ms=5\n");
    of(5, "name = 'a'\nconnector = 'b'\ntasks = 3\n[retry]\nbackoff_ms = 5\nrestart = 'never'\n");
    of(
        5,
        r#"{"name": "a", "connector": "b", "errors": {"tolerance": "all", "max_per_minute": "7"}}"#,
    );
    of(6, "node.id = 3\nlisteners = ['A://:1', 'B://:2']\n[log.retention]\nhours = 24\n");
    for (subject, rules) in [
        ("CN=Duke,OU=ServiceUsers,O=Org,C=US", "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/, DEFAULT"),
        ("CN=Duke,OU=SME", "RULE:^CN=(.*?),OU=(.*?)$/$1@$2/L\nRULE:^.*[Cc][Nn]=([a-z]*).*$/$1/U"),
        ("CN=a/b", "RULE:^CN=(a\\/b)$/$1\\/c\\$/,DEFAULT"),
        ("", "DEFAULT"),
    ] {
        seeds.push([&[7][..], &short(subject.as_bytes()), rules.as_bytes()].concat());
    }
    seeds
}
