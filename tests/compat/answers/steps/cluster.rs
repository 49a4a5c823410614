//! The cluster: quotas, elections, reassignments, the quorum, features.
//!
//! Shell.

use protocol::api::brokers::UnregisterBrokerRequest;
use protocol::api::elections::{ElectLeadersRequest, ElectLeadersRequestTopic};
use protocol::api::features::{FeatureUpdateKey, UpdateFeaturesRequest};
use protocol::api::quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use protocol::api::quotas::{
    AlterClientQuotasRequest, AlterQuotaEntry, DescribeClientQuotasRequest, QuotaComponent,
    QuotaEntity, QuotaOp,
};
use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopic, ReassignablePartition, ReassignableTopic,
};

use crate::answers::script::Script;

/// A kind and a name; `None`: the default.
type Part<'a> = (&'a str, Option<&'a str>);

fn alter(entity: &[Part<'_>], ops: &[(&str, f64, bool)]) -> AlterClientQuotasRequest {
    AlterClientQuotasRequest {
        entries: vec![AlterQuotaEntry {
            entity: entity
                .iter()
                .map(|(kind, name)| QuotaEntity {
                    entity_type: (*kind).to_owned(),
                    entity_name: name.map(str::to_owned),
                })
                .collect(),
            ops: ops
                .iter()
                .map(|&(key, value, remove)| QuotaOp { key: key.to_owned(), value, remove })
                .collect(),
        }],
        validate_only: false,
    }
}

fn describe(strict: bool, components: &[(&str, i8, Option<&str>)]) -> DescribeClientQuotasRequest {
    DescribeClientQuotasRequest {
        components: components
            .iter()
            .map(|(kind, match_type, name)| QuotaComponent {
                entity_type: (*kind).to_owned(),
                match_type: *match_type,
                match_name: name.map(str::to_owned),
            })
            .collect(),
        strict,
    }
}

pub(in crate::answers) fn quotas(script: &mut Script) -> anyhow::Result<()> {
    let rate = &[("producer_byte_rate", 1e12, false)][..];
    for (what, entity, ops) in [
        ("an unknown kind", &[("planet", Some("x"))][..], rate),
        ("no entity", &[], rate),
        ("a kind twice", &[("user", Some("x")), ("user", Some("y"))], rate),
        ("an empty name", &[("user", Some(""))], rate),
        ("an unknown quota", &[("user", Some("x"))], &[("no_such_quota", 1.0, false)]),
        ("a quota below 0", &[("user", Some("x"))], &[("producer_byte_rate", -1.0, false)]),
        ("a quota of 0", &[("user", Some("x"))], &[("producer_byte_rate", 0.0, false)]),
        ("a quota with a fraction", &[("user", Some("x"))], &[("producer_byte_rate", 10.5, false)]),
        ("half a percent", &[("user", Some("x"))], &[("request_percentage", 0.5, false)]),
        (
            "a rate of connections for a user",
            &[("user", Some("x"))],
            &[("connection_creation_rate", 10.0, false)],
        ),
        ("a rate of bytes for an address", &[("ip", Some("127.0.0.1"))], rate),
        (
            "an address that is none",
            &[("ip", Some("nowhere.invalid"))],
            &[("connection_creation_rate", 10.0, false)],
        ),
        ("an address and a user", &[("ip", Some("127.0.0.1")), ("user", Some("x"))], rate),
        ("no quotas", &[("user", Some("x"))], &[]),
        ("remove what is not there", &[("user", Some("x"))], &[("producer_byte_rate", 0.0, true)]),
        (
            "a quota twice",
            &[("user", Some("x"))],
            &[("producer_byte_rate", 1.0, false), ("producer_byte_rate", 2.0, false)],
        ),
    ] {
        script.every(what, |_| AlterClientQuotasRequest {
            validate_only: true,
            ..alter(entity, ops)
        })?;
    }
    script.every("no entries", |_| AlterClientQuotasRequest::default())?;
    script.every("a quota, only tried", |_| AlterClientQuotasRequest {
        validate_only: true,
        ..alter(&[("user", Some("alice"))], rate)
    })?;
    for version in 0..=1 {
        for entity in [
            &[("user", Some("alice"))][..],
            &[("user", None)],
            &[("user", Some("alice")), ("client-id", Some("loader"))],
            &[("client-id", Some("loader"))],
            &[("user", Some("alice")), ("client-id", None)],
        ] {
            script.ask("a quota", version, alter(entity, rate))?;
        }
        script.ask(
            "a quota of an address",
            version,
            alter(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", 99.0, false)]),
        )?;
    }
    let is_known = describe(false, &[("ip", 0, Some("10.0.0.1"))]);
    script.settle(1, is_known, |it| it.entries.as_ref().is_some_and(|it| !it.is_empty()))?;
    for (what, request) in [
        ("all", describe(false, &[])),
        ("nothing, strictly", describe(true, &[])),
        ("users", describe(false, &[("user", 2, None)])),
        ("users, strictly", describe(true, &[("user", 2, None)])),
        ("alice", describe(false, &[("user", 0, Some("alice"))])),
        ("alice, strictly", describe(true, &[("user", 0, Some("alice"))])),
        ("the default user", describe(false, &[("user", 1, None)])),
        ("the default user, strictly", describe(true, &[("user", 1, None)])),
        ("alice's clients", describe(true, &[("user", 0, Some("alice")), ("client-id", 2, None)])),
        ("nobody", describe(false, &[("user", 0, Some("nobody"))])),
        ("addresses", describe(false, &[("ip", 2, None)])),
        ("an address and a user", describe(false, &[("ip", 2, None), ("user", 2, None)])),
        ("an unknown kind", describe(false, &[("planet", 2, None)])),
        ("the empty kind", describe(false, &[("", 2, None)])),
        ("a kind twice", describe(false, &[("user", 2, None), ("user", 2, None)])),
        ("a match without a name", describe(false, &[("user", 0, None)])),
        ("the default with a name", describe(false, &[("user", 1, Some("alice"))])),
        ("any with a name", describe(false, &[("user", 2, Some("alice"))])),
        ("a match of type 7", describe(false, &[("user", 7, None)])),
    ] {
        script.every(what, |_| request.clone())?;
    }
    script.ask(
        "a quota removed",
        1,
        alter(&[("user", Some("alice"))], &[("producer_byte_rate", 0.0, true)]),
    )?;
    Ok(())
}

pub(in crate::answers) fn leaders(script: &mut Script) -> anyhow::Result<()> {
    let elect = |version: i16, kind: i8, topics: Option<&[(&str, &[i32])]>| ElectLeadersRequest {
        election_type: if version == 0 { 0 } else { kind },
        topic_partitions: topics.map(|topics| {
            topics
                .iter()
                .map(|(topic, partitions)| ElectLeadersRequestTopic {
                    topic: (*topic).to_owned(),
                    partitions: partitions.to_vec(),
                })
                .collect()
        }),
        ..ElectLeadersRequest::default()
    };
    for kind in [0, 1, 9] {
        script.every(&format!("elections of kind {kind}"), |version| {
            elect(version, kind, Some(&[("read", &[0, 1])]))
        })?;
        script.every(&format!("elections of kind {kind} of what is not there"), |version| {
            elect(version, kind, Some(&[("read", &[9]), ("absent", &[0])]))
        })?;
        script.every(&format!("elections of kind {kind} everywhere"), |version| {
            elect(version, kind, None)
        })?;
        script.every(&format!("no elections of kind {kind}"), |version| {
            elect(version, kind, Some(&[]))
        })?;
    }
    let reassign = |topic: &str, partition_index: i32, replicas: Option<&[i32]>| {
        AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: topic.to_owned(),
                partitions: vec![ReassignablePartition {
                    partition_index,
                    replicas: replicas.map(<[i32]>::to_vec),
                }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        }
    };
    for (what, request) in [
        ("to where it is", reassign("read", 0, Some(&[1]))),
        ("a cancellation of nothing", reassign("read", 0, None)),
        ("to no broker", reassign("read", 0, Some(&[9]))),
        ("to nowhere", reassign("read", 0, Some(&[]))),
        ("to the same twice", reassign("read", 0, Some(&[1, 1]))),
        ("to below 0", reassign("read", 0, Some(&[-1]))),
        ("a partition that is not there", reassign("read", 9, Some(&[1]))),
        ("a topic that is not there", reassign("absent", 0, Some(&[1]))),
        ("a cancellation for a topic that is not there", reassign("absent", 0, None)),
        ("nothing", AlterPartitionReassignmentsRequest::default()),
    ] {
        script.every(what, |_| request.clone())?;
    }
    script.ask(
        "without a change of the replication factor",
        1,
        AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: false,
            ..reassign("read", 0, Some(&[1, 9]))
        },
    )?;
    let list = |topics: Option<&[(&str, &[i32])]>| ListPartitionReassignmentsRequest {
        topics: topics.map(|topics| {
            topics
                .iter()
                .map(|(name, partitions)| ListPartitionReassignmentsTopic {
                    name: (*name).to_owned(),
                    partition_indexes: partitions.to_vec(),
                })
                .collect()
        }),
        ..ListPartitionReassignmentsRequest::default()
    };
    script.every("all reassignments", |_| list(None))?;
    script.every("no reassignments", |_| list(Some(&[])))?;
    script.every("some reassignments", |_| list(Some(&[("read", &[0, 9]), ("absent", &[0])])))
}

pub(in crate::answers) fn quorum(script: &mut Script) -> anyhow::Result<()> {
    let describe = |topic: &str, partitions: &[i32]| DescribeQuorumRequest {
        topics: vec![DescribeQuorumRequestTopic {
            topic_name: topic.to_owned(),
            partitions: partitions
                .iter()
                .map(|&partition_index| DescribeQuorumRequestPartition { partition_index })
                .collect(),
        }],
    };
    script.every("the quorum", |_| describe("__cluster_metadata", &[0]))?;
    script.every("another topic", |_| describe("read", &[0]))?;
    script.every("another partition", |_| describe("__cluster_metadata", &[1]))?;
    script.every("two partitions", |_| describe("__cluster_metadata", &[0, 1]))?;
    script.every("no topics", |_| DescribeQuorumRequest::default())?;
    let update = |version: i16, feature: &str, level: i16, kind: i8| UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: feature.to_owned(),
            max_version_level: level,
            allow_downgrade: version == 0 && kind > 1,
            upgrade_type: if version == 0 { 1 } else { kind },
        }],
        validate_only: version > 0,
        ..UpdateFeaturesRequest::default()
    };
    for (what, feature, level, kind) in [
        ("an unknown feature", "no.such.feature", 1, 1),
        ("an unknown feature given up", "no.such.feature", 0, 2),
        ("a level too high", "transaction.version", 99, 1),
        ("a level below 0", "transaction.version", -1, 1),
        ("a fall called a rise", "transaction.version", 1, 1),
        ("the level it has", "transaction.version", 2, 1),
        ("the level it has, falling", "transaction.version", 2, 2),
        ("an empty name", "", 1, 1),
        ("metadata, too low", "metadata.version", 1, 3),
        ("metadata, too high", "metadata.version", 999, 1),
        ("metadata given up", "metadata.version", 0, 2),
        ("the quorum's, falling", "kraft.version", 0, 2),
        ("an unknown kind of change", "transaction.version", 2, 9),
    ] {
        script.every(what, |version| update(version, feature, level, kind))?;
    }
    script.some("a fall, only tried", 1..=2, |version| {
        update(version, "transaction.version", 1, 2)
    })?;
    script.some("an unsafe fall, only tried", 1..=2, |version| {
        update(version, "group.version", 0, 3)
    })?;
    script.every("nothing", |_| UpdateFeaturesRequest::default())?;
    script.every("a feature twice", |version| {
        let mut request = update(version, "transaction.version", 2, 1);
        request
            .feature_updates
            .extend(update(version, "transaction.version", 2, 1).feature_updates);
        request
    })?;
    script.every("good and bad side by side", |version| {
        let mut request = update(version, "group.version", 1, 1);
        request.feature_updates.extend(update(version, "no.such.feature", 1, 1).feature_updates);
        request
    })?;
    for id in [9, -1] {
        script.every(&format!("broker {id}"), |_| UnregisterBrokerRequest { broker_id: id })?;
    }
    Ok(())
}
