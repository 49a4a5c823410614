//! What the settings promise. Pure.

use super::*;

fn refused(pairs: &[(&str, &str)]) -> String {
    BrokerConfig::from_pairs(pairs.iter().copied()).expect_err("must be refused").to_string()
}

#[test]
fn every_default_passes_its_own_check() {
    for def in BrokerConfig::DEFS.iter().chain(TopicConfig::DEFS).chain(GroupConfig::DEFS) {
        if let Some(default) = def.default {
            def.check(default).unwrap();
        }
        assert!(!def.doc.trim().is_empty(), "{} has no documentation", def.name);
    }
    let config = BrokerConfig::default();
    assert_eq!(config, BrokerConfig::from_pairs::<&str, &str>([]).unwrap());
    assert_eq!(TopicConfig::of(&config, []).unwrap(), TopicConfig::default());
}

#[test]
fn every_synonym_names_a_setting_of_the_broker() {
    for def in TopicConfig::DEFS.iter().chain(GroupConfig::DEFS) {
        if let Some(synonym) = def.synonym {
            let broker = find(BrokerConfig::DEFS, synonym).expect(synonym);
            assert_eq!(broker.kind, def.kind, "{} and {synonym}", def.name);
        }
    }
}

#[test]
fn a_topic_takes_its_own_setting_then_the_brokers_then_the_default() {
    let broker = BrokerConfig::from_pairs([("log.retention.hours", "1"), ("log.roll.ms", "7")]);
    let broker = broker.unwrap();
    let topic = TopicConfig::of(&broker, [("retention.bytes", "5")]).unwrap();
    assert_eq!(topic.retention, Some(Duration::from_secs(3600)));
    assert_eq!(topic.segment_roll, Duration::from_millis(7));
    assert_eq!(topic.retention_bytes, Some(5));
    let topic = TopicConfig::of(&broker, [("retention.ms", "-1")]).unwrap();
    assert_eq!(topic.retention, None);
}

#[test]
fn a_topic_is_flushed_as_its_broker_says_unless_it_says_so_itself() {
    let broker = BrokerConfig::from_pairs([("log.flush.interval.messages", "9")]).unwrap();
    let flush = |overrides: &[(&'static str, &'static str)]| {
        let topic = TopicConfig::of(&broker, overrides.iter().copied()).unwrap();
        (topic.flush_messages, topic.flush_ms)
    };
    assert_eq!(flush(&[]), (9, i64::MAX));
    assert_eq!(flush(&[("flush.messages", "3"), ("flush.ms", "5")]), (3, 5));
    let broker = BrokerConfig::from_pairs([("log.flush.interval.ms", "7")]).unwrap();
    assert_eq!(TopicConfig::of(&broker, []).unwrap().flush_ms, 7);
}

#[test]
fn what_is_altered_lies_over_what_was_given_and_what_cannot_be_is_passed_over() {
    let start = BrokerConfig::from_pairs([("message.max.bytes", "1000")]).unwrap();
    let altered = start.with([
        ("message.max.bytes", "2000"),
        ("log.retention.ms", "5"),
        ("log.segment.bytes", "none"),
        ("node.id", "7"),
        ("of.another.release", "1"),
    ]);
    assert_eq!((altered.message_max_bytes, altered.node_id), (2000, start.node_id));
    assert_eq!(altered.log_retention(), Some(Duration::from_millis(5)));
    assert_eq!(altered.log_segment_bytes, start.log_segment_bytes);
    assert!(altered.given.has("message.max.bytes") && !altered.given.has("log.retention.ms"));
    assert_eq!(start.with([]), start);
}

#[test]
fn the_finer_unit_of_retention_wins() {
    let check = |pairs: &[(&str, &str)], want| {
        let config = BrokerConfig::from_pairs(pairs.iter().copied()).unwrap();
        assert_eq!(config.log_retention(), want);
    };
    let hour = ("log.retention.hours", "1");
    check(&[hour], Some(Duration::from_secs(3600)));
    check(&[hour, ("log.retention.minutes", "1")], Some(Duration::from_secs(60)));
    check(
        &[hour, ("log.retention.minutes", "1"), ("log.retention.ms", "5")],
        Some(Duration::from_millis(5)),
    );
    check(&[hour, ("log.retention.ms", "-1")], None);
}

#[test]
fn a_server_properties_of_kafka_is_accepted() {
    let pairs = [
        ("process.roles", "broker,controller"),
        ("node.id", "7"),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ("listeners", "PLAINTEXT://:9092"),
        ("num.network.threads", "3"),
        ("log.retention.hours", "168"),
        ("transaction.state.log.min.isr", "1"),
    ];
    assert_eq!(BrokerConfig::from_pairs(pairs).unwrap().node_id, 7);
}

#[test]
fn settings_that_contradict_are_refused_together() {
    let told = refused(&[
        ("listeners", "PLAINTEXT://:9092,PLAINTEXT://:9093,nonsense"),
        ("advertised.listeners", "OTHER://a:1,PLAINTEXT://0.0.0.0:1"),
        ("log.dirs", "a,b"),
        ("group.min.session.timeout.ms", "1800001"),
        ("metrics.listener", "9644"),
        ("queued.max.request.bytes", "104857599"),
        ("memory.budget.bytes", "1000"),
    ]);
    assert_eq!(told.lines().count(), 9, "{told}");
}

#[test]
fn a_topic_whose_compaction_lags_cross_is_refused() {
    let broker = BrokerConfig::default();
    let lags = |min, max| {
        let pairs = [("min.compaction.lag.ms", min), ("max.compaction.lag.ms", max)];
        TopicConfig::of(&broker, pairs)
    };
    assert!(lags("5", "5").is_ok());
    let told = lags("6", "5").unwrap_err().to_string();
    assert!(told.contains("min.compaction.lag.ms"), "{told}");
}

#[test]
fn a_topics_settings_are_told_in_the_order_of_their_names() {
    let names: Vec<_> = TopicConfig::DEFS.iter().map(|def| def.name).collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn each_listener_advertises_its_own_endpoint() {
    let config = BrokerConfig::from_pairs([
        ("listeners", "A://:0,B://[::1]:2,C://c:3"),
        ("listener.security.protocol.map", "a:PLAINTEXT, B:plaintext,C:PLAINTEXT"),
        ("advertised.listeners", "B://outside:22"),
    ]);
    let config = config.unwrap();
    let mut bound = config.listen_on();
    bound[0].port = 4711;
    let told: Vec<_> = config.advertised(&bound, "here").iter().map(ToString::to_string).collect();
    assert_eq!(told, ["A://here:4711", "B://outside:22", "C://c:3"]);
}

const PLAIN_USERS: &str =
    "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"canary\";";

#[test]
fn a_listener_has_its_own_settings_over_the_brokers() {
    let config = BrokerConfig::from_pairs([
        ("listeners", "IN://:1,OUT://:2"),
        ("listener.security.protocol.map", "IN:SASL_PLAINTEXT,OUT:SASL_SSL"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
        ("connections.max.reauth.ms", "1000"),
        ("ssl.keystore.location", "/all.pem"),
        ("listener.name.OUT.ssl.keystore.location", "/out.pem"),
        ("listener.name.out.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512"),
        ("listener.name.out.plain.sasl.jaas.config", PLAIN_USERS),
        ("listener.name.out.plain.connections.max.reauth.ms", "5"),
    ]);
    let config = config.unwrap();
    let inside = config.listener("IN").unwrap();
    assert!(inside.tls.is_none());
    let names = |it: &ListenerSettings| {
        it.mechanisms.iter().map(|(name, it)| (name.name(), it.max_reauth.as_millis())).collect()
    };
    let told: Vec<_> = names(&inside);
    assert_eq!(told, [("SCRAM-SHA-256", 1000)]);
    let outside = config.listener("out").unwrap();
    let told: Vec<_> = names(&outside);
    assert_eq!(told, [("PLAIN", 5), ("SCRAM-SHA-512", 1000)]);
    let file = protocol::security::store::Pem::File("/out.pem".into());
    assert_eq!(outside.tls.unwrap().identity.key, file);
    let jaas = outside.mechanisms[&Mechanism::Plain].jaas.clone().unwrap();
    assert_eq!(jaas.users().next().unwrap().1.expose(), "canary");
    // What is altered while running leaves them as they are.
    let altered = config.with([("message.max.bytes", "2000")]);
    assert_eq!(altered.listener_settings, config.listener_settings);
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn listeners_that_cannot_work_are_refused() {
    let ssl = ("listener.security.protocol.map", "L:SSL");
    let sasl = ("listener.security.protocol.map", "L:SASL_PLAINTEXT");
    let key = ("ssl.keystore.location", "/k.pem");
    let plain = ("sasl.enabled.mechanisms", "PLAIN");
    let bearer = ("sasl.enabled.mechanisms", "OAUTHBEARER");
    let url = ("sasl.oauthbearer.jwks.endpoint.url", "https://id.example/keys");
    let audience = ("sasl.oauthbearer.expected.audience", "kafka");
    let issuer = ("sasl.oauthbearer.expected.issuer", "https://id.example");
    let jndi =
        "com.sun.security.auth.module.JndiLoginModule required user.provider.url=\"ldap://x\";";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "does not say what is spoken there"),
        (&[("listener.security.protocol.map", "L:TLS")], "expected NAME:PROTOCOL"),
        (&[("listener.security.protocol.map", "L:SSL,l:PLAINTEXT")], "no name twice"),
        (&[ssl], "ssl.keystore.location is needed"),
        (&[ssl, ("ssl.keystore.key", "x")], "needed together"),
        (&[ssl, key, ("ssl.keystore.type", "JKS")], "PEM"),
        (&[ssl, key, ("ssl.key.password", "canary")], "without a password"),
        (&[ssl, key, ("ssl.client.auth", "required")], "needs ssl.truststore.location"),
        (&[ssl, key, ("ssl.principal.mapping.rules", "RULE:(?=x)/a/")], "mapping.rules"),
        (&[ssl, key, ("ssl.enabled.protocols", "TLSv1.1")], "TLSv1.2, TLSv1.3"),
        (&[ssl, key, ("listener.name.m.ssl.client.auth", "none")], "there is no listener M"),
        (&[ssl, key, ("listener.name.l.ssl.client.oath", "none")], "did you mean ssl.client.auth"),
        (&[ssl, key, ("listener.name.l.ssl.client.auth", "no")], "listener.name.l.ssl.client.auth"),
        (&[sasl], "sasl.enabled.mechanisms is needed"),
        (&[sasl, ("sasl.enabled.mechanisms", "GSSAPI")], "expected of PLAIN"),
        (&[sasl, plain], "PLAIN has no users"),
        (&[sasl, plain, ("listener.name.l.plain.sasl.jaas.config", jndi)], "not known"),
        (&[sasl, bearer, audience, issuer], "sasl.oauthbearer.jwks.endpoint.url"),
        (&[sasl, bearer, url, issuer], "sasl.oauthbearer.expected.audience"),
        (&[sasl, bearer, url, audience], "sasl.oauthbearer.expected.issuer"),
        (&[sasl, bearer, url, audience, issuer], "allowed.urls"),
        (
            &[
                sasl,
                bearer,
                ("sasl.oauthbearer.jwks.endpoint.url", "http://id.example/keys"),
                ("sasl.oauthbearer.allowed.urls", "http://id.example/keys"),
                audience,
                issuer,
            ],
            "neither https nor file",
        ),
    ];
    for (pairs, want) in cases {
        let pairs = [&[("listeners", "L://:1")], *pairs].concat();
        let told = refused(&pairs);
        assert!(told.contains(want), "{pairs:?}: {told}");
        assert!(!told.contains("canary") && !told.contains("ldap"), "{told}");
    }
}

#[test]
fn where_sasl_asks_certificates_are_asked_for_only_by_the_listeners_own_word() {
    let pairs = [
        ("listeners", "SASL_SSL://:1,SSL://:2"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
        ("ssl.keystore.location", "/k.pem"),
        ("ssl.truststore.location", "/t.pem"),
        ("ssl.client.auth", "required"),
    ];
    let auth = |own: &[(&'static str, &'static str)], listener: &str| {
        let config = BrokerConfig::from_pairs(pairs.iter().chain(own).copied()).unwrap();
        config.listener(listener).unwrap().tls.unwrap().client_auth
    };
    assert_eq!(auth(&[], "SSL"), ClientAuth::Required);
    assert_eq!(auth(&[], "SASL_SSL"), ClientAuth::None);
    let own = [("listener.name.sasl_ssl.ssl.client.auth", "requested")];
    assert_eq!(auth(&own, "SASL_SSL"), ClientAuth::Requested);
}

#[test]
fn listeners_of_controllers_are_not_opened() {
    let config = BrokerConfig::from_pairs([
        ("process.roles", "broker,controller"),
        ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
        ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("inter.broker.listener.name", "PLAINTEXT"),
    ]);
    let on: Vec<_> = config.unwrap().listen_on().iter().map(ToString::to_string).collect();
    assert_eq!(on, ["PLAINTEXT://:9092"]);
}

#[test]
fn a_class_is_a_word_that_is_known_or_a_broker_that_does_not_start() {
    for (name, text) in [
        ("authorizer.class.name", "org.example.Authorizer"),
        ("alter.config.policy.class.name", "org.example.Policy"),
        ("create.topic.policy.class.name", "org.example.Policy"),
        ("client.quota.callback.class", "org.example.Callback"),
        ("config.providers", "file"),
        (
            "config.providers.file.class",
            "org.apache.kafka.common.config.provider.FileConfigProvider",
        ),
        ("metric.reporters", "org.example.Reporter"),
        ("principal.builder.class", "org.example.Builder"),
        ("sasl.server.callback.handler.class", "org.example.Handler"),
        ("security.providers", "org.example.Provider"),
        ("ssl.engine.factory.class", "org.example.Factory"),
        ("listener.name.l.ssl.engine.factory.class", "org.example.Factory"),
        ("listener.name.l.plain.sasl.server.callback.handler.class", "org.example.Handler"),
    ] {
        let listener = [("listeners", "L://:1"), ("listener.security.protocol.map", "L:PLAINTEXT")];
        let told = refused(&[&listener[..], &[(name, text)]].concat());
        let setting = name.trim_start_matches("listener.name.l.").trim_start_matches("plain.");
        assert!(told.contains(setting), "{name}: {told}");
    }
}

#[test]
fn a_secret_shows_neither_in_prints_nor_in_what_is_wrong() {
    const CANARY: &str = "canary";
    let secrets = BrokerConfig::DEFS.iter().filter(|def| def.is_sensitive());
    let secrets: Vec<_> = secrets.map(|def| def.name).filter(|name| !name.ends_with('.')).collect();
    assert!(secrets.len() > 5, "{secrets:?}");
    let of_listener = |name: &&'static str| {
        let is_known = ListenerConfig::DEFS.iter().any(|def| def.name == *name);
        is_known.then(|| format!("listener.name.l.{name}"))
    };
    let scoped: Vec<String> = secrets.iter().filter_map(of_listener).collect();
    let names = secrets.iter().copied().chain(scoped.iter().map(String::as_str));
    for name in names {
        for protocol in ["L:SSL", "L:SASL_PLAINTEXT"] {
            let pairs = [
                ("listeners", "L://:1"),
                ("listener.security.protocol.map", protocol),
                ("sasl.enabled.mechanisms", "PLAIN"),
                (name, CANARY),
            ];
            let told = match BrokerConfig::from_pairs(pairs) {
                Ok(config) => format!("{config:?} {:?}", config.listener("L")),
                Err(errors) => format!("{errors} {errors:?}"),
            };
            assert!(!told.contains(CANARY), "{name} {protocol}: {told}");
        }
    }
}

#[test]
fn a_broker_that_was_told_nothing_listens_to_its_own_machine_alone() {
    let config = BrokerConfig::default();
    let hosts: Vec<_> = config.listen_on().into_iter().map(|on| on.host).collect();
    assert_eq!((hosts, config.metrics_endpoint()), (vec!["localhost".to_owned()], None));
}

#[test]
fn brokers_speak_by_the_listener_that_is_named_or_by_the_one_of_their_protocol_or_by_the_first() {
    const MAP: (&str, &str) = (
        "listener.security.protocol.map",
        "A:PLAINTEXT,B:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
    );
    let check = |listeners: &str, pairs: &[(&str, &str)], want: &str| {
        let base = [MAP, ("listeners", listeners), ("sasl.enabled.mechanisms", "SCRAM-SHA-256")];
        let read = BrokerConfig::from_pairs(base.iter().chain(pairs).copied());
        match read {
            Ok(config) => assert_eq!(config.inter_broker_listener(), want, "{listeners} {pairs:?}"),
            Err(errors) => {
                let told = errors.to_string();
                assert!(!want.is_empty() && told.contains(want), "{listeners} {pairs:?}: {told}");
            }
        }
    };
    let named = |name| ("inter.broker.listener.name", name);
    let protocol = |name| ("security.inter.broker.protocol", name);
    check("A://a:1", &[], "A");
    check("A://a:1,B://a:2", &[], "A");
    check("A://a:1,PLAINTEXT://a:2", &[], "PLAINTEXT");
    check("A://a:1,PLAINTEXT://a:2", &[named("a")], "A");
    check("A://a:1,SASL_PLAINTEXT://a:2", &[protocol("SASL_PLAINTEXT")], "SASL_PLAINTEXT");
    // What Kafka would not start with.
    check("A://a:1", &[named("B")], "there is no listener B");
    check("A://a:1", &[protocol("PLAINTEXT")], "there is no listener PLAINTEXT");
    let both = [named("A"), protocol("PLAINTEXT")];
    check("A://a:1,PLAINTEXT://a:2", &both, "security.inter.broker.protocol is set, too");
    check("A://a:1", &[protocol("TLS")], "security.inter.broker.protocol");
}
