//! What requests of administrators change, told for the audit trail.
//!
//! A request that would change something is looked at before it is served, and again with its
//! answer: one [`Changed`] for each thing that it names, with what became of it. Passwords and their
//! salts are not told, nor values of settings unless the setting is known and no secret. What only
//! checks changes nothing. Each API that changes the cluster stands in one table. Pure.

use std::collections::BTreeMap;

use protocol::api::acls::{AclCreation, CreateAclsRequest};
use protocol::api::configs::{AlterConfigsRequest, IncrementalAlterConfigsRequest};
use protocol::api::elections::ElectLeadersRequest;
use protocol::api::features::UpdateFeaturesRequest;
use protocol::api::group_offsets::OffsetDeleteRequest;
use protocol::api::log_dirs::AlterReplicaLogDirsRequest;
use protocol::api::offsets::DeleteRecordsRequest;
use protocol::api::quotas::{AlterClientQuotasRequest, QuotaEntity};
use protocol::api::reassignments::AlterPartitionReassignmentsRequest;
use protocol::api::scram::AlterUserScramCredentialsRequest;
use protocol::api::topics::{CreatePartitionsRequest, CreateTopicsRequest};
use protocol::api::txn::WriteTxnMarkersRequest;
use protocol::api::{AnyRequest, AnyResponse};
use protocol::config::{ConfigDef, find};
use protocol::error_code::ErrorCode;

use crate::auth::Session;
use crate::auth::audit::{Event, Target};
use crate::config::{BrokerConfig, GroupConfig, TopicConfig};
use crate::controller::CLUSTER_NAME;
use crate::metadata::{AclOperation, PatternType, Permission, Resource, ResourceType};

const TOPIC: &str = "TOPIC";
const GROUP: &str = "GROUP";
const CLUSTER: &str = "CLUSTER";
const USER: &str = "USER";

/// Something that was changed, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    target: Target,
    change: String,
    /// An error code of the wire; 0: it was.
    code: i16,
}

impl Changed {
    fn new(kind: &str, name: impl Into<String>, operation: &str, code: i16) -> Self {
        let target =
            Target { kind: kind.to_owned(), name: name.into(), operation: operation.to_owned() };
        Self { target, change: String::new(), code }
    }

    fn with(self, change: Option<&String>) -> Self {
        Self { change: change.cloned().unwrap_or_default(), ..self }
    }

    /// As the audit trail has it.
    pub(super) fn event(self, session: &Session, api: &'static str) -> Event {
        let error = match self.code {
            0 => String::new(),
            code => format!("{:?}", ErrorCode::from_wire(code)),
        };
        Event::changed(session, api, self.target, self.change, error)
    }
}

/// What was changed, by the answer.
pub(super) type Watch = Box<dyn FnOnce(&AnyResponse) -> Vec<Changed> + Send>;

/// What of each thing is to be changed, by its name.
type Details<K = String> = BTreeMap<K, String>;

/// Makes a [`Watch`] of a closure over the answer of the API that is named.
macro_rules! watch {
    ($name:ident, $answered:expr) => {{
        let answered = $answered;
        let watch = move |response: &AnyResponse| match response {
            AnyResponse::$name(response) => answered(response),
            _ => Vec::new(),
        };
        let watch: Watch = Box::new(watch);
        Some(watch)
    }};
}

/// How to tell what a request changes. `None`: nothing.
pub(super) fn watch(body: &AnyRequest) -> Option<Watch> {
    use protocol::api as of;
    match body {
        AnyRequest::CreateTopics(body) if !body.validate_only => create_topics(body),
        AnyRequest::DeleteTopics(_) => {
            watch!(DeleteTopics, |answer: &of::topics::DeleteTopicsResponse| {
                let named = answer.responses.iter().map(|it| {
                    let name = it.name.clone().unwrap_or_else(|| it.topic_id.to_string());
                    Changed::new(TOPIC, name, "DELETE", it.error_code)
                });
                named.collect()
            })
        }
        AnyRequest::CreatePartitions(body) if !body.validate_only => create_partitions(body),
        AnyRequest::DeleteRecords(body) => delete_records(body),
        AnyRequest::DeleteGroups(_) => {
            watch!(DeleteGroups, |answer: &of::group::DeleteGroupsResponse| {
                let named = answer.results.iter();
                named
                    .map(|it| Changed::new(GROUP, &*it.group_id, "DELETE", it.error_code))
                    .collect()
            })
        }
        AnyRequest::OffsetDelete(body) => delete_offsets(body),
        AnyRequest::AlterConfigs(body) if !body.validate_only => replace_configs(body),
        AnyRequest::IncrementalAlterConfigs(body) if !body.validate_only => alter_configs(body),
        AnyRequest::CreateAcls(body) => create_acls(body),
        AnyRequest::DeleteAcls(_) => delete_acls(),
        AnyRequest::AlterClientQuotas(body) if !body.validate_only => alter_quotas(body),
        AnyRequest::AlterUserScramCredentials(body) => alter_credentials(body),
        AnyRequest::ElectLeaders(body) => elect_leaders(body),
        AnyRequest::AlterPartitionReassignments(body) => reassign(body),
        AnyRequest::AlterReplicaLogDirs(body) => move_replicas(body),
        AnyRequest::UpdateFeatures(body) if !body.validate_only => update_features(body),
        AnyRequest::UnregisterBroker(body) => {
            let id = body.broker_id.to_string();
            watch!(UnregisterBroker, |answer: &of::brokers::UnregisterBrokerResponse| {
                vec![Changed::new("BROKER", id, "ALTER", answer.error_code)]
            })
        }
        AnyRequest::WriteTxnMarkers(body) => write_markers(body),
        _ => None,
    }
}

/// The first of these codes that is an error; 0: none is.
fn first_error(codes: impl IntoIterator<Item = i16>) -> i16 {
    codes.into_iter().find(|code| *code != 0).unwrap_or(0)
}

/// Numbers as one word: `0,1,5`.
fn listed<T: ToString>(numbers: impl IntoIterator<Item = T>) -> String {
    numbers.into_iter().map(|it| it.to_string()).collect::<Vec<_>>().join(",")
}

/// What a setting of this name is. `None`: it is not known.
type Define = fn(&str) -> Option<&'static ConfigDef>;

fn of_topics(name: &str) -> Option<&'static ConfigDef> {
    find(TopicConfig::DEFS, name)
}

/// The value of a setting, or what stands for it.
fn told<'a>(define: Define, name: &str, value: Option<&'a str>) -> &'a str {
    let is_open = define(name).is_some_and(|def| !def.is_sensitive());
    match value {
        None => "null",
        Some(value) if is_open => value,
        Some(_) => "***",
    }
}

fn create_topics(body: &CreateTopicsRequest) -> Option<Watch> {
    let of_topic = |it: &protocol::api::topics::CreatableTopic| {
        let mut change = if it.assignments.is_empty() {
            format!(
                "partitions {}, replication factor {}",
                it.num_partitions, it.replication_factor
            )
        } else {
            format!("partitions {}, assigned", it.assignments.len())
        };
        for config in &it.configs {
            let value = told(of_topics, &config.name, config.value.as_deref());
            change.push_str(&format!(", {}={value}", config.name));
        }
        (it.name.clone(), change)
    };
    let details: Details = body.topics.iter().map(of_topic).collect();
    watch!(CreateTopics, move |answer: &protocol::api::topics::CreateTopicsResponse| {
        let changed = answer.topics.iter().map(|it| {
            Changed::new(TOPIC, &*it.name, "CREATE", it.error_code).with(details.get(&it.name))
        });
        changed.collect()
    })
}

fn create_partitions(body: &CreatePartitionsRequest) -> Option<Watch> {
    let topics = body.topics.iter();
    let details: Details =
        topics.map(|it| (it.name.clone(), format!("partitions {}", it.count))).collect();
    watch!(CreatePartitions, move |answer: &protocol::api::topics::CreatePartitionsResponse| {
        let changed = answer.results.iter().map(|it| {
            Changed::new(TOPIC, &*it.name, "ALTER", it.error_code).with(details.get(&it.name))
        });
        changed.collect()
    })
}

fn delete_records(body: &DeleteRecordsRequest) -> Option<Watch> {
    let of_topic = |it: &protocol::api::offsets::DeleteRecordsTopic| {
        let partitions = it.partitions.iter();
        let before = partitions.map(|it| format!("{} before {}", it.partition_index, it.offset));
        (it.name.clone(), format!("records of partitions {}", listed(before)))
    };
    let details: Details = body.topics.iter().map(of_topic).collect();
    watch!(DeleteRecords, move |answer: &protocol::api::offsets::DeleteRecordsResponse| {
        let changed = answer.topics.iter().map(|it| {
            let code = first_error(it.partitions.iter().map(|it| it.error_code));
            Changed::new(TOPIC, &*it.name, "DELETE", code).with(details.get(&it.name))
        });
        changed.collect()
    })
}

fn delete_offsets(body: &OffsetDeleteRequest) -> Option<Watch> {
    let group = body.group_id.clone();
    watch!(OffsetDelete, move |answer: &protocol::api::group_offsets::OffsetDeleteResponse| {
        if answer.error_code != 0 {
            return vec![Changed::new(GROUP, group, "DELETE", answer.error_code)];
        }
        let changed = answer.topics.iter().map(|it| {
            let code = first_error(it.partitions.iter().map(|it| it.error_code));
            let partitions = listed(it.partitions.iter().map(|it| it.partition_index));
            let change = format!("offsets of {}, partitions {partitions}", it.name);
            Changed::new(GROUP, &*group, "DELETE", code).with(Some(&change))
        });
        changed.collect()
    })
}

/// What a resource with settings is called, and which settings it can have.
fn configurable(kind: i8) -> (&'static str, Define) {
    match kind {
        Resource::TOPIC => (TOPIC, of_topics),
        Resource::GROUP => (GROUP, |name| find(GroupConfig::DEFS, name)),
        // Those of single listeners, too.
        Resource::BROKER => ("BROKER", BrokerConfig::definition),
        _ => ("UNKNOWN", |_| None),
    }
}

/// An empty name stands for all brokers.
fn config_name(kind: i8, name: &str) -> &str {
    if kind == Resource::BROKER && name.is_empty() { "<default>" } else { name }
}

fn configs_changed(
    details: &Details<(i8, String)>,
    answers: &[protocol::api::configs::AlterConfigsResourceResponse],
) -> Vec<Changed> {
    let changed = answers.iter().map(|it| {
        let (kind, _) = configurable(it.resource_type);
        let name = config_name(it.resource_type, &it.resource_name);
        let detail = details.get(&(it.resource_type, it.resource_name.clone()));
        Changed::new(kind, name, "ALTER_CONFIGS", it.error_code).with(detail)
    });
    changed.collect()
}

fn replace_configs(body: &AlterConfigsRequest) -> Option<Watch> {
    let of_resource = |it: &protocol::api::configs::ReplacedConfigsResource| {
        let (_, define) = configurable(it.resource_type);
        let set = it.configs.iter().map(|config| {
            format!("{}={}", config.name, told(define, &config.name, config.value.as_deref()))
        });
        let change = format!("replace all by {}", set.collect::<Vec<_>>().join(", "));
        ((it.resource_type, it.resource_name.clone()), change)
    };
    let details: Details<_> = body.resources.iter().map(of_resource).collect();
    watch!(AlterConfigs, move |answer: &protocol::api::configs::AlterConfigsResponse| {
        configs_changed(&details, &answer.responses)
    })
}

fn alter_configs(body: &IncrementalAlterConfigsRequest) -> Option<Watch> {
    let of_resource = |it: &protocol::api::configs::AlterConfigsResource| {
        let (_, define) = configurable(it.resource_type);
        let altered = it.configs.iter().map(|config| {
            let value = told(define, &config.name, config.value.as_deref());
            match config.config_operation {
                0 => format!("set {}={value}", config.name),
                1 => format!("delete {}", config.name),
                2 => format!("append {}={value}", config.name),
                3 => format!("subtract {}={value}", config.name),
                other => format!("{other} {}", config.name),
            }
        });
        ((it.resource_type, it.resource_name.clone()), altered.collect::<Vec<_>>().join(", "))
    };
    let details: Details<_> = body.resources.iter().map(of_resource).collect();
    watch!(
        IncrementalAlterConfigs,
        move |answer: &protocol::api::configs::IncrementalAlterConfigsResponse| {
            configs_changed(&details, &answer.responses)
        }
    )
}

/// What an entry of access control lists says.
fn entry(pattern: i8, principal: &str, host: &str, operation: i8, permission: i8) -> String {
    let permission = Permission::from_wire(permission).map_or("?".to_owned(), |it| it.to_string());
    let operation = AclOperation::from_wire(operation).map_or("?".to_owned(), |it| it.to_string());
    let pattern = PatternType::from_wire(pattern).map_or("?".to_owned(), |it| it.to_string());
    format!("{permission} {principal} from {host}: {operation}, {pattern}")
}

fn resource(number: i8) -> String {
    ResourceType::from_wire(number).map_or("UNKNOWN".to_owned(), |it| it.to_string())
}

fn create_acls(body: &CreateAclsRequest) -> Option<Watch> {
    let creations: Vec<AclCreation> = body.creations.clone();
    watch!(CreateAcls, move |answer: &protocol::api::acls::CreateAclsResponse| {
        let changed = creations.iter().zip(&answer.results).map(|(acl, result)| {
            let (kind, pattern) = (resource(acl.resource_type), acl.resource_pattern_type);
            let AclCreation { principal, host, operation, permission_type, .. } = acl;
            let change =
                format!("add {}", entry(pattern, principal, host, *operation, *permission_type));
            Changed::new(&kind, &*acl.resource_name, "ALTER", result.error_code).with(Some(&change))
        });
        changed.collect()
    })
}

fn delete_acls() -> Option<Watch> {
    watch!(DeleteAcls, |answer: &protocol::api::acls::DeleteAclsResponse| {
        let of_filter = |filter: &protocol::api::acls::DeleteAclsFilterResult| {
            if filter.error_code != 0 {
                return vec![Changed::new(CLUSTER, CLUSTER_NAME, "ALTER", filter.error_code)];
            }
            let removed = filter.matching_acls.iter().map(|acl| {
                let entry = entry(
                    acl.pattern_type,
                    &acl.principal,
                    &acl.host,
                    acl.operation,
                    acl.permission_type,
                );
                let change = format!("remove {entry}");
                Changed::new(
                    &resource(acl.resource_type),
                    &*acl.resource_name,
                    "ALTER",
                    acl.error_code,
                )
                .with(Some(&change))
            });
            removed.collect()
        };
        answer.filter_results.iter().flat_map(of_filter).collect()
    })
}

fn entity(parts: &[QuotaEntity]) -> String {
    let part = |it: &QuotaEntity| {
        format!("{}={}", it.entity_type, it.entity_name.as_deref().unwrap_or("<default>"))
    };
    listed(parts.iter().map(part))
}

fn alter_quotas(body: &AlterClientQuotasRequest) -> Option<Watch> {
    let of_entry = |it: &protocol::api::quotas::AlterQuotaEntry| {
        let ops = it.ops.iter().map(|op| match op.remove {
            true => format!("remove {}", op.key),
            false => format!("set {}={}", op.key, op.value),
        });
        (entity(&it.entity), ops.collect::<Vec<_>>().join(", "))
    };
    let details: Details = body.entries.iter().map(of_entry).collect();
    watch!(AlterClientQuotas, move |answer: &protocol::api::quotas::AlterClientQuotasResponse| {
        let changed = answer.entries.iter().map(|it| {
            let name = entity(&it.entity);
            let detail = details.get(&name);
            Changed::new("QUOTA", &*name, "ALTER_CONFIGS", it.error_code).with(detail)
        });
        changed.collect()
    })
}

/// Passwords come salted; not even so are they told.
fn alter_credentials(body: &AlterUserScramCredentialsRequest) -> Option<Watch> {
    let mechanism = |number: i8| match number {
        1 => "SCRAM-SHA-256".to_owned(),
        2 => "SCRAM-SHA-512".to_owned(),
        other => other.to_string(),
    };
    let mut details = BTreeMap::<String, Vec<String>>::new();
    for it in &body.deletions {
        let change = format!("remove {}", mechanism(it.mechanism));
        details.entry(it.name.clone()).or_default().push(change);
    }
    for it in &body.upsertions {
        let change = format!("set {} of {} iterations", mechanism(it.mechanism), it.iterations);
        details.entry(it.name.clone()).or_default().push(change);
    }
    watch!(
        AlterUserScramCredentials,
        move |answer: &protocol::api::scram::AlterUserScramCredentialsResponse| {
            let changed = answer.results.iter().map(|it| {
                let change = details.get(&it.user).map(|changes| changes.join(", "));
                Changed::new(USER, &*it.user, "ALTER", it.error_code).with(change.as_ref())
            });
            changed.collect()
        }
    )
}

fn elect_leaders(body: &ElectLeadersRequest) -> Option<Watch> {
    let kind = if body.election_type == 0 { "preferred" } else { "unclean" };
    watch!(ElectLeaders, move |answer: &protocol::api::elections::ElectLeadersResponse| {
        if answer.replica_election_results.is_empty() {
            let change = format!("{kind} leaders of all partitions");
            let all = Changed::new(CLUSTER, CLUSTER_NAME, "ALTER", answer.error_code);
            return vec![all.with(Some(&change))];
        }
        let changed = answer.replica_election_results.iter().map(|it| {
            let codes = it.partition_result.iter().map(|it| it.error_code);
            let code = first_error([answer.error_code].into_iter().chain(codes));
            let partitions = listed(it.partition_result.iter().map(|it| it.partition_id));
            let change = format!("{kind} leaders of partitions {partitions}");
            Changed::new(TOPIC, &*it.topic, "ALTER", code).with(Some(&change))
        });
        changed.collect()
    })
}

fn reassign(body: &AlterPartitionReassignmentsRequest) -> Option<Watch> {
    let of_topic = |it: &protocol::api::reassignments::ReassignableTopic| {
        let of_partition = |it: &protocol::api::reassignments::ReassignablePartition| {
            let replicas = it.replicas.as_ref().map_or("cancelled".to_owned(), listed);
            format!("{} to {replicas}", it.partition_index)
        };
        let partitions: Vec<_> = it.partitions.iter().map(of_partition).collect();
        (it.name.clone(), format!("replicas of partitions {}", partitions.join("; ")))
    };
    let details: Details = body.topics.iter().map(of_topic).collect();
    watch!(
        AlterPartitionReassignments,
        move |answer: &protocol::api::reassignments::AlterPartitionReassignmentsResponse| {
            let changed = details.iter().map(|(name, change)| {
                let own = answer.responses.iter().filter(|it| it.name == *name);
                let codes = own.flat_map(|it| &it.partitions).map(|it| it.error_code);
                let code = first_error([answer.error_code].into_iter().chain(codes));
                Changed::new(TOPIC, &**name, "ALTER", code).with(Some(change))
            });
            changed.collect()
        }
    )
}

fn move_replicas(body: &AlterReplicaLogDirsRequest) -> Option<Watch> {
    let mut details = BTreeMap::<String, Vec<String>>::new();
    for dir in &body.dirs {
        for topic in &dir.topics {
            let change = format!("partitions {} to {}", listed(&topic.partitions), dir.path);
            details.entry(topic.name.clone()).or_default().push(change);
        }
    }
    watch!(
        AlterReplicaLogDirs,
        move |answer: &protocol::api::log_dirs::AlterReplicaLogDirsResponse| {
            let changed = answer.results.iter().map(|it| {
                let code = first_error(it.partitions.iter().map(|it| it.error_code));
                let change = details.get(&it.topic_name).map(|changes| changes.join("; "));
                Changed::new(TOPIC, &*it.topic_name, "ALTER", code).with(change.as_ref())
            });
            changed.collect()
        }
    )
}

fn update_features(body: &UpdateFeaturesRequest) -> Option<Watch> {
    let updates = body.feature_updates.iter();
    let details: Details =
        updates.map(|it| (it.feature.clone(), format!("level {}", it.max_version_level))).collect();
    watch!(UpdateFeatures, move |answer: &protocol::api::features::UpdateFeaturesResponse| {
        let changed = details.iter().map(|(feature, change)| {
            let own = answer.results.iter().find(|it| it.feature == *feature);
            let code = first_error([answer.error_code, own.map_or(0, |it| it.error_code)]);
            Changed::new("FEATURE", &**feature, "ALTER", code).with(Some(change))
        });
        changed.collect()
    })
}

fn write_markers(body: &WriteTxnMarkersRequest) -> Option<Watch> {
    let ends = body.markers.iter().map(|it| {
        let end = if it.transaction_result { "commit" } else { "abort" };
        format!("{end} producer {} epoch {}", it.producer_id, it.producer_epoch)
    });
    let ends: Vec<String> = ends.collect();
    watch!(WriteTxnMarkers, move |answer: &protocol::api::txn::WriteTxnMarkersResponse| {
        let of_marker = |(end, marker): (&String, &protocol::api::txn::WritableTxnMarkerResult)| {
            let changed = marker.topics.iter().map(|it| {
                let code = first_error(it.partitions.iter().map(|it| it.error_code));
                let partitions = listed(it.partitions.iter().map(|it| it.partition_index));
                let change = format!("{end}, partitions {partitions}");
                let action = AclOperation::ClusterAction.to_string();
                Changed::new(TOPIC, &*it.name, &action, code).with(Some(&change))
            });
            changed.collect::<Vec<_>>()
        };
        ends.iter().zip(&answer.markers).flat_map(of_marker).collect()
    })
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
