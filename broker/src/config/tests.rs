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
    ]);
    assert_eq!(told.lines().count(), 7, "{told}");
}

#[test]
fn each_listener_advertises_its_own_endpoint() {
    let config = BrokerConfig::from_pairs([
        ("listeners", "A://:0,B://[::1]:2,C://c:3"),
        ("advertised.listeners", "B://outside:22"),
    ]);
    let config = config.unwrap();
    let mut bound = config.listen_on();
    bound[0].port = 4711;
    let told: Vec<_> = config.advertised(&bound, "here").iter().map(ToString::to_string).collect();
    assert_eq!(told, ["A://here:4711", "B://outside:22", "C://c:3"]);
}
