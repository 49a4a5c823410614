//! Settings of topics, brokers and groups: described, altered, replaced, listed.
//!
//! Shell.

use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, DescribeConfigsRequest,
    DescribeConfigsResource, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    ReplacedConfig, ReplacedConfigsResource,
};

use super::topics::{topic, with};
use crate::answers::script::Script;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn describe(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|keys| keys.iter().map(|it| (*it).to_owned()).collect()),
        }],
        include_synonyms: true,
        include_documentation: false,
    }
}

/// A setting, what to do with it, and with which value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn alter(kind: i8, name: &str, changes: &[Change<'_>]) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: changes
                .iter()
                .map(|(name, config_operation, value)| AlterableConfig {
                    name: (*name).to_owned(),
                    config_operation: *config_operation,
                    value: value.map(str::to_owned),
                })
                .collect(),
        }],
        validate_only: false,
    }
}

fn replace(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    AlterConfigsRequest {
        resources: vec![ReplacedConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: configs
                .iter()
                .map(|(name, value)| ReplacedConfig {
                    name: (*name).to_owned(),
                    value: value.map(str::to_owned),
                })
                .collect(),
        }],
        validate_only: false,
    }
}

impl Script {
    /// Waits until the setting has this value. What was altered is known everywhere soon after.
    fn await_setting(
        &mut self,
        kind: i8,
        name: &str,
        key: &str,
        value: &str,
    ) -> anyhow::Result<()> {
        self.settle(4, describe(kind, name, Some(&[key])), |it| {
            it.results[0]
                .configs
                .iter()
                .any(|it| it.name == key && it.value.as_deref() == Some(value))
        })
        .map(drop)
    }
}

pub(in crate::answers) fn describing(script: &mut Script) -> anyhow::Result<()> {
    script.make(with(
        topic("set", 1),
        &[("retention.ms", "86400000"), ("cleanup.policy", "compact")],
    ))?;
    for (what, kind, name) in [
        ("a topic", TOPIC, "set"),
        ("the broker", BROKER, "1"),
        ("all brokers", BROKER, ""),
        ("a group", GROUP, "two"),
        ("a group that is not there", GROUP, "nowhere"),
        ("client metrics", CLIENT_METRICS, "metrics"),
        ("a topic that is not there", TOPIC, "absent"),
        ("a topic whose name is none", TOPIC, "a/b"),
        ("the empty topic", TOPIC, ""),
        ("another broker", BROKER, "9"),
        ("a broker that is no number", BROKER, "x"),
        ("the empty group", GROUP, ""),
        ("the empty client metrics", CLIENT_METRICS, ""),
        ("a logger of another broker", LOGGER, "9"),
        ("an unknown type", 99, "x"),
        ("type 0", 0, "x"),
        ("type 1", 1, "x"),
    ] {
        script.every(what, |_| describe(kind, name, None))?;
    }
    script.every("the broker's log levels", |_| describe(LOGGER, "1", Some(&["root"])))?;
    for (what, kind, name) in
        [("a topic", TOPIC, "set"), ("the broker", BROKER, "1"), ("a group", GROUP, "two")]
    {
        script.some(&format!("{what}, documented, without synonyms"), 3..=4, |_| {
            DescribeConfigsRequest {
                include_synonyms: false,
                include_documentation: true,
                ..describe(kind, name, None)
            }
        })?;
    }
    script.every("some settings", |_| {
        describe(TOPIC, "set", Some(&["retention.ms", "no.such.setting", "segment.ms"]))
    })?;
    script.every("no settings", |_| describe(TOPIC, "set", Some(&[])))?;
    script.every("some settings of the broker", |_| {
        describe(BROKER, "1", Some(&["log.retention.hours", "no.such.setting"]))
    })?;
    script.every("no resources", |_| DescribeConfigsRequest::default())?;
    script.every("several resources", |_| {
        let mut request = describe(TOPIC, "set", Some(&["retention.ms"]));
        request.resources.extend(describe(TOPIC, "absent", None).resources);
        request.resources.extend(describe(BROKER, "1", Some(&["log.retention.ms"])).resources);
        request.resources.extend(describe(TOPIC, "set", Some(&["segment.ms"])).resources);
        request
    })
}

pub(in crate::answers) fn altering(script: &mut Script) -> anyhow::Result<()> {
    script.make(topic("altered", 1))?;
    let changes: [(&str, &[Change<'_>]); 20] = [
        ("set", &[("retention.ms", 0, Some("1000"))]),
        ("delete", &[("retention.ms", 1, None)]),
        ("delete what is not set", &[("segment.ms", 1, None)]),
        ("append", &[("cleanup.policy", 2, Some("compact"))]),
        ("append what is there", &[("cleanup.policy", 2, Some("compact"))]),
        ("subtract", &[("cleanup.policy", 3, Some("delete"))]),
        ("subtract the last", &[("cleanup.policy", 3, Some("compact"))]),
        ("append to what is no list", &[("retention.ms", 2, Some("5"))]),
        ("an unknown setting", &[("no.such.setting", 0, Some("1"))]),
        ("delete an unknown setting", &[("no.such.setting", 1, None)]),
        ("a value that is none", &[("retention.ms", 0, Some("soon"))]),
        ("a value out of range", &[("retention.ms", 0, Some("-2"))]),
        ("null", &[("retention.ms", 0, None)]),
        ("append null", &[("cleanup.policy", 2, None)]),
        ("an empty text", &[("retention.ms", 0, Some(""))]),
        ("an unknown operation", &[("retention.ms", 9, Some("1"))]),
        ("a setting twice", &[("retention.ms", 0, Some("1")), ("retention.ms", 0, Some("2"))]),
        ("no changes", &[]),
        ("a small segment", &[("segment.bytes", 0, Some("1000"))]),
        ("a setting that is not for clients", &[("remote.storage.enable", 0, Some("true"))]),
    ];
    for (what, changes) in changes {
        script.every(what, |_| IncrementalAlterConfigsRequest {
            validate_only: true,
            ..alter(TOPIC, "altered", changes)
        })?;
    }
    for version in 0..=1 {
        let ms = (2000 + i32::from(version)).to_string();
        let set = alter(
            TOPIC,
            "altered",
            &[
                ("retention.ms", 0, Some(&ms)),
                ("cleanup.policy", 2, Some("compact")),
                ("max.message.bytes", 0, Some("5000")),
            ],
        );
        script.ask("several changes", version, set)?;
        script.await_setting(TOPIC, "altered", "retention.ms", &ms)?;
        script.every("an altered topic", |_| describe(TOPIC, "altered", None))?;
        let unset =
            alter(TOPIC, "altered", &[("cleanup.policy", 1, None), ("max.message.bytes", 1, None)]);
        script.ask("several changes back", version, unset)?;
        script.await_setting(TOPIC, "altered", "cleanup.policy", "delete")?;
    }
    for (what, kind, name) in [
        ("a topic that is not there", TOPIC, "absent"),
        ("a topic whose name is none", TOPIC, "a/b"),
        ("the empty topic", TOPIC, ""),
        ("another broker", BROKER, "9"),
        ("a broker that is no number", BROKER, "x"),
        ("an unknown type", 99, "x"),
        ("type 0", 0, "x"),
    ] {
        script.every(what, |_| alter(kind, name, &[("retention.ms", 0, Some("1000"))]))?;
        script.every(what, |_| replace(kind, name, &[("retention.ms", Some("1000"))]))?;
    }
    script.every("no resources", |_| IncrementalAlterConfigsRequest::default())?;
    script.every("a resource twice", |_| {
        let mut request = alter(TOPIC, "altered", &[("retention.ms", 0, Some("1"))]);
        request.resources.extend(alter(TOPIC, "set", &[("retention.ms", 0, Some("1"))]).resources);
        request
            .resources
            .extend(alter(TOPIC, "altered", &[("retention.ms", 0, Some("2"))]).resources);
        IncrementalAlterConfigsRequest { validate_only: true, ..request }
    })?;
    brokers(script)?;
    groups(script)?;
    replacing(script)?;
    listing(script)
}

fn brokers(script: &mut Script) -> anyhow::Result<()> {
    for (what, name) in [("the broker", "1"), ("all brokers", "")] {
        for (how, changes) in [
            ("set", &[("log.retention.ms", 0, Some("7200000"))][..]),
            ("a setting that is fixed", &[("num.partitions", 0, Some("3"))]),
            ("its own id", &[("node.id", 0, Some("3"))]),
            ("an unknown setting", &[("no.such.setting", 0, Some("1"))]),
            ("a value that is none", &[("log.retention.ms", 0, Some("soon"))]),
            ("a value out of range", &[("log.segment.bytes", 0, Some("1"))]),
            ("a bound on connections", &[("max.connections", 0, Some("1000"))]),
            ("append", &[("log.cleanup.policy", 2, Some("compact"))]),
        ] {
            script.every(&format!("{what}: {how}"), |_| IncrementalAlterConfigsRequest {
                validate_only: true,
                ..alter(BROKER, name, changes)
            })?;
        }
    }
    script.ask(
        "all brokers, really",
        1,
        alter(BROKER, "", &[("log.segment.bytes", 0, Some("2000000"))]),
    )?;
    script.await_setting(BROKER, "1", "log.segment.bytes", "2000000")?;
    script.ask(
        "the broker, really",
        1,
        alter(
            BROKER,
            "1",
            &[("log.segment.bytes", 0, Some("3000000")), ("log.retention.ms", 0, Some("7200000"))],
        ),
    )?;
    script.await_setting(BROKER, "1", "log.segment.bytes", "3000000")?;
    script.every("all brokers, altered", |_| describe(BROKER, "", None))?;
    script.every("the broker, altered", |_| {
        describe(
            BROKER,
            "1",
            Some(&[
                "log.segment.bytes",
                "log.retention.ms",
                "log.retention.hours",
                "log.retention.minutes",
            ]),
        )
    })?;
    script.every("a topic of an altered broker", |_| {
        describe(TOPIC, "altered", Some(&["segment.bytes", "retention.ms", "segment.ms"]))
    })?;
    script.ask(
        "the broker, back",
        1,
        alter(BROKER, "1", &[("log.segment.bytes", 1, None), ("log.retention.ms", 1, None)]),
    )?;
    script.ask("all brokers, back", 1, alter(BROKER, "", &[("log.segment.bytes", 1, None)]))?;
    script.await_setting(BROKER, "1", "log.segment.bytes", "1073741824")
}

fn groups(script: &mut Script) -> anyhow::Result<()> {
    for (what, changes) in [
        ("set", &[("consumer.session.timeout.ms", 0, Some("50000"))][..]),
        ("too short", &[("consumer.session.timeout.ms", 0, Some("1000"))]),
        ("too long", &[("consumer.heartbeat.interval.ms", 0, Some("90000"))]),
        ("a value that is none", &[("consumer.session.timeout.ms", 0, Some("soon"))]),
        ("an unknown setting", &[("no.such.setting", 0, Some("1"))]),
    ] {
        script.every(&format!("a group: {what}"), |_| IncrementalAlterConfigsRequest {
            validate_only: true,
            ..alter(GROUP, "set-group", changes)
        })?;
    }
    script.every("the empty group", |_| {
        alter(GROUP, "", &[("consumer.session.timeout.ms", 0, Some("50000"))])
    })?;
    script.ask(
        "a group, really",
        1,
        alter(GROUP, "set-group", &[("consumer.session.timeout.ms", 0, Some("50000"))]),
    )?;
    script.await_setting(GROUP, "set-group", "consumer.session.timeout.ms", "50000")?;
    script.every("an altered group", |_| describe(GROUP, "set-group", None))
}

fn replacing(script: &mut Script) -> anyhow::Result<()> {
    script
        .make(with(topic("replaced", 1), &[("retention.ms", "1000"), ("segment.ms", "9999999")]))?;
    for version in 0..=2 {
        for (what, configs) in [
            ("an unknown setting", &[("no.such.setting", Some("1"))][..]),
            ("a value that is none", &[("retention.ms", Some("soon"))]),
            ("null", &[("retention.ms", None)]),
            ("a setting twice", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
        ] {
            script.ask(
                &format!("replaced by {what}"),
                version,
                replace(TOPIC, "replaced", configs),
            )?;
        }
        let ms = (3000 + i32::from(version)).to_string();
        script.ask(
            "replaced",
            version,
            replace(TOPIC, "replaced", &[("retention.ms", Some(&ms))]),
        )?;
        script.await_setting(TOPIC, "replaced", "retention.ms", &ms)?;
        script.every("a replaced topic", |_| {
            describe(TOPIC, "replaced", Some(&["retention.ms", "segment.ms"]))
        })?;
    }
    script.every("no resources", |_| AlterConfigsRequest::default())?;
    script.every("replaced by nothing, only tried", |_| AlterConfigsRequest {
        validate_only: true,
        ..replace(TOPIC, "replaced", &[])
    })?;
    script.every("a broker's replaced by what is fixed", |_| AlterConfigsRequest {
        validate_only: true,
        ..replace(BROKER, "1", &[("num.partitions", Some("3"))])
    })
}

fn listing(script: &mut Script) -> anyhow::Result<()> {
    script.ask("all resources", 0, ListConfigResourcesRequest::default())?;
    for kinds in [
        &[][..],
        &[TOPIC],
        &[BROKER],
        &[LOGGER],
        &[CLIENT_METRICS],
        &[GROUP],
        &[99],
        &[0],
        &[GROUP, BROKER],
        &[GROUP, 99],
    ] {
        script.ask(
            &format!("resources of types {kinds:?}"),
            1,
            ListConfigResourcesRequest { resource_types: kinds.to_vec() },
        )?;
    }
    Ok(())
}
