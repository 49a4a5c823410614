//! What is told of requests that change something. Pure.

use std::collections::BTreeSet;

use protocol::api::configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, ReplacedConfig,
    ReplacedConfigsResource,
};
use protocol::api::scram::{AlteredScramUser, ScramCredentialUpsertion};
use protocol::api::topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsResponse,
};
use protocol::api_key::ApiKey;
use protocol::rng::Rng;

use super::*;

/// Of each version of each API.
const SAMPLES: u64 = 20;

fn changes(body: impl Into<AnyRequest>, answer: impl Into<AnyResponse>) -> Vec<Changed> {
    watch(&body.into()).expect("it is watched")(&answer.into())
}

/// Everything that is told of a change.
fn text(changed: &[Changed]) -> String {
    format!("{changed:?}")
}

#[test]
fn each_api_that_changes_the_cluster_is_watched_and_no_other() {
    let mut rng = Rng::new(11);
    let mut watched = BTreeSet::new();
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..SAMPLES {
                let Some(watch) = watch(&AnyRequest::sample(key, version, &mut rng)) else {
                    continue;
                };
                watched.insert(key);
                // Whatever is answered, nothing of it is a mistake of ours.
                let _ = watch(&AnyResponse::sample(key, version, &mut rng));
            }
        }
    }
    let want = [
        ApiKey::CreateTopics,
        ApiKey::DeleteTopics,
        ApiKey::CreatePartitions,
        ApiKey::DeleteRecords,
        ApiKey::DeleteGroups,
        ApiKey::OffsetDelete,
        ApiKey::AlterConfigs,
        ApiKey::IncrementalAlterConfigs,
        ApiKey::CreateAcls,
        ApiKey::DeleteAcls,
        ApiKey::AlterClientQuotas,
        ApiKey::AlterUserScramCredentials,
        ApiKey::ElectLeaders,
        ApiKey::AlterPartitionReassignments,
        ApiKey::AlterReplicaLogDirs,
        ApiKey::UpdateFeatures,
        ApiKey::UnregisterBroker,
        ApiKey::WriteTxnMarkers,
    ];
    assert_eq!(watched, BTreeSet::from(want));
}

#[test]
fn what_only_checks_changes_nothing() {
    let checks: [AnyRequest; 6] = [
        CreateTopicsRequest { validate_only: true, ..Default::default() }.into(),
        CreatePartitionsRequest { validate_only: true, ..Default::default() }.into(),
        AlterConfigsRequest { validate_only: true, ..Default::default() }.into(),
        IncrementalAlterConfigsRequest { validate_only: true, ..Default::default() }.into(),
        AlterClientQuotasRequest { validate_only: true, ..Default::default() }.into(),
        UpdateFeaturesRequest { validate_only: true, ..Default::default() }.into(),
    ];
    for check in checks {
        assert!(watch(&check).is_none(), "{check:?}");
    }
}

#[test]
fn values_are_told_of_settings_that_are_known_and_no_secrets() {
    let altered = |kind, name: &str| {
        let config = AlterableConfig {
            name: name.to_owned(),
            config_operation: 0,
            value: Some("canary".to_owned()),
        };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: "r".to_owned(),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let response = AlterConfigsResourceResponse {
            resource_type: kind,
            resource_name: "r".to_owned(),
            error_message: Some("canary is wrong".to_owned()),
            ..Default::default()
        };
        let answer = protocol::api::configs::IncrementalAlterConfigsResponse {
            responses: vec![response],
            throttle_time_ms: 0,
        };
        changes(request, answer).remove(0).change
    };
    assert_eq!(altered(Resource::TOPIC, "retention.ms"), "set retention.ms=canary");
    assert_eq!(altered(Resource::BROKER, "log.retention.ms"), "set log.retention.ms=canary");
    for def in BrokerConfig::DEFS.iter().filter(|def| def.is_sensitive()) {
        assert_eq!(altered(Resource::BROKER, def.name), format!("set {}=***", def.name));
    }
    for (kind, name) in [
        (Resource::BROKER, "listener.name.sasl_ssl.plain.sasl.jaas.config"),
        (Resource::TOPIC, "sasl.jaas.config"),
        (Resource::GROUP, "of.another.release"),
        (99, "retention.ms"),
    ] {
        assert_eq!(altered(kind, name), format!("set {name}=***"));
    }
}

#[test]
fn no_secret_and_no_words_of_an_answer_are_told() {
    let config = ReplacedConfig { name: "x".to_owned(), value: Some("canary".to_owned()) };
    let resource = ReplacedConfigsResource {
        resource_type: Resource::BROKER,
        resource_name: String::new(),
        configs: vec![config],
    };
    let replace = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = AlterConfigsResourceResponse {
        error_code: 40,
        error_message: Some("canary".to_owned()),
        resource_type: Resource::BROKER,
        resource_name: String::new(),
    };
    let answer = protocol::api::configs::AlterConfigsResponse {
        responses: vec![response],
        throttle_time_ms: 0,
    };
    let told = changes(replace, answer);
    assert_eq!(told[0].target.name, "<default>");
    assert!(!text(&told).contains("canary"), "{told:?}");

    let config =
        CreatableTopicConfig { name: "password".to_owned(), value: Some("canary".to_owned()) };
    let topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 3,
        replication_factor: 1,
        configs: vec![config],
        ..Default::default()
    };
    let result = CreatableTopicResult { name: "t".to_owned(), ..Default::default() };
    let told = changes(
        CreateTopicsRequest { topics: vec![topic], ..Default::default() },
        CreateTopicsResponse { topics: vec![result], throttle_time_ms: 0 },
    );
    assert_eq!(told[0].change, "partitions 3, replication factor 1, password=***");

    let upsertion = ScramCredentialUpsertion {
        name: "alice".to_owned(),
        mechanism: 1,
        iterations: 4096,
        salt: "canary".into(),
        salted_password: "canary".into(),
    };
    let told = changes(
        AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() },
        protocol::api::scram::AlterUserScramCredentialsResponse {
            results: vec![AlteredScramUser { user: "alice".to_owned(), ..Default::default() }],
            throttle_time_ms: 0,
        },
    );
    assert_eq!(told[0].change, "set SCRAM-SHA-256 of 4096 iterations");
}

#[test]
fn settings_of_a_listener_are_told_as_those_of_all_are() {
    let set = [
        ("listener.name.one.ssl.keystore.location", "/etc/one.pem", "/etc/one.pem"),
        ("ssl.keystore.location", "/etc/all.pem", "/etc/all.pem"),
        ("listener.name.one.ssl.keystore.key", "canary", "***"),
        ("listener.name.one.scram-sha-256.sasl.jaas.config", "canary", "***"),
        ("listener.name.one.nobody.knows", "canary", "***"),
    ];
    let configs = set.map(|(name, value, _)| AlterableConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..AlterableConfig::default()
    });
    let resource = AlterConfigsResource {
        resource_type: Resource::BROKER,
        resource_name: "1".to_owned(),
        configs: configs.to_vec(),
    };
    let body = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = AlterConfigsResourceResponse {
        resource_type: Resource::BROKER,
        resource_name: "1".to_owned(),
        ..AlterConfigsResourceResponse::default()
    };
    let answer = protocol::api::configs::IncrementalAlterConfigsResponse {
        responses: vec![response],
        ..Default::default()
    };
    let want = set.map(|(name, _, told)| format!("set {name}={told}")).join(", ");
    assert_eq!(changes(body, answer)[0].change, want);
}
