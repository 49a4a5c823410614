//! Creates the internal topics of an application, once, whoever of its instances comes first.
//!
//! What is needed is planned elsewhere; here the cluster is asked and told. A topic that another
//! instance creates at the same moment is as good as created by us. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::admin::{Admin, NewTopic};
use client::error::RequestError;
use protocol::error_code::ErrorCode;

use super::error::AppError;
use super::plan::{Missing, plan};
use crate::topology::Topology;

/// Sees to it that all topics exist that the application needs; gives the number of tasks of each
/// sub-topology.
///
/// # Errors
/// `Topics` if the topology does not fit the topics that exist.
pub(super) async fn ensure(
    admin: &Admin,
    topology: &Topology,
    app: &str,
    replication_factor: Option<i16>,
) -> Result<Vec<i32>, AppError> {
    let existing = existing(admin, topology, app).await?;
    let plan = plan(topology, app, &existing).map_err(AppError::Topics)?;
    let wanted: Vec<NewTopic> =
        plan.create.iter().map(|topic| new_topic(topic, replication_factor)).collect();
    if !wanted.is_empty() {
        for (_, created) in admin.create_topics(&wanted).await? {
            match created {
                Err(error) if error.error_code() == Some(ErrorCode::TopicAlreadyExists) => {}
                created => created?,
            }
        }
    }
    Ok(plan.task_counts)
}

fn new_topic(missing: &Missing, replication_factor: Option<i16>) -> NewTopic {
    let topic = NewTopic::new(&*missing.name, missing.partition_count);
    let topic =
        missing.settings.iter().fold(topic, |topic, (name, value)| topic.config(*name, *value));
    match replication_factor {
        Some(replicas) => topic.replication_factor(replicas),
        None => topic,
    }
}

/// The topics of the topology that exist, with their numbers of partitions.
async fn existing(
    admin: &Admin,
    topology: &Topology,
    app: &str,
) -> Result<BTreeMap<Arc<str>, i32>, RequestError> {
    let read = topology.subtopologies().iter().flat_map(|part| part.inputs.iter());
    let kept = topology.subtopologies().iter().flat_map(|part| part.changelogs.iter());
    let names: Vec<Arc<str>> =
        read.chain(kept).map(|topic| topology.topic(*topic).full_name(app)).collect();
    let asked: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut existing = BTreeMap::new();
    for (name, described) in admin.describe_topics(&asked).await? {
        match described {
            Ok(topic) => {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                existing.insert(Arc::from(name), count);
            }
            Err(error) if error.error_code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(existing)
}
